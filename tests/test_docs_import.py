"""The page on models that run already: its programs and commands, as they stand there."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from common.processes import module_command

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "how-to" / "import.md"
DATASET = "synthetic:80x120"


def blocks(title: str, language: str) -> list[str]:
    """The blocks of a section, which ends at the next heading outside of a block."""
    text = PAGE.read_text(encoding="utf-8").split(f"# {title}\n")[1]
    found = []
    for part in re.finditer(r"^```(\w*)\n(.*?)^```|^#+ ", text, flags=re.MULTILINE | re.DOTALL):
        if part[0].startswith("#"):
            break
        if part[1] == language:
            found.append(part[2])
    return found


def program(title: str, folder: Path, name: str) -> None:
    (code,) = blocks(title, "python")
    (folder / name).write_text(code, encoding="utf-8")


def run(folder: Path, *command: str) -> str:
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_lines(folder: Path, title: str) -> list[str]:
    """What each shell line of a section prints."""
    told = []
    for line in "".join(blocks(title, "")).splitlines():
        words = shlex.split(line)
        if words[0] == "vicinal":
            command = module_command("sims.cli", *words[1:])
        else:
            assert words[0] == "python"
            command = [sys.executable, *words[1:]]
        told.append(run(folder, *command))
    return told


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    command = module_command("sims.cli", "model", "ratings", "--dataset", DATASET)
    run(tmp_path, *command, "-o", "plain.csv")
    # With ids that are text, as a program's own are.
    head, *rows = (tmp_path / "plain.csv").read_text().splitlines()
    (tmp_path / "ratings.csv").write_text("\n".join([head, *(f"u{row}" for row in rows)]) + "\n")
    return tmp_path


@pytest.mark.slow
def test_a_model_of_implicit_is_imported_and_measured_under_attack(folder: Path) -> None:
    program("implicit", folder, "train_implicit.py")
    told = run_lines(folder, "implicit")[-1]
    assert told.startswith("imported:als  32 factors, 80 users × ")
    table = run_lines(folder, "Measure it under attack")[-1]
    assert "imported:als" in table and "was trained on other ratings" not in table


@pytest.mark.slow
def test_a_model_of_lenskit_is_imported(folder: Path) -> None:
    pytest.importorskip("lenskit")
    program("LensKit", folder, "train_lenskit.py")
    mean = run(folder, sys.executable, "train_lenskit.py", "ratings.csv").strip()
    (block,) = blocks("LensKit", "")
    (line,) = (line for line in block.splitlines() if line.startswith("vicinal"))
    command = module_command("sims.cli", *shlex.split(line.replace("$MEAN", mean))[1:])
    assert run(folder, *command).startswith("imported:lenskit  34 factors, 80 users × ")
