"""The server app against real client apps, over a grid in this process."""

import dataclasses
import json
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from flwr.app import Array, ArrayRecord, Context, Error, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity
from in_process_grid import Deliver, Fault, InProcessGrid

import client.flower_app
import server.flower_app
from client.device import answer
from common.errors import InputError, VicinalError
from common.ranking import Counts
from common.settings import VicinalSettings, preset
from common.wire import fleet_pb2 as wire
from common.wire.fleet import MODEL, PAYLOAD
from server.fleet import BATCH_BYTES
from server.flower_app import RunConfig
from server.model_store import ModelStore
from server.recommender import Recommender
from sims.experiment import Experiment, Prepared, prepare
from sims.fleet_files import FleetFiles, write_fleet_files

CLIENTS = 12
FAULTY = 1007
ROOT = Path(__file__).resolve().parent.parent
SETTINGS = {
    "paper": preset("paper"),
    "vicinal": preset("vicinal", neighbors=12, steps=4, min_support=2),
}


class Fleet(NamedTuple):
    prepared: Prepared
    recommender: Recommender


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    prepared = prepare(Experiment(dataset="synthetic:48x40", list_length=10))
    with ModelStore(tmp_path_factory.mktemp("store")) as store:
        return Fleet(prepared, prepared.train(store))


@pytest.fixture(autouse=True)
def task_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_task_id", "_run_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)


def write_files(
    folder: Path, fleet: Fleet, name: str = "vicinal", settings: VicinalSettings | None = None
) -> FleetFiles:
    return write_fleet_files(
        folder,
        fleet.recommender,
        fleet.prepared.local,
        clients=CLIENTS,
        preset=name,
        settings=settings or SETTINGS[name],
        watched=fleet.prepared.watched,
        list_length=10,
    )


def run_config(files: FleetFiles) -> dict[str, bool | float | int | str]:
    return tomllib.loads(files.run_config.read_text())


def run(
    files: FleetFiles,
    faults: dict[int, Fault] | None = None,
    changes: Mapping[str, float | str] | None = None,
) -> tuple[InProcessGrid, dict[str, Any]]:
    """Run the server app to its end, as Flower calls it; the grid and the result."""
    config = {**run_config(files), "reply-timeout": 0.3, **(changes or {})}
    grid = InProcessGrid(client.flower_app.app, CLIENTS, config, faults)
    context = Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config=config)
    server.flower_app.app(grid, context)
    return grid, json.loads(files.result.read_bytes())


def in_process(fleet: Fleet, settings: VicinalSettings) -> Counts:
    local, watched = fleet.prepared.local, fleet.prepared.watched
    counts = Counts.none(len(watched))
    for user in range(fleet.recommender.user_count):
        counts += answer(
            fleet.recommender.version,
            fleet.recommender.neighborhood(user, settings),
            settings,
            rated=local.train.items_of(user),
            held_out=local.held_out_of(user),
            watched=watched,
            list_length=10,
        ).counts
    return counts


@pytest.mark.parametrize("name", list(SETTINGS))
def test_a_fleet_counts_what_one_process_counts(name: str, fleet: Fleet, tmp_path: Path) -> None:
    _, result = run(write_files(tmp_path, fleet, name))
    expected = in_process(fleet, SETTINGS[name])
    assert expected.users == 48 and 0 < expected.user_hits < 48
    assert result["counts"] == json.loads(json.dumps(dataclasses.asdict(expected)))
    assert result["hit_ratio"] == expected.hit_ratio
    assert (result["clients"], result["users"]) == (CLIENTS, 48)


