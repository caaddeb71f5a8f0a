"""Results of a grid by hand, for tests of what comes after one."""

from pathlib import Path
from typing import Any

from sims.grid.results import CELLS, CellResult, write_result

CONDITIONS = ("clean", "clean_defended", "undefended", "defended", "popularity")
# What format 1 did not keep.
SINCE_2: dict[str, Any] = {
    "attack_options": {},
    "min_support": 1,
    "step_rule": "curvature",
    "learning_rate": 0.0,
    "proximal_weight": 0.0,
}


def result(**changed: Any) -> CellResult:
    """A cell; `hit_ratio` and `accuracy` may be one number for all conditions."""
    fields: dict[str, Any] = {
        "format": 3,
        "dataset": "ml-100k",
        "model": "mf",
        "attack": "aush",
        "defense": "rvd",
        "preset": "paper",
        "seed": 0,
        "k": 12,
        "unrated_weight": 0.0,
        "steps": 25,
        "list_length": 50,
        "attack_size": 0.03,
        **SINCE_2,
        "users": 10,
        "hit_ratio": 0.01,
        "accuracy": 0.3,
        "seconds": {"per_user_p50": 0.01},
        **changed,
    }
    for metric in ("hit_ratio", "accuracy"):
        if isinstance(fields[metric], int | float):
            fields[metric] = dict.fromkeys(CONDITIONS, fields[metric])
    return CellResult.model_validate(fields)


def filled(folder: Path, results: list[CellResult]) -> Path:
    """A grid's folder with these cells."""
    for number, one in enumerate(results):
        write_result(folder / CELLS / f"{number}.json", one)
    return folder
