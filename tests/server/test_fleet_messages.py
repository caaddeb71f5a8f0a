"""What the server app makes of a message: how large it is, whatever is in it."""

from pathlib import Path

from flwr.app import ConfigRecord, Message

from tests.support.fleets import Fleet, run, write_files
from tests.support.in_process_grid import Deliver


def test_a_reply_with_nothing_in_its_records_is_measured(fleet: Fleet, tmp_path: Path) -> None:
    def add_nothing(message: Message, deliver: Deliver) -> Message | None:
        reply = deliver(message)
        assert reply is not None
        reply.content["more"] = ConfigRecord({"empty": "", "none": []})
        return reply

    _, result = run(write_files(tmp_path, fleet), {1007: add_nothing})
    assert (result["answered"], result["failures"]) == (48, [])
    told = {each["client"]: each["bytes"]["up"] for each in result["per_client"]}
    assert told[1007] - told[1006] == 2 * len("empty" + "none")
