"""The figures of the paper's Tables 2–9, for printing beside ours.

A look-up gives None where the paper has no figure, or one that is a misprint: no reference.
"""

import tomllib
from functools import cache
from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

PATH: Final = Path(__file__).with_name("paper_tables.toml")
ATTACK_COUNT: Final = 7

Share = Annotated[float, Field(ge=0, le=1)]
Row = Annotated[list[Share], Field(min_length=ATTACK_COUNT, max_length=ATTACK_COUNT)]
# data set -> model -> defense -> one figure an attack
Rows = dict[str, dict[str, dict[str, Row]]]


class PaperTables(BaseModel):
    """What paper_tables.toml holds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    attacks: Annotated[list[str], Field(min_length=ATTACK_COUNT, max_length=ATTACK_COUNT)]
    k: dict[str, dict[str, int]]
    seconds: dict[str, dict[str, float]]
    misprints: dict[str, Rows]
    hit_ratio: Rows
    accuracy: Rows


@cache
def paper_tables() -> PaperTables:
    """All figures, read once."""
    return PaperTables.model_validate(tomllib.loads(PATH.read_text(encoding="utf-8")))


def hit_ratio(dataset: str, model: str, attack: str, defense: str) -> float | None:
    """HR@50 (yelp: @500) of Tables 3, 4, 7, 8; defense is none, apr, ltsmf, rmf or rvd."""
    return _figure(paper_tables().hit_ratio, dataset, model, attack, defense)


def accuracy(dataset: str, model: str, attack: str, defense: str) -> float | None:
    """Accuracy of Tables 5 and 9; defense is none (`before`) or rvd (`after`)."""
    return _figure(paper_tables().accuracy, dataset, model, attack, defense)


def k(dataset: str, model: str) -> int | None:
    """Neighbors, Table 2."""
    return paper_tables().k.get(dataset, {}).get(model)


def seconds(model: str, defense: str) -> float | None:
    """Seconds for one user's recommendation on yelp, Table 6."""
    return paper_tables().seconds.get(model, {}).get(defense)


def _figure(rows: Rows, dataset: str, model: str, attack: str, defense: str) -> float | None:
    row = rows.get(dataset, {}).get(model, {}).get(defense)
    attacks = paper_tables().attacks
    return None if row is None or attack not in attacks else row[attacks.index(attack)]
