"""The server app and clients that fail, lie or do not belong: the run ends and names them."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from flwr.app import Array, ArrayRecord, Error, Message

import client.flower_app
from common.errors import VicinalError
from common.wire import fleet_pb2 as wire
from common.wire.fleet import MODEL, PAYLOAD
from tests.support.fleets import (
    CLIENTS,
    Fleet,
    make_fleet,
    payload,
    run,
    run_config,
    serve,
    write_files,
)
from tests.support.in_process_grid import Deliver, Fault, InProcessGrid

FAULTY = 1007


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    return make_fleet(tmp_path_factory.mktemp("store"))


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
        (count_too_many, f"client {FAULTY} answered something that it was not asked"),
        (reply_with_noise, "not a Installed"),
    ],
)
def test_one_bad_client_of_twelve_ends_the_run(
    fault: Fault, says: str, fleet: Fleet, tmp_path: Path
) -> None:
    files = write_files(tmp_path, fleet)
    with pytest.raises(VicinalError, match=says):
        run(files, {FAULTY: fault})
    assert set(json.loads(files.result.read_bytes())) == {"run", "failed"}


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
    with pytest.raises(VicinalError, match="two clients play partition 3"):
        serve(grid, config)


def swap_devices(folder: Path) -> None:
    first, second = (folder / "devices" / f"{p}-of-{CLIENTS}.safetensors" for p in (0, 1))
    second.write_bytes(first.read_bytes())


def remove_devices(folder: Path) -> None:
    (folder / "devices" / f"5-of-{CLIENTS}.safetensors").unlink()


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (swap_devices, "client 1001: .*they are not of user 1"),
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
