"""The app folder that Flower gets, and what is read from a run's log."""

import io
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from flwr.cli.build import build_fab_from_disk

from common.errors import InputError
from common.source import source_digest
from server.flower_app import CLIENT_SOURCE_DIGEST
from sims.fleet.flower import PACKAGES, failure, printable, stage_app

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:pathspec")
ROOT = Path(__file__).resolve().parents[3]


def test_flower_bundles_the_staged_app_whatever_the_checkout_is_called(tmp_path: Path) -> None:
    app = stage_app(ROOT, tmp_path / "vicinal-app")
    assert len(build_fab_from_disk(app)) < 2 << 20
    assert {path.name for path in app.iterdir()} == {"pyproject.toml", *PACKAGES}
    assert source_digest(app / "common", app / "client") == CLIENT_SOURCE_DIGEST
    project = tomllib.loads((app / "pyproject.toml").read_text())
    original = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["tool"]["flwr"]["app"]["config"] == original["tool"]["flwr"]["app"]["config"]


def test_flower_bundles_the_checkout_itself(tmp_path: Path) -> None:
    # As `flwr run <checkout>` does, which needs every pattern of fab-exclude to match a file.
    # Flower walks through all that is there before it reads .gitignore, so without .venv.
    ignored = shutil.ignore_patterns(
        ".git", ".venv", ".*_cache", "__pycache__", "runs", ".hypothesis"
    )
    checkout = shutil.copytree(ROOT, tmp_path / "vicinal", ignore=ignored)
    names = zipfile.ZipFile(io.BytesIO(build_fab_from_disk(checkout))).namelist()
    assert {
        "client/flower_app.py",
        "server/flower_app.py",
        "sims/fleet/app.py",
        "common/wire/fleet_pb2.py",
    } <= set(names)
    out = ("benchmarks/", "tests/", "docs/", "sims/commands/", "sims/cli.py")
    assert not [name for name in names if name.startswith(out)]


def test_the_staged_app_has_all_that_it_imports(tmp_path: Path) -> None:
    app = stage_app(ROOT, tmp_path / "vicinal-app")
    program = (
        "import importlib, pkgutil, sims.attacks, sims.evaluation.experiment, sims.fleet.app\n"
        "for each in pkgutil.iter_modules(sims.attacks.__path__):\n"
        "    importlib.import_module(f'sims.attacks.{each.name}')\n"
        "print(sims.fleet.app.__file__)"
    )
    # Without this checkout, which has the rest.
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=app,
        env={**os.environ, "PYTHONPATH": str(app)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()) == app / "sims" / "fleet" / "app.py"


def test_what_is_no_checkout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no pyproject.toml.*make install"):
        stage_app(tmp_path, tmp_path / "vicinal-app")


def test_the_reason_of_a_failed_run_is_found_in_its_log(tmp_path: Path) -> None:
    log = tmp_path / "flower.log"
    log.write_text(
        "INFO: Starting\n"
        "Traceback (most recent call last):\n"
        "common.errors.InputError: an earlier one\n"
        "common.errors.VicinalError: 1 of 12 replies missing: client 7\n"
        "more lines\n"
    )
    assert failure(log) == "1 of 12 replies missing: client 7"
    log.write_text("ValueError: something of Flower's own\n")
    assert failure(log) is None
    log.write_text("ValueError: ActorPool is empty. Stopping Simulation.\n")
    assert str(failure(log)).startswith("no client fits on this machine")


def test_a_log_has_no_characters_that_move_a_terminal() -> None:
    line = "\x1b[36m(Actor pid=7)\x1b[0m\tvicinal-progress\x1b[2K recommend 3/7\x07\r\n"
    assert printable(line) == "(Actor pid=7)   vicinal-progress recommend 3/7"
