"""Who may import what, read from the source; what importing costs, seen in a fresh interpreter.

proto -> common -> {server, client} -> sims -> {benchmarks, tests}; server and client never meet.
Inside a folder rooms stand in rows, and a room imports from earlier rows alone.
"""

import ast
import importlib
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from sims.cli import COMMANDS

ROOT = Path(__file__).resolve().parents[1]

# For each folder: the folders that it may import, and the third-party packages; None is any.
FOLDERS: dict[str, set[str]] = {
    "proto": set(),
    "common": {"common"},
    "server": {"common", "server"},
    "client": {"common", "client"},
    "sims": {"common", "server", "client", "sims"},
    "benchmarks": {"common", "server", "client", "sims", "benchmarks"},
    # A file, not a folder: the front door, which nothing but tests imports.
    "vicinal": {"common", "server", "client", "sims"},
}
WIRE_LIBRARIES = {
    *("numpy", "google", "safetensors", "array_api_compat", "backports", "threadpoolctl", "nacl")
}
LIBRARIES: dict[str, set[str] | None] = {
    "proto": {"grpc_tools"},
    "common": WIRE_LIBRARIES,
    "server": None,
    "client": WIRE_LIBRARIES | {"grpc"},
    "sims": None,
    "benchmarks": None,
    "vicinal": None,
}
# The files that may import more than their folder does.
EXTRA_LIBRARIES = {
    f"client/{name}.py": {"flwr"} for name in ("flower_app", "flower_node", "flower_sums")
}

# The rooms of each folder, its modules among them: one row may import those above it.
ROOMS: dict[str, tuple[str, ...]] = {
    "common": (
        "errors memory pinning source text threads",
        "names files addresses processes tables ratings ranking",
        "models tls_files ids federated report_privacy",
        "vicinal",
        "versions",
        "wire",
    ),
    "server": (
        "sqlite_file kept_loops",
        "sql",
        "data reports model_store baselines",
        "training recommending",
        "importing federated",
        "growing",
        "versions",
        "preparing workers",
        "metrics_port",
        "metrics",
        "trust",
        "cluster",
        "front fleet",
        "gateway",
        "flower_app",
    ),
    "client": (
        "budget federated release",
        "device disclosure link",
        "stores",
        "answers fleet_answers",
        "session flower_sums",
        "flower_app flower_node run",
    ),
    "sims": (
        "terminal recorded",
        "processes load theory functions numbers rendering markdown_tables",
        "progress",
        "attacks",
        "federated",
        "evaluation",
        "grid fleet audit",
        "figures",
        "selection",
        "serving",
        "latency api reporting",
        "tracking",
        "commands",
        "cli",
        "reference kit",
    ),
    "benchmarks": (
        "cases report timing summary",
        "page serving",
        "tuning device bytes fleet scale",
    ),
}
MAX_LINES = 400

PUBLIC = {"server.baselines", "sims.attacks"}  # their __init__.py has a short public list

HEAVY = {"torch", "numba", "flwr", "faiss", "polars", "scipy", "ray", "matplotlib"}


