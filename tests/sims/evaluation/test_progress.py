"""An evaluation says what it is at: a line an epoch of every training, and every baseline."""

import io
from itertools import count
from pathlib import Path

import pytest
from rich.console import Console

from sims.evaluation.study import Study, evaluate
from sims.progress import BETWEEN_LINES, _lines


@pytest.mark.parametrize("defense", ["none", "rvd", "pca+rmf"])
@pytest.mark.parametrize("model", ["mf", "nsvd", "autorec", "cdae", "ials", "bpr", "lightgcn"])
def test_slow_epochs_have_a_line_each(model: str, defense: str, tmp_path: Path) -> None:
    if "rmf" in defense and model != "mf":
        pytest.skip("rmf trains mf only")
    written = io.StringIO()
    # As if every step took as long as a line waits for.
    clock = count(step=BETWEEN_LINES)
    report = _lines(Console(file=written, width=80), lambda: float(next(clock)))
    study = Study(
        dataset="synthetic:40x60", model=model, defense=defense, users=3, baselines=("popularity",)
    )
    evaluate(study, tmp_path / "store", processes=1, progress=report)
    said = written.getvalue().splitlines()
    begun = [line.removesuffix(" …") for line in said if line.startswith("train")]
    trainings = {line for line in begun if ":" not in line}
    assert len(trainings) == len([line for line in begun if ":" not in line]) >= 2
    for name in trainings:
        lines = [line for line in said if line.startswith((f"{name} …", f"{name}:"))]
        total = len(lines) - 1
        told = [f"{name}: {done} of {total}" for done in range(1, total)]
        assert total > 1
        assert lines == [f"{name} …", *told, f"{name}: done ({total})"]
    assert said[-1] == "baseline popularity: done (1)"
