"""`vicinal.picture`: an evaluation or a model, drawn for a notebook or a file."""

import io
from pathlib import Path
from typing import Any, final

from matplotlib.figure import Figure

from common.errors import InputError
from common.files import write_output
from sims.api.model import Model
from sims.evaluation.defenses import NO_DEFENSE, RVD
from sims.evaluation.report import Evaluation
from sims.figures.bars import before_and_after
from sims.figures.embedding import laid_out
from sims.figures.outcomes import (
    METRICS,
    REFERENCES,
    UNDEFENDED,
    Outcomes,
    Spread,
    defense_label,
)

DPI = 80


@final
class Picture:
    """A drawing; a notebook shows it."""

    def __init__(self, title: str, png: bytes) -> None:
        self.title, self.png = title, png

    def __repr__(self) -> str:
        return f"Picture({self.title}; PNG of {len(self.png)} bytes)"

    def _repr_png_(self) -> bytes:
        return self.png

    def write(self, path: str | Path) -> None:
        """Into a .png file. Raises InputError for another, and OSError."""
        if Path(path).suffix.lower() != ".png":
            raise InputError(f"{path}: name a file that ends in .png")
        write_output(Path(path), self.png)


def picture(drawn: Evaluation | Model, *, dpi: int = DPI) -> Picture:
    """A drawing of an evaluation or a model.

    drawn  an evaluation: bars of hit ratio and accuracy, before the attack, after it, defended; a
           model: where its users lie in the embedding (t-SNE), fakes marked, as in the paper's
           Figure 1
    dpi    dots per inch

    Raises InputError for anything else, and for a model of too few users to lay out.
    """
    if isinstance(drawn, Evaluation):
        outcomes = _outcomes(drawn.to_json())
        (attack,) = outcomes.attacks
        return _drawn(f"{outcomes.title} · attack {attack}", before_and_after(outcomes, None), dpi)
    if isinstance(drawn, Model):
        title = f"{drawn.data.name} · {drawn.name}"
        real = drawn.data.ratings.user_count
        return _drawn(title, laid_out(drawn.embeddings(), real, title=title, seed=0), dpi)
    raise InputError(f"picture: of an Evaluation or a Model, not of a {type(drawn).__name__}")


def _outcomes(told: dict[str, Any]) -> Outcomes:
    """What an evaluation gave, a row a condition."""
    defended = defense_label(
        told["defense"],
        told["preset"] if RVD in told["defense"] else "",
        told["k"],
        told["unrated_weight"],
        told["min_support"],
        told["neighbors_by"],
        told["assumed_fakes"],
    )
    rows = {**{condition: row for row, condition in REFERENCES.items()}, "undefended": UNDEFENDED}
    if told["defense"] != NO_DEFENSE:
        rows["defended"] = defended
    values = {
        (metric, row, told["attack"]): Spread(told[metric][condition])
        for metric in METRICS
        for condition, row in rows.items()
        # None where no item is watched.
        if told[metric][condition] is not None
    }
    users, seeds = f"{told['users']:,} users", (told["seed"],)
    return Outcomes(told["dataset"], told["model"], told["list_length"], users, seeds, values)


def _drawn(title: str, figure: Figure, dpi: int) -> Picture:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return Picture(title, buffer.getvalue())
