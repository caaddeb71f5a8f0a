"""A folder of the user's with modules that are called as our packages are, and none in our way."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from common.processes import module_command
from sims.processes.children import Children
from tests.support.modules import ROOT

VICINAL: Final = [sys.executable, str(ROOT / "vicinal.py")]
NAMES: Final = ("common", "server", "client", "sims")
RAISES: Final = 'raise SystemError("not to be imported: " + __file__)\n'
DATASET: Final = "synthetic:90x120"
GRID: Final = f"""
datasets = ["{DATASET}"]
attacks = ["random"]
users = 20
[k.paper."{DATASET}"]
mf = 8
[k.vicinal."{DATASET}"]
mf = 9
"""
# Of the folder that a program runs in, first and by its full path; ours is last.
SHADOWED: Final = {
    "nothing": str(ROOT),
    "dot": f".{os.pathsep}{ROOT}",
    "full path": f"{{folder}}{os.pathsep}{ROOT}",
}


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """Modules and packages that raise when they are imported."""
    folder = tmp_path / "hostile"
    for name in ("server.py", "sims.py", "client/__init__.py", "common/__init__.py"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(RAISES)
    return folder


def run(
    folder: Path, *command: str | Path, path: str = SHADOWED["dot"]
) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": path.format(folder=folder), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        list(map(str, command)),
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def script(folder: Path, *lines: str, name: str = "script.py") -> subprocess.CompletedProcess[str]:
    (folder / name).write_text("\n".join(lines))
    return run(folder, sys.executable, name)


def test_such_a_folder_stands_in_the_way_of_what_is_not_pinned(hostile: Path) -> None:
    for name in NAMES:
        assert "not to be imported" in run(hostile, sys.executable, "-c", f"import {name}").stderr


@pytest.mark.parametrize("path", SHADOWED.values(), ids=list(SHADOWED))
@pytest.mark.parametrize("start", ["file", "module", "safe"])
def test_the_command_line_starts(hostile: Path, path: str, start: str) -> None:
    command = {
        "file": VICINAL,
        "module": [sys.executable, "-m", "vicinal"],
        "safe": [sys.executable, "-P", *VICINAL[1:]],
    }[start]
    done = run(hostile, *command, "--version", path=path)
    assert (done.returncode, done.stderr) == (0, "")
    described = run(hostile, *command, "data", "describe", DATASET, path=path)
    assert (described.returncode, described.stderr) == (0, ""), described.stdout


def test_a_script_in_such_a_folder_imports_ours(hostile: Path) -> None:
    done = script(
        hostile, "import vicinal, common.errors, server.metrics, client, sims", "print(sims)"
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert str(ROOT / "sims") in done.stdout


@pytest.mark.parametrize("start", ["script", "stdin", "module"])
def test_a_pool_of_processes_finds_ours(hostile: Path, start: str) -> None:
    """Also where the children cannot import the program: it came from stdin, or has no pin."""
    body = (
        "if __name__ == '__main__':\n"
        "    import vicinal\n"
        "    from sims.processes.pools import in_processes\n"
        "    from common.threads import limit_threads\n"
        "    in_processes(limit_threads, [(), ()], processes=2)\n"
        "    print('done')\n"
    )
    (hostile / "program.py").write_text(body)
    command = {
        "script": ["program.py"],
        "stdin": ["-c", body],
        "module": ["-m", "program"],
    }[start]
    done = run(hostile, sys.executable, *command)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


def test_a_module_of_ours_as_a_process_is_as_under_m(hostile: Path) -> None:
    (hostile / "numpy.py").write_text(RAISES)
    done = run(hostile, *module_command("sims.cli", "data", "describe", DATASET), path=str(ROOT))
    assert (done.returncode, done.stderr) == (0, "")
    wrong = run(hostile, *module_command("sims.cli", "nothing"), path=str(ROOT))
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)


# What the user's folder holds, a script in it, and what that prints.
PEACEFUL: Final = {
    "theirs before ours": (
        {"server.py": "def start(): return 'mine'\n"},
        ["import server", "import vicinal, server.metrics", "print(server.start())"],
    ),
    "theirs after ours": (
        {"server.py": "def start(): return 'mine'\n"},
        ["import vicinal, server.metrics, sims.cli", "from server import start", "print(start())"],
    ),
    "a package": (
        {"common/__init__.py": "name = 'mine'\n", "common/own.py": "from common import name\n"},
        ["import vicinal, common.errors", "from common import own", "print(own.name)"],
    ),
    "a package, before": (
        {"common/__init__.py": "", "common/own.py": "from .other import name\n"}
        | {"common/other.py": "name = 'mine'\n"},
        ["import common.own", "import vicinal, common.errors", "print(common.own.name)"],
    ),
    "a folder": (
        {"sims/own.py": "name = 'mine'\n"},
        ["import vicinal, sims.cli", "import sims.own", "print(sims.own.name)"],
    ),
    "a value that is set": (
        {"server.py": "name = 'yours'\ndef start(): return name\n"},
        ["import vicinal, server", "server.name += ''", "server.name = 'mine'"]
        + ["import server.metrics", "print(server.start())"],
    ),
    "what is pickled": (
        {"server.py": "class Mine:\n    name = 'mine'\n"},
        ["import pickle, server, vicinal, server.metrics"]
        + ["print(pickle.loads(pickle.dumps(server.Mine())).name)"],
    ),
}


@pytest.mark.parametrize("name", PEACEFUL)
def test_what_the_user_calls_so_is_still_theirs(tmp_path: Path, name: str) -> None:
    files, lines = PEACEFUL[name]
    for file, text in files.items():
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(text)
    done = script(tmp_path, *lines)
    assert (done.returncode, done.stdout) == (0, "mine\n"), done.stderr


def test_what_neither_has_is_missing_as_ever(tmp_path: Path) -> None:
    done = script(tmp_path, "import vicinal, server", "server.nothing")
    assert done.stderr.endswith("AttributeError: module 'server' has no attribute 'nothing'\n")
    done = script(tmp_path, "import vicinal, server", "import server.nothing")
    assert done.stderr.endswith("ModuleNotFoundError: No module named 'server.nothing'\n")


def test_a_submodule_that_is_loaded_under_a_name_of_ours_is_a_clash(tmp_path: Path) -> None:
    (tmp_path / "common").mkdir()
    for file in ("__init__.py", "errors.py"):
        (tmp_path / "common" / file).touch()
    done = script(tmp_path, "import common.errors", "import vicinal")
    assert done.returncode == 1
    mine = tmp_path / "common" / "errors.py"
    assert done.stderr.splitlines()[-1] == (
        "ImportError: vicinal has a module common.errors of its own, and "
        f"{mine} is loaded under that name: rename yours"
    )


def test_the_front_door_loads_no_library(tmp_path: Path) -> None:
    done = script(tmp_path, "import vicinal, sys", "print(*{m.split('.')[0] for m in sys.modules})")
    loaded = set(done.stdout.split())
    assert loaded - sys.stdlib_module_names - {"__mp_main__", "vicinal", *NAMES} <= site_modules()


def site_modules() -> set[str]:
    """What Python's start loads here before a program runs."""
    code = "import sys; print(*{m.split('.')[0] for m in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.slow