def imported(source: str) -> set[str]:
    """What is imported, inside functions too: `a.b`, and for `from a import b` also `a`."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise AssertionError(f"line {node.lineno}: a relative import")
            names |= {f"{node.module}", *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif (
            isinstance(node, ast.Call)
            and ast.unparse(node.func) in {"__import__", "import_module", "importlib.import_module"}
            and node.args
            and isinstance(node.args[0], ast.Constant)
        ):
            names.add(str(node.args[0].value))
    return names


def imported_names(source: str) -> set[str]:
    """The first parts of all that is imported."""
    return {name.split(".")[0] for name in imported(source)}


def forbidden(path: str, source: str) -> set[str]:
    """What the file at `path` (below the root) imports and may not."""
    folder = path.split("/", maxsplit=1)[0].removesuffix(".py")
    names = imported_names(source) - sys.stdlib_module_names
    ours = names & {*FOLDERS, "tests", "vicinal"}
    wrong = ours - FOLDERS[folder]
    allowed = LIBRARIES[folder]
    if allowed is not None:
        extra = EXTRA_LIBRARIES.get(path, set())
        if path.startswith("common/wire/") and path.endswith("_pb2_grpc.py"):
            extra = {"grpc"}
        wrong |= names - ours - allowed - extra
    return wrong


def sources() -> Iterator[str]:
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix()
    if (ROOT / "vicinal.py").exists():
        yield "vicinal.py"


def upward(path: str, source: str) -> set[str]:
    """The rooms of its own folder that the file at `path` imports and may not."""
    folder, room = path.removesuffix(".py").split("/")[:2]
    names = {tuple(name.split(".")[:2]) for name in imported(source)}
    others = {name[1] for name in names if len(name) > 1 and name[0] == folder} - {room}
    rows = [row.split() for row in ROOMS[folder]]
    (own,) = (at for at, row in enumerate(rows) if room in row)
    return others - {one for row in rows[:own] for one in row}


@pytest.mark.parametrize("path", list(sources()))
def test_imports_go_one_way(path: str) -> None:
    assert forbidden(path, (ROOT / path).read_text(encoding="utf-8")) == set()


@pytest.mark.parametrize(
    ("path", "source", "wrong"),
    [
        ("common/a.py", "import server.reports.tally", {"server"}),
        ("common/a.py", "import grpc", {"grpc"}),
        ("common/wire/a_pb2_grpc.py", "import grpc", set()),
        ("common/a.py", "def f():\n    from torch import nn", {"torch"}),
        ("server/a.py", "from client.rank import top", {"client"}),
        ("server/a.py", "import torch, numpy", set()),
        ("client/a.py", "import flwr.client", {"flwr"}),
        ("client/flower_app.py", "import flwr.client", set()),
        ("client/a.py", "import importlib\nimportlib.import_module('torch.nn')", {"torch"}),
        ("sims/a.py", "import tests.conftest", {"tests"}),
        ("sims/a.py", "import benchmarks.cases", {"benchmarks"}),
        ("sims/a.py", "import server, client, common, ray", set()),
        ("proto/a.py", "import common", {"common"}),
        ("sims/a.py", "import vicinal", {"vicinal"}),
    ],
)
def test_a_wrong_import_is_seen(path: str, source: str, wrong: set[str]) -> None:
    assert forbidden(path, source) == wrong


@pytest.mark.parametrize("folder", ROOMS)
def test_every_room_stands_in_one_row(folder: str) -> None:
    rooms = {
        path.stem if path.is_file() else path.name
        for path in (ROOT / folder).iterdir()
        if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    listed = " ".join(ROOMS[folder]).split()
    assert len(listed) == len(set(listed))
    assert rooms - {"__init__"} == set(listed)


@pytest.mark.parametrize("path", [path for path in sources() if path.split("/")[0] in ROOMS])
def test_a_room_imports_from_rows_above(path: str) -> None:
    if path.count("/") > 1 or not path.endswith("/__init__.py"):
        assert upward(path, (ROOT / path).read_text(encoding="utf-8")) == set()


@pytest.mark.parametrize(
    ("path", "source", "wrong"),
    [
        ("server/trust/gate.py", "from server.front.endpoint import SERVICE_NAME", {"front"}),
        ("server/front/run.py", "import server.trust.gate, server.front.service", set()),
        ("server/workers/worker.py", "def f():\n    from server import fleet", {"fleet"}),
        ("server/metrics.py", "from server.front import run", {"front"}),
        ("common/errors.py", "import common.names", {"names"}),
        ("sims/load/http2.py", "from sims.load import network", set()),
    ],
)
def test_a_wrong_room_is_seen(path: str, source: str, wrong: set[str]) -> None:
    assert upward(path, source) == wrong


def circle(modules: dict[str, set[str]]) -> list[str]:
    """The modules of one import circle; none where there is none."""
    try:
        TopologicalSorter(modules).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_no_import_circle() -> None:
    files = [
        *sources(),
        *(path.relative_to(ROOT).as_posix() for path in ROOT.glob("tests/**/*.py")),
    ]
    names = {
        path.removesuffix(".py").removesuffix("/__init__").replace("/", "."): path for path in files
    }
    modules = {
        name: (imported((ROOT / path).read_text(encoding="utf-8")) & names.keys()) - {name}
        for name, path in names.items()
    }
    assert circle(modules) == []
    assert set(circle({"a": {"b"}, "b": {"c"}, "c": {"b"}})) == {"b", "c"}


def test_no_module_is_a_hall() -> None:
    lines = {
        path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8").count("\n")
        for folder in (*ROOMS, "proto", "tests")
        for path in (ROOT / folder).rglob("*.py")
        if "_pb2" not in path.name
    }
    assert {path: count for path, count in lines.items() if count > MAX_LINES} == {}


def test_no_process_is_forked_to_begin_another() -> None:
    """As a preexec_fn makes Python do: a fork of gRPC's threads may die before it is a program."""
    assert [
        path.relative_to(ROOT).as_posix()
        for folder in (*ROOMS, "proto", "tests")
        for path in (ROOT / folder).rglob("*.py")
        if re.search(r"\bpreexec_fn\s*=", path.read_text(encoding="utf-8"))
    ] == []


