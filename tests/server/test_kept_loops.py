"""Loops that were compiled here are found by a copy of the code, and by nothing else."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from server.kept_loops import environment

SOURCE = """
import numba

@numba.njit(cache=True)
def double(number):
    return 2 * number
"""
COUNT = "from rooms import loops; loops.double(4); print(loops.double.stats.cache_hits)"


def copied(folder: Path) -> Path:
    """A package with a loop, and what finds loops."""
    (folder / "rooms").mkdir(parents=True)
    (folder / "rooms" / "__init__.py").touch()
    (folder / "rooms" / "loops.py").write_text(SOURCE)
    (folder / "server").mkdir()
    (folder / "server" / "__init__.py").touch()
    shutil.copy(Path(str(sys.modules["server.kept_loops"].__file__)), folder / "server")
    return folder


def hits(copy: Path, sources: Path) -> int:
    done = subprocess.run(
        [sys.executable, "-c", COUNT],
        cwd=copy,
        env={**os.environ, **environment(sources), "PYTHONPATH": str(copy)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return sum(int(word) for word in done.stdout.replace("}", " ").split() if word.isdigit())


@pytest.mark.slow
def test_a_copy_takes_what_the_original_has_compiled(tmp_path: Path) -> None:
    sources, first, second = (copied(tmp_path / name) for name in ("sources", "first", "second"))
    assert hits(first, sources) == 0
    assert hits(second, sources) == 1
    assert not (second / "rooms" / "__pycache__" / "loops.double-4.py311.nbi").exists()
    # Other code has its own.
    changed = second / "rooms" / "loops.py"
    changed.write_text(SOURCE.replace("2 *", "3 *"))
    assert hits(second, sources) == 0
    assert hits(first, tmp_path / "nowhere") == 0