@pytest.mark.parametrize("path", SHADOWED.values(), ids=list(SHADOWED))
def test_evaluate_with_processes(hostile: Path, path: str) -> None:
    arguments = ("--dataset", DATASET, "--k", "8", "--users", "20", "--processes", "2")
    done = run(hostile, *VICINAL, "evaluate", *arguments, "--store", "store", path=path)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("path", SHADOWED.values(), ids=list(SHADOWED))
def test_grid(hostile: Path, path: str) -> None:
    (hostile / "grid.toml").write_text(GRID)
    arguments = ("--folder", "run", "--processes", "2")
    done = run(hostile, *VICINAL, "grid", "grid.toml", *arguments, path=path)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("path", ["dot", "full path"])
def test_simulate(hostile: Path, path: str) -> None:
    arguments = ("--dataset", DATASET, "--clients", "2", "--k", "8", "--store", "store")
    done = run(hostile, *VICINAL, "simulate", *arguments, path=SHADOWED[path])
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("path", ["dot", "full path"])
def test_serve_and_device(hostile: Path, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.chdir(hostile)
    monkeypatch.setenv("PYTHONPATH", SHADOWED[path].format(folder=hostile))
    port = hostile / "port"
    files = ("--store", "store", "--device-ratings", "ratings", "--port-file", str(port))
    with Children(hostile) as children:
        arguments = ("serve", "--open", "--dataset", DATASET, "--k", "8", "--port", "0", *files)
        server = children.start("sims.cli", *arguments, name="server", captured=False)
        server.until(port.exists, 120)
        at = ("--server", f"127.0.0.1:{port.read_text().strip()}", "--ratings", "ratings")
        users = ("--users", "0-3", "--processes", "2", "--store", "device")
        done = run(hostile, *VICINAL, "device", *at, *users, path=SHADOWED[path])
        assert done.returncode == 0, done.stderr
        assert server.stop() == 0, (hostile / "server.log").read_text()
