"""A fleet's settings, as far as there are users for them."""

import typer

from common.vicinal.settings import VicinalSettings, capped, capped_note
from sims.evaluation.cell import Cell
from sims.terminal import notes_wanted


def told_settings(cell: Cell, users: int) -> VicinalSettings:
    """Of a cell's defense; a line on stderr says where they are less than was asked for."""
    asked = cell.defense.settings(cell.settings)
    settings = capped(asked, users)
    if settings.neighbors != asked.neighbors and notes_wanted():
        typer.echo(capped_note(asked, settings), err=True)
    return settings
