"""mf learned by client apps over a grid, beside the training in one process: the same bits."""

import io
import json
import tomllib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Message
from numpy.typing import NDArray

import client.flower_app
import sims.fleet.app
from common.errors import InputError, VicinalError
from common.wire.fleet import CONFIG, UPDATES, VECTORS
from server.data.synthetic import synthetic
from server.federated.settings import AGGREGATIONS, Federated
from server.flower_app import app as server_app
from sims.federated.model import Asked, FleetTraining, trained_here
from sims.federated.training import Stage, Trained
from sims.fleet.files import FleetFiles
from sims.fleet.learning import read_learned, read_learning, read_start, trainer, write_learning
from sims.fleet.resources import Resources
from sims.progress import quiet
from tests.support.fleets import serve
from tests.support.in_process_grid import Fault, InProcessGrid

CLIENTS = 5
USERS = 60
RATINGS = synthetic(USERS, 50, seed=2)


def asked(attack: str = "none", *, beside: bool = False, **changes: Any) -> Asked:
    """Of 60 users, the last 6 are fakes; with `beside`, 6 malicious clients are none of them."""
    usual: dict[str, Any] = {"rounds": 4, "clients": 30, "width": 6, "last_steps": 3}
    real = USERS if beside else USERS - 6
    options = {"rounds": 1} if attack.startswith("pieck") else {}
    settings = Federated(**{**usual, **changes})
    fleet = FleetTraining(settings, attack, options, malicious_share=0.1)
    malicious = range(real, real + 6) if attack != "none" else range(0)
    return Asked(fleet, RATINGS, real, (3, 7), 4, malicious)


def over_flower(
    folder: Path, what: Asked, faults: dict[int, Fault] | None = None, *, more: Sequence[int] = ()
) -> tuple[Trained, dict[str, Any], InProcessGrid]:
    files = write_learning(folder, what, CLIENTS)
    defaults = tomllib.loads(
        (Path(__file__).resolve().parents[3] / "pyproject.toml").read_text(encoding="utf-8")
    )["tool"]["flwr"]["app"]["config"]
    written = tomllib.loads(files.run_config.read_text(encoding="utf-8"))
    config = {**defaults, **written, "reply-timeout": 0.3}
    grid = InProcessGrid(client.flower_app.app, CLIENTS, config, faults)
    for node in more:
        grid.add(node, 2)
    serve(grid, config, sims.fleet.app.app)
    result = json.loads(files.result.read_bytes())
    assert result["run"] == files.run
    return read_learned(folder / "learned.safetensors", what), result, grid


def same(left: Trained, right: Trained) -> bool:
    return (
        left.items.tobytes() == right.items.tobytes()
        and left.users.tobytes() == right.users.tobytes()
    )


