"""A node that answers soon: how long it waits, and whose code its processes run."""

import importlib
import subprocess
import sys
import threading
import time
from pathlib import Path

import flwr.supernode.start_client_internal as node
import pytest
from flwr.proto.message_pb2 import ObjectTree
from flwr.supercore.inflatable.inflatable_utils import ObjectUnavailableError
from hypothesis import given
from hypothesis import strategies as st

from client import flower_node
from client.flower_node import LONGEST_WAIT, SHORTEST_WAIT, NodeClock, Patience, look_soon

ROOT = Path(__file__).resolve().parents[2]


@given(st.integers(0, 200))
def test_waits_grow_with_what_was_waited_already(times: int) -> None:
    patience = Patience()
    waits = [patience.next_wait() for _ in range(times + 1)]
    assert waits[0] == SHORTEST_WAIT
    assert waits == sorted(waits) and waits[-1] <= LONGEST_WAIT
    # Nobody waits much longer than a quarter of the time that has passed, or than at first.
    assert waits[-1] <= SHORTEST_WAIT + 0.26 * sum(waits[:-1])
    patience.needed()
    assert patience.next_wait() == SHORTEST_WAIT


def test_a_node_that_is_never_needed_waits_as_flower_does() -> None:
    patience = Patience()
    assert [patience.next_wait() for _ in range(100)][-1] == LONGEST_WAIT


def test_a_node_sleeps_no_longer_than_it_was_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    clock = NodeClock(Patience())
    for seconds in (3, 3, 3, 0.5, 3, 0.001):
        clock.sleep(seconds)
    assert slept[0] < slept[1] < slept[2]
    assert slept[3:] == [SHORTEST_WAIT, SHORTEST_WAIT, 0.001]


def test_flowers_node_uses_no_more_of_its_clock_than_there_is() -> None:
    source = Path(str(node.__file__)).read_text(encoding="utf-8")
    used = {word.split("(")[0] for word in source.split("time.")[1:]}
    assert {name for name in used if hasattr(time, name)} == {"sleep"}
    assert "time.sleep(3)" in source and "time.sleep(0.5)" in source


@pytest.mark.parametrize(
    ("module", "pull"),
    [
        ("flwr.supernode.start_client_internal", "pull_objects"),
        ("flwr.supernode.runtime.run_clientapp", "pull_and_inflate_object_from_tree"),
    ],
)
def test_objects_under_way_are_asked_for_again_soon(
    module: str, pull: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    flower = importlib.import_module(module)
    # What is left is as it was before the test.
    monkeypatch.setattr(flower, pull, getattr(flower, pull))
    look_soon(flower, pull)
    waits: list[float] = []

    def wait(_event: threading.Event, timeout: float | None = None) -> bool:
        if timeout is not None:
            waits.append(timeout)
        return False

    monkeypatch.setattr(threading.Event, "wait", wait)
    thrice = iter([ObjectUnavailableError("a"), ObjectUnavailableError("a"), None])

    def pulled(_name: str) -> bytes:
        if (error := next(thrice)) is not None:
            raise error
        return b"there"

    if pull == "pull_objects":
        assert getattr(flower, pull)(["a"], pulled) == {"a": b"there"}
    else:
        # What was pulled is no object of Flower's.
        with pytest.raises(ValueError, match="unpack"):
            getattr(flower, pull)(ObjectTree(object_id="a"), pulled, lambda _name: None)
    assert [round(each / SHORTEST_WAIT) for each in waits] == [1, 2]


def test_a_message_is_handled_by_the_apps_own_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As Flower does: the app's folder goes first on the path, and its module is imported.
    (tmp_path / "client").mkdir()
    (tmp_path / "client" / "__init__.py").write_text("")
    (tmp_path / "client" / "flower_app.py").write_text("app = 'the app’s own'\n")
    loaded: list[object] = []

    def run_clientapp(**given: object) -> None:
        monkeypatch.syspath_prepend(tmp_path)
        loaded.append(importlib.import_module("client.flower_app").app)
        loaded.append(given)

    for name in [name for name in sys.modules if name.partition(".")[0] in flower_node.OURS]:
        # Put back in the end.
        monkeypatch.setitem(sys.modules, name, sys.modules[name])
    import client.flower_app  # noqa: F401, PLC0415

    monkeypatch.setattr("flwr.supernode.runtime.run_clientapp.run_clientapp", run_clientapp)
    flower_node.handle("127.0.0.1:1", "token", None, 7)
    assert loaded[0] == "the app’s own"
    assert loaded[1] == {
        "runtime_api_address": "127.0.0.1:1",
        "token": "token",
        "insecure": True,
        "certificates": None,
        "parent_pid": 7,
        "runtime_dependency_install": False,
    }


@pytest.mark.slow
def test_the_options_are_flowers() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "client.flower_node", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert "--auth-supernode-private-key" in done.stdout
