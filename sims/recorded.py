"""How a result was made: the command that ran, and the versions of what ran it."""

import platform
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from common.processes import ROOT
from common.source import source_digest

# What numbers may hang on.
LIBRARIES: Final = ("vicinal", "numpy", "torch", "numba", "scipy", "implicit", "flwr")
# Folders of the code that numbers come from.
CODE: Final = ("common", "server", "client", "sims")
# Of a command that is kept.
MOST_LETTERS: Final = 4000
GIT_SECONDS: Final = 10


def command_line() -> str:
    """`vicinal …` as it was typed, with quotes where a shell needs them."""
    return shlex.join(["vicinal", *sys.argv[1:]])[:MOST_LETTERS]


def installed_versions() -> dict[str, str]:
    """Of vicinal, the libraries that are installed, Python and the system."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return {**found, "python": platform.python_version(), "system": platform.platform()}


@cache
def code_versions() -> dict[str, str]:
    """What counts may hang on, by name: the same on two machines that are to find the same.

    `code` is a digest of our own, which changes more often than its version.
    """
    found = {name: one for name, one in installed_versions().items() if name != "system"}
    code = source_digest(*(Path(ROOT, folder) for folder in CODE))
    return {**found, "code": code[:12]}


@cache
def commit() -> str:
    """Of the checkout that this file is of, with a + where something in it was changed.

    Empty where it was installed as a package, and without git.
    """

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(Path(__file__).resolve().parent), *words],
            capture_output=True,
            text=True,
            errors="replace",
            check=True,
            timeout=GIT_SECONDS,
        )
        return done.stdout.strip()

    try:
        # An installed file may lie in a checkout of something else.
        git("ls-files", "--error-unmatch", Path(__file__).name)
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return ""


def recorded() -> dict[str, Any]:
    """What a command adds to the JSON that it writes, under `run`."""
    return {
        "command": command_line(),
        "versions": installed_versions(),
        "git": commit(),
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def told(run: Any) -> tuple[str, dict[str, str]]:
    """The command and the versions of a `run` that was read: empty where it does not say them."""
    if not isinstance(run, dict):
        return "", {}
    command, versions = run.get("command"), run.get("versions")
    found = versions.items() if isinstance(versions, dict) else ()
    return command if isinstance(command, str) else "", {
        name: text for name, text in found if isinstance(text, str)
    }


# Keys of `run`.
KEYS: Final = {
    "run.command": "the command that wrote the file",
    "run.versions.NAME": "version of vicinal, Python, a library or the system, by name",
    "run.git": "commit of the checkout that ran, with a + where files in it were changed; empty "
    "where vicinal was installed",
    "run.made": "when, UTC",
}