@pytest.mark.parametrize("rule", AGGREGATIONS)
def test_a_fleet_learns_what_one_process_learns(
    rule: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sims.fleet.app.SETTLED_SECONDS", 0.0)
    what = asked(aggregate=rule, steps=2)
    found, result, grid = over_flower(tmp_path, what)
    assert same(found, trained_here(what, quiet))
    assert result["lost"] == []
    # Ratings stay where they are, and so do vectors until the end.
    for reply in grid.replies:
        assert set(reply.content) <= {CONFIG, UPDATES, "metrics", VECTORS}
    settled = [reply for reply in grid.replies if VECTORS in reply.content]
    assert len(settled) == CLIENTS


@pytest.mark.parametrize(
    ("attack", "beside"),
    [("pieck-ipe", False), ("pieck-uea", True), ("fedrecattack", True), ("pipattack", False)],
)
def test_and_so_it_does_with_malicious_clients(
    attack: str, beside: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sims.fleet.app.SETTLED_SECONDS", 0.0)
    what = asked(attack, beside=beside, aggregate="median", unrated=0.0)
    found, _, grid = over_flower(tmp_path, what)
    assert same(found, trained_here(what, quiet))
    calm = asked(beside=beside, aggregate="median", unrated=0.0)
    assert not same(found, trained_here(calm, quiet))
    for message in grid.sent:
        config = message.content.config_records.get(CONFIG)
        if config is not None and message.metadata.message_type == "train.learn":
            assert not set(what.malicious) & set(config["users"])  # type: ignore[arg-type]


def test_a_round_goes_on_without_who_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sims.fleet.app.SETTLED_SECONDS", 0.0)

    def fails(message: Message, deliver: Any) -> Message | None:
        if message.metadata.message_type != "train.learn":
            return deliver(message)  # type: ignore[no-any-return]
        message.content.config_records[CONFIG]["users"] = [1]  # plays 2, 7, …
        return deliver(message)  # type: ignore[no-any-return]

    found, result, _ = over_flower(tmp_path, asked(), {1002: fails})
    assert not same(found, trained_here(asked(), quiet)) and len(result["lost"]) == 4
    assert "they are not of user 1" in result["lost"][0]


def test_who_runs_other_code_ends_nothing_where_another_plays_its_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sims.fleet.app.SETTLED_SECONDS", 0.0)

    def lies(message: Message, deliver: Any) -> Message | None:
        reply = deliver(message)
        if message.metadata.message_type == "query.partition":
            reply.content.config_records[CONFIG]["source"] = "0" * 64
        return reply  # type: ignore[no-any-return]

    told = "client 999 runs other code: start Flower from an empty folder"
    found, result, _ = over_flower(tmp_path / "a", asked(), {999: lies}, more=[999])
    assert same(found, trained_here(asked(), quiet))
    assert len(result["lost"]) == 1 and told in result["lost"][0]
    with pytest.raises(
        VicinalError, match=f"no client plays partition 2 of {CLIENTS}: client 1002 "
    ):
        over_flower(tmp_path / "b", asked(), {1002: lies})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("items", np.array([999], dtype=np.int64)),
        ("rows", np.full((1, 6), np.nan, dtype=np.float32)),
        ("users", np.array([0], dtype=np.int64)),
        ("counts", np.array([2], dtype=np.int64)),
        ("rows", np.zeros((1, 6))),
        ("rows", np.zeros((1, 5), dtype=np.float32)),
    ],
)
def test_what_is_no_update_is_refused(
    name: str, value: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sims.fleet.app.SETTLED_SECONDS", 0.0)

    def lies(message: Message, deliver: Any) -> Message | None:
        reply = deliver(message)
        if UPDATES in reply.content:
            record = reply.content.array_records[UPDATES]
            good = {
                "users": record["users"].numpy()[:1],
                "counts": np.array([1], dtype=np.int64),
                "items": np.array([3], dtype=np.int64),
                "rows": np.ones((1, 6), dtype=np.float32),
            }
            for key, array in {**good, name: value}.items():
                record[key] = Array(array)
        return reply  # type: ignore[no-any-return]

    _, result, _ = over_flower(tmp_path, asked(), {1002: lies})
    assert len(result["lost"]) == 4 and all("update: " in line for line in result["lost"])


def headed(header: bytes) -> bytes:
    return b"\x93NUMPY\x01\x00" + (len(header) + 1).to_bytes(2, "little") + header + b"\n"


def archive() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, items=np.zeros(1, dtype=np.int64))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        # More than any memory, what is no header, and what numpy reads and is no array.
        (
            headed(b"{'descr': '<i8', 'fortran_order': False, 'shape': (288230376151711744,)}"),
            "cannot be read",
        ),
        (headed(b"[[[["), "cannot be read"),
        (archive(), "cannot be read"),
    ],
)
def test_an_array_that_cannot_be_read_is_refused(
    data: bytes, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sims.fleet.app.SETTLED_SECONDS", 0.0)

    def lies(message: Message, deliver: Any) -> Message | None:
        reply = deliver(message)
        if UPDATES in reply.content:
            record = reply.content.array_records[UPDATES]
            record["items"] = Array("int64", (1,), "numpy.ndarray", data)
        return reply  # type: ignore[no-any-return]

    _, result, _ = over_flower(tmp_path, asked(), {1002: lies})
    assert len(result["lost"]) == 4 and all(says in line for line in result["lost"])


@pytest.mark.parametrize(
    ("user", "vector", "says"),
    [
        ("3", np.zeros(6, dtype=np.float32), "of a user who is not asked"),
        ("9" * 5000, np.zeros(6, dtype=np.float32), "of a user who is not asked"),
        ("2", np.zeros(6), "of a user is none"),
        ("2", np.zeros(5, dtype=np.float32), "of a user is none"),
        ("2", np.full(6, np.inf, dtype=np.float32), "of a user is none"),
    ],
)
def test_a_client_takes_vectors_of_the_users_who_are_asked_alone(
    user: str,
    vector: NDArray[Any],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sims.fleet.app.SETTLED_SECONDS", 0.0)

    def lies(message: Message, deliver: Any) -> Message | None:
        if message.metadata.message_type == "train.learn":
            message.content[VECTORS] = ArrayRecord({user: Array(vector)})
        return deliver(message)  # type: ignore[no-any-return]

    # All of its users are asked in each round.
    _, result, grid = over_flower(tmp_path, asked(clients=USERS), {1002: lies})
    assert len(result["lost"]) == 4 and all(says in line for line in result["lost"])
    assert VECTORS not in grid.contexts[1002].state


def test_a_client_cannot_speak_for_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sims.fleet.app.SETTLED_SECONDS", 0.0)

    def lies(message: Message, deliver: Any) -> Message | None:
        reply = deliver(message)
        if VECTORS in reply.content:
            record = reply.content.array_records[VECTORS]
            record["users"] = Array(record["users"].numpy() + 1)
        return reply  # type: ignore[no-any-return]

    with pytest.raises(
        VicinalError, match=r"the vector of user 2 did not come.*none of this client"
    ):
        over_flower(tmp_path, asked(), {1002: lies})


def test_a_fleet_that_lacks_a_client_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sims.fleet.app.SETTLED_SECONDS", 0.0)
    with pytest.raises(VicinalError, match="no client plays partition 2 of 5"):
        over_flower(tmp_path, asked(), {1002: lambda _message, _deliver: None})
    assert "no client plays" in json.loads((tmp_path / "result.json").read_bytes())["error"]
    with pytest.raises(VicinalError, match="the fleet trained nothing"):
        read_learned(tmp_path / "learned.safetensors", asked())
    (tmp_path / "learning.json").write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match="no training in a fleet"):
        read_learning(tmp_path / "learning.json")
    with pytest.raises(InputError, match="61 clients for 60 users"):
        write_learning(tmp_path, asked(), 61)


def test_without_a_seed_clients_draw_by_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contexts = [
        InProcessGrid(client.flower_app.app, 1, {"learning-seed": seed}).contexts[1000]
        for seed in (-1, -1, 3, 3)
    ]
    drawn = [client.flower_app._draws(context, 4, 0, 1).random() for context in contexts]
    assert drawn[0] != drawn[1] and drawn[2] == drawn[3]
    assert server_app is not sims.fleet.app.app


def test_a_model_that_lacks_updates_is_not_taken_for_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(files: FleetFiles, clients: int, *_more: object) -> Path:
        lost = ["client 7: error 2: ValueError: gone"]
        result = {"run": files.run, "clients": clients, "lost": lost}
        files.result.write_text(json.dumps(result), encoding="utf-8")
        return tmp_path / "flower.log"

    monkeypatch.setattr("sims.fleet.learning.run_app", told)
    train = trainer(tmp_path / "fleet", resources=Resources.of(1, 1), clients=CLIENTS)
    with pytest.raises(VicinalError, match="were lost, 1 of them, as client 7"):
        train(asked(), quiet)


def test_a_training_goes_on_from_its_own_start_alone(tmp_path: Path) -> None:
    what = asked()
    before = trained_here(what, quiet)
    stage = Stage((0, 2, 5), before, rounds=4)
    write_learning(tmp_path, replace(what, stage=stage), CLIENTS)
    learning = read_learning(tmp_path / "learning.json")
    found = read_start(tmp_path / "start.safetensors", learning)
    assert (found.digest, found.present) == (stage.digest, stage.present)
    for wrong in (
        Stage((0, 60)),
        Stage((5, 2)),
        Stage((0,), Trained(before.items[:-1], before.users)),
        Stage((0,), Trained(before.items, before.users[:, :-1])),
    ):
        write_learning(tmp_path, replace(what, stage=wrong), CLIENTS)
        with pytest.raises(InputError, match="it is of another training"):
            read_start(tmp_path / "start.safetensors", learning)
    (tmp_path / "start.safetensors").write_bytes(b"")
    with pytest.raises(InputError):
        read_start(tmp_path / "start.safetensors", learning)
