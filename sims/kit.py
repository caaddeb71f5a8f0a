"""Print test vectors for devices in other languages: `python -m sims.kit > docs/kit/vectors.json`.

What a device has after unpacking a version and a package, and the scores and the list that it must
come to. docs/kit/README.md explains every key; docs/kit/device.js passes them.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from common.ranking import top_items
from common.versions.version import Manifest
from common.vicinal.neighborhood import Neighborhood
from common.vicinal.settings import VicinalSettings, preset
from common.vicinal.tuning import tuned_scores
from server.model_store import ModelStore
from server.recommending.recommender import Recommender
from sims.evaluation.experiment import Experiment, prepare
from sims.progress import quiet

FORMAT: Final = 1
LIST_LENGTH: Final = 10
# Of numbers in single precision, which is all that a device has.
DIGITS: Final = 9


@dataclass(frozen=True)
class Case:
    """A model and settings, and the users whose answers are told."""

    name: str
    model: str
    settings: VicinalSettings
    users: tuple[int, ...]


def cases(users: tuple[int, ...]) -> tuple[Case, ...]:
    """Presets vicinal, more steps, the paper's objective by curvature, and what shows less."""
    mf, ease = preset("vicinal", model="mf", neighbors=8), preset("vicinal", model="ease")
    return (
        Case("mf, preset vicinal", "mf", mf, users),
        Case("mf, three steps, α = 0.2", "mf", replace(mf, steps=3, unrated_weight=0.2), users),
        Case("mf, α = 0, every item", "mf", replace(
            mf, unrated_weight=0.0, assumed_fakes=0.0, proximal_weight=0.0), users),
        Case("mf, short rows without vectors", "mf", replace(mf, row_cap=6, fold_in=True), users),
        Case("ease, preset vicinal", "ease", replace(ease, neighbors=12), users),
    )  # fmt: skip


def vectors(dataset: str, users: tuple[int, ...]) -> dict[str, Any]:
    """Of a data set, trained under an attack as a server would have it."""
    with TemporaryDirectory() as folder:
        return {"format": FORMAT, "cases": list(_cases(dataset, users, Path(folder)))}


def _cases(dataset: str, users: tuple[int, ...], folder: Path) -> Iterator[dict[str, Any]]:
    for case in cases(users):
        prepared = prepare(Experiment(dataset, case.model, "average", 0, None))
        recommender = prepared.train(ModelStore(folder), clean=False, robust=None, progress=quiet)
        assert isinstance(recommender, Recommender)
        yield case_of(recommender, case)


def case_of(recommender: Recommender, case: Case) -> dict[str, Any]:
    """A model version, and what its device is given and comes to, user by user."""
    version = recommender.version
    return {
        "name": case.name,
        "manifest": _manifest(version.manifest),
        "settings": {
            "steps": case.settings.steps,
            "unrated_weight": case.settings.unrated_weight,
            "proximal_weight": case.settings.proximal_weight,
            "only_supported": case.settings.only_supported,
            "fold_in": case.settings.fold_in,
        },
        "parameters": {name: _rows(table) for name, table in version.parameters.items()},
        "answers": [_answer(recommender, case, user) for user in case.users],
    }


def _manifest(manifest: Manifest) -> dict[str, Any]:
    names = ("model", "users", "items", "width", "minimum", "maximum", "step")
    return {name: getattr(manifest, name) for name in names}


def _answer(recommender: Recommender, case: Case, user: int) -> dict[str, Any]:
    neighborhood = recommender.neighborhood(user, case.settings)
    scores = tuned_scores(recommender.version.served, neighborhood, case.settings)
    rated = recommender.ratings.items_of(user)
    return {
        **_package(neighborhood),
        "rated": rated.tolist(),
        "scores": _rows(scores),
        "list": top_items(scores, rated, LIST_LENGTH).tolist(),
    }


def _package(neighborhood: Neighborhood) -> dict[str, Any]:
    ratings = neighborhood.ratings
    rows = [ratings.rows([row]) for row in range(ratings.user_count)]
    return {
        "rows": [{"items": one.items.tolist(), "ratings": _rows(one.ratings)} for one in rows],
        "vectors": _rows(neighborhood.user_parameters["user_embedding"])
        if neighborhood.user_parameters
        else None,
    }


def _rows(table: Any) -> Any:
    """Lists of numbers that single precision reads back alike."""
    if table.ndim > 1:
        return [_rows(row) for row in table]
    return [float(f"{value:.{DIGITS}g}") for value in table.tolist()]


if __name__ == "__main__":
    sys.stdout.write(json.dumps(vectors("synthetic:90x60", (0, 17, 42)), separators=(",", ":")))
    sys.stdout.write("\n")
