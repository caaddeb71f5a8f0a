"""`vicinal.picture`: an evaluation or a model, drawn for a notebook or a file."""

import io
from pathlib import Path
from typing import final

from matplotlib.figure import Figure

from common.errors import InputError
from common.files import write_file
from sims.api.model import Model
from sims.evaluation.report import Evaluation
from sims.figures.bars import bars
from sims.figures.embedding import laid_out

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
        write_file(Path(path), self.png)


def picture(drawn: Evaluation | Model, *, dpi: int = DPI) -> Picture:
    """A drawing of an evaluation or a model.

    drawn  an evaluation: bars of hit ratio and accuracy, before the attack, after it, defended; a
           model: where its users lie in the embedding (t-SNE), fakes marked, as in the paper's
           Figure 1
    dpi    dots per inch

    Raises InputError for anything else, and for a model of too few users to lay out.
    """
    if isinstance(drawn, Evaluation):
        told = drawn.to_json()
        title = (
            f"{told['dataset']} · {told['model']} · attack {told['attack']} · "
            f"defense {told['defense']} · seed {told['seed']}"
        )
        shown = {
            "clean": "clean",
            "undefended": "undefended",
            "defended": "defended_paper" if told["preset"] == "paper" else "defended_vicinal",
            "popularity": "popularity",
        }
        hits, right = (
            {name: told[metric][condition] for condition, name in shown.items()}
            for metric in ("hit_ratio", "accuracy")
        )
        return _drawn(title, bars(hits, right, title=title, list_length=told["list_length"]), dpi)
    if isinstance(drawn, Model):
        title = f"{drawn.data.name} · {drawn.name}"
        real = drawn.data.ratings.user_count
        return _drawn(title, laid_out(drawn.embeddings(), real, title=title), dpi)
    raise InputError(f"picture: of an Evaluation or a Model, not of a {type(drawn).__name__}")


def _drawn(title: str, figure: Figure, dpi: int) -> Picture:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return Picture(title, buffer.getvalue())