def test_the_model_travels_once_a_client_and_only_counts_come_back(
    fleet: Fleet, tmp_path: Path
) -> None:
    grid, _ = run(write_files(tmp_path, fleet))
    with_model = [m.metadata.dst_node_id for m in grid.sent if MODEL in m.content]
    assert sorted(with_model) == sorted(grid.contexts)
    answers = [r for r in grid.replies if r.metadata.message_type == "query.recommend"]
    assert len(answers) == CLIENTS
    for reply in grid.replies:
        assert list(reply.content) == [PAYLOAD]
        assert list(reply.content.config_records[PAYLOAD]) == [PAYLOAD]
    for reply in answers:
        answered = wire.Answered.FromString(payload(reply))
        assert {field.name for field, _ in answered.ListFields()} == {
            "source_digest",
            "version",
            "users",
            "counts",
        }


def test_large_neighborhoods_are_sent_in_several_messages(
    fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.fleet.BATCH_BYTES", 1_500)
    monkeypatch.setattr("server.fleet.WAVE_BYTES", 6_000)
    grid, result = run(write_files(tmp_path, fleet))
    batches = [m for m in grid.sent if m.metadata.message_type == "query.recommend"]
    assert len(batches) > CLIENTS
    assert max(len(payload(m)) for m in batches) < BATCH_BYTES / 10
    assert result["hit_ratio"] == in_process(fleet, SETTINGS["vicinal"]).hit_ratio


def payload(message: Message) -> bytes:
    value = message.content.config_records[PAYLOAD][PAYLOAD]
    assert isinstance(value, bytes)
    return value


def lose(message: Message, deliver: Deliver) -> None:
    deliver(message)


def forget_the_model(message: Message, deliver: Deliver) -> Message | None:
    if message.metadata.message_type == "query.recommend":
        message.metadata.__dict__["_message_type"] = "query.unheard_of"
    return deliver(message)


def flip_a_bit(message: Message, deliver: Deliver) -> Message | None:
    if MODEL in message.content:
        array = message.content.array_records[MODEL][MODEL]
        data = bytearray(array.data)
        data[-5] ^= 1
        tampered = Array(array.dtype, array.shape, array.stype, bytes(data))
        # The array is shared by all clients' messages; only this one's is tampered with.
        message.content[MODEL] = ArrayRecord({MODEL: tampered})
    return deliver(message)


def run_other_code(message: Message, deliver: Deliver) -> Message | None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client.flower_app, "SOURCE_DIGEST", "0" * 64)
        return deliver(message)


def answer_for_fewer(message: Message, deliver: Deliver) -> Message | None:
    reply = deliver(message)
    if reply is not None and message.metadata.message_type == "query.recommend":
        answered = wire.Answered.FromString(payload(reply))
        answered.users -= 1
        reply.content.config_records[PAYLOAD][PAYLOAD] = answered.SerializeToString()
    return reply


def count_too_many(message: Message, deliver: Deliver) -> Message | None:
    reply = deliver(message)
    if reply is not None and message.metadata.message_type == "query.recommend":
        answered = wire.Answered.FromString(payload(reply))
        answered.counts.eligible[0] = answered.counts.hits[0] = 49
        reply.content.config_records[PAYLOAD][PAYLOAD] = answered.SerializeToString()
    return reply


def reply_with_noise(message: Message, deliver: Deliver) -> Message | None:
    reply = deliver(message)
    if reply is not None:
        reply.content.config_records[PAYLOAD][PAYLOAD] = b"\xff\xff"
    return reply


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (lose, f"1 of 12 replies missing: client {FAULTY}: no reply in 0.3 s"),
        (forget_the_model, f"client {FAULTY}: error 2: .*unheard_of"),
        (flip_a_bit, f"client {FAULTY}: error 2: .*damaged or truncated"),
        (run_other_code, f"client {FAULTY} runs other code"),
        (answer_for_fewer, f"client {FAULTY} answered something that it was not asked"),
        (count_too_many, r"impossible counts: Counts\(eligible=\(49,"),
        (reply_with_noise, "not a Installed"),
    ],
)
def test_one_bad_client_of_twelve_ends_the_run(
    fault: Fault, says: str, fleet: Fleet, tmp_path: Path
) -> None:
    files = write_files(tmp_path, fleet)
    with pytest.raises(VicinalError, match=says):
        run(files, {FAULTY: fault})
    assert not files.result.exists()