def loaded_by(modules: list[str]) -> set[str]:
    """Top-level names in sys.modules after importing `modules` in a fresh interpreter."""
    code = f"import {', '.join(modules)}, sys; print(*{{m.split('.')[0] for m in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def modules_of(folder: str, *, without: tuple[str, ...] = ()) -> list[str]:
    paths = (ROOT / folder).rglob("*.py")
    names = (".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths)
    return sorted(name.removesuffix(".__init__") for name in names if name not in without)


def test_a_device_loads_nothing_heavy() -> None:
    # Run, not imported: it loads the empty packages of the other folders.
    modules = modules_of("common", without=("common.pinning",))
    modules += modules_of(
        "client", without=("client.flower_app", "client.flower_node", "client.flower_sums")
    )
    assert loaded_by(modules) & (HEAVY | {"server", "sims", "typer", "rich"}) == set()


def test_the_devices_command_loads_nothing_heavy() -> None:
    modules = ["sims.cli", "sims.commands.device", "sims.commands.device_report", "client.run"]
    assert loaded_by(modules) & (HEAVY | {"server", "pydantic"}) == set()


def third_party(path: str) -> set[str]:
    """What a file and all that it imports of ours needs, inside functions too."""
    needed: set[str] = set()
    files, seen = [path], {path}
    while files:
        for name in imported((ROOT / files.pop()).read_text(encoding="utf-8")):
            if name.split(".")[0] not in FOLDERS:
                needed.add(name.split(".")[0])
                continue
            stem = name.replace(".", "/")
            for file in (f"{stem}.py", f"{stem}/__init__.py"):
                if (ROOT / file).exists() and file not in seen:
                    seen.add(file)
                    files.append(file)
    return needed - sys.stdlib_module_names


def extra(name: str) -> set[str]:
    """Import names of an extra of pyproject.toml and of what is always there."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted, distributions = [*project["dependencies"]], set()
    queue = [name]
    while queue:
        entries = project["optional-dependencies"][queue.pop()]
        queue += [entry[8:-1] for entry in entries if entry.startswith("vicinal[")]
        wanted += entries
    for entry in wanted:
        distributions.add(re.split(r"[^A-Za-z0-9.-]", entry)[0].rstrip("<>="))
    return {IMPORT_NAMES.get(one, one.replace("-", "_")) for one in distributions}


# Where a distribution is not named after what one imports.
IMPORT_NAMES = {
    "backports.zstd": "backports",
    "faiss-cpu": "faiss",
    "grpcio": "grpc",
    "grpcio-health-checking": "grpc_health",
    "protobuf": "google",
    "pyjwt": "jwt",
    "pynacl": "nacl",
}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_needs_only_what_its_extra_installs(command: str) -> None:
    path = COMMANDS[command].module.replace(".", "/") + ".py"
    needed = third_party(path) | third_party("sims/cli.py")
    assert needed - extra(COMMANDS[command].extra) == set()


def test_a_device_needs_only_what_the_extra_device_installs() -> None:
    for path in sources():
        if path.startswith(("client/", "common/")) and path not in EXTRA_LIBRARIES:
            assert third_party(path) - extra("device") == set(), path
    assert third_party("sims/commands/device_report.py") - extra("device") == set()


def test_what_answers_a_request_loads_no_training() -> None:
    modules = ["server.workers.worker", "server.front.run", "server.versions.catalog"]
    # numba searches neighbors by ratings, and brings scipy.
    assert loaded_by(modules) & (HEAVY | {"sims", "pydantic"}) == {"faiss", "numba", "scipy"}


def test_what_listens_loads_no_search() -> None:
    assert loaded_by(["sims.serving.listening"]) & HEAVY == set()


def test_the_command_line_loads_nothing_heavy() -> None:
    assert loaded_by(["sims.cli"]) & (HEAVY | {"numpy", "grpc", "server", "client"}) == set()


def packages() -> list[str]:
    """Folders with an __init__.py, as import names."""
    folders = (path.parent for folder in FOLDERS for path in (ROOT / folder).rglob("__init__.py"))
    return sorted(".".join(folder.relative_to(ROOT).parts) for folder in folders)


@pytest.mark.parametrize("package", packages())
def test_a_package_is_empty_or_a_list_of_names(package: str) -> None:
    if package not in PUBLIC:
        assert (ROOT / package.replace(".", "/") / "__init__.py").read_text() == ""
        return
    module = importlib.import_module(package)
    assert [name for name in module.__all__ if not hasattr(module, name)] == []
