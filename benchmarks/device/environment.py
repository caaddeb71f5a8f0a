"""A fresh environment with `vicinal[device]` and nothing else, as a device has it."""

import re
import shutil
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

from common.errors import VicinalError

ROOT = Path(__file__).resolve().parents[2]
# What a venv has before anything is installed.
BARE = ("pip", "setuptools", "pkg_resources", "_distutils_hack", "distutils-precedence")


def make_environment(folder: Path) -> Path:
    """Build this checkout's wheel and install its extra `device`; the environment's Python.

    Versions are those of requirements.lock; packages come from where pip is configured to look.
    Raises VicinalError.
    """
    wheel = _wheel(folder / "source", folder / "wheels")
    venv.create(folder / "venv", with_pip=True)
    python = folder / "venv" / "bin" / "python"
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    pins = [line.split()[0] for line in lock.splitlines() if re.match(r"[\w.-]+==", line)]
    # Without hashes, which our own wheel has none of.
    constraints = folder / "constraints.txt"
    constraints.write_text("\n".join(pins))
    _pip(python, "install", "--constraint", str(constraints), f"vicinal[device] @ {wheel.as_uri()}")
    return python


def installed_bytes(python: Path) -> dict[str, int]:
    """Bytes of files by top-level name below site-packages, largest first; without pip's own."""
    (packages,) = (python.parent.parent / "lib").glob("python3.*/site-packages")
    sizes: dict[str, int] = {}
    for path in packages.rglob("*"):
        top = path.relative_to(packages).parts[0]
        name = top.split("-")[0] if top.endswith(".dist-info") else top.split(".")[0]
        if path.is_file() and not top.startswith(BARE):
            sizes[name] = sizes.get(name, 0) + path.stat().st_size
    return dict(sorted(sizes.items(), key=lambda entry: -entry[1]))


def _wheel(source: Path, wheels: Path) -> Path:
    """Built from a copy, so that nothing is left in the checkout and nothing old gets in."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    source.mkdir(parents=True)
    included = project["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"]
    for name in ("pyproject.toml", "README.md", "LICENSE", *included):
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, source / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, source)
    python = Path(sys.executable)
    _pip(python, "wheel", "--no-deps", "--no-build-isolation", "-w", str(wheels), str(source))
    (wheel,) = wheels.glob("vicinal-*.whl")
    return wheel


def _pip(python: Path, *arguments: str) -> None:
    command = [str(python), "-m", "pip", "-q", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise VicinalError(f"pip {arguments[0]}: {last}")