def test_the_reason_is_found_in_a_traceback(fleet: Fleet, tmp_path: Path) -> None:
    def fail_as_ray_does(message: Message, deliver: Deliver) -> Message:
        reason = (
            "<class 'ray.exceptions.RayTaskError(ClientAppException)'>:<'ray::Actor.run()\n"
            '  File "device.py", line 3, in answer\n'
            "common.errors.InputError: no battery\n\n"
            "The above exception was the direct cause of the following exception:\n\n"
            "flwr.clientapp.client_app.ClientAppException: \n"
            "Exception ClientAppException occurred. Message: no battery'>"
        )
        return Message(Error(code=2, reason=reason), reply_to=message)

    with pytest.raises(VicinalError, match=r"error 2: common\.errors\.InputError: no battery$"):
        run(write_files(tmp_path, fleet), {FAULTY: fail_as_ray_does})


def test_a_fleet_that_is_too_small_is_not_served(fleet: Fleet, tmp_path: Path) -> None:
    with pytest.raises(VicinalError, match="12 of 13 clients are connected"):
        run(write_files(tmp_path, fleet), changes={"clients": 13})
    with pytest.raises(VicinalError, match="12 clients are connected, not 11"):
        run(write_files(tmp_path, fleet), changes={"clients": 11})


def test_two_clients_with_one_partition_are_seen(fleet: Fleet, tmp_path: Path) -> None:
    def play_another(message: Message, deliver: Deliver) -> Message | None:
        grid.contexts[FAULTY].node_config["partition-id"] = 3
        return deliver(message)

    config = {**run_config(write_files(tmp_path, fleet)), "reply-timeout": 0.3}
    grid = InProcessGrid(client.flower_app.app, CLIENTS, config, {FAULTY: play_another})
    context = Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config=config)
    with pytest.raises(VicinalError, match="two clients play partition 3"):
        server.flower_app.app(grid, context)


def swap_devices(folder: Path) -> None:
    first, second = (folder / "devices" / f"{p}-of-{CLIENTS}.safetensors" for p in (0, 1))
    second.write_bytes(first.read_bytes())


def remove_devices(folder: Path) -> None:
    (folder / "devices" / f"5-of-{CLIENTS}.safetensors").unlink()


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (swap_devices, "client 1001: .*not the ones that the server trained on"),
        (remove_devices, "client 1005: .*5-of-12.safetensors: cannot be read"),
    ],
)
def test_a_client_with_wrong_ratings_says_so(
    damage: Callable[[Path], None], says: str, fleet: Fleet, tmp_path: Path
) -> None:
    files = write_files(tmp_path, fleet)
    damage(tmp_path)
    with pytest.raises(VicinalError, match=says):
        run(files)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"neighbours": 3}, "run config: neighbours: Extra inputs"),
        ({"clients": 0}, "run config: clients: .*greater than or equal to 1"),
        ({"watched-items": "3 x"}, "watched-items: give indices"),
        ({"watched-items": "40"}, "items lie in 0–39"),
        ({"deployment": ""}, "give deployment and result"),
        ({"deployment": "/nowhere"}, "/nowhere/server.safetensors: cannot be read"),
        ({"preset": "strong"}, "unknown preset 'strong'"),
        ({"neighbors": 1000}, "k = 1000 neighbors"),
    ],
)
def test_a_bad_run_config_is_refused(
    changes: dict[str, float | str], says: str, fleet: Fleet, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=says):
        run(write_files(tmp_path, fleet), changes=changes)


def test_every_key_of_the_run_config_has_a_default_in_pyproject(fleet: Fleet) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    defaults = project["tool"]["flwr"]["app"]["config"]
    fields = {name.replace("_", "-"): field for name, field in RunConfig.model_fields.items()}
    assert defaults.keys() == fields.keys()
    for key, value in defaults.items():
        assert type(value) in (str, int, float)
        if not fields[key].is_required():
            assert value == fields[key].default
