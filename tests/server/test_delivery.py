"""server.fleet.delivery: one exchange after another on one grid."""

import pytest
from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp

from tests.support.fleets import steady, task_identity
from tests.support.in_process_grid import Deliver, InProcessGrid

NODES = (1000, 1001)


def test_a_round_that_was_given_up_takes_no_patience_from_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("server.fleet.delivery.MOST_PAUSE_SECONDS", 0.01)
    app, deaths = ClientApp(), dict.fromkeys(NODES, 1000)

    @app.query()
    def answer(message: Message, _context: Context) -> Message:
        return Message(RecordDict(), reply_to=message)

    def perhaps(message: Message, deliver: Deliver) -> Message:
        node = message.metadata.dst_node_id
        deaths[node] -= 1
        if deaths[node] >= 0:
            return Message(Error(code=0, reason="The actor died"), reply_to=message)
        reply = deliver(message)
        assert reply is not None
        return reply

    grid = steady(InProcessGrid(app, len(NODES), {}, dict.fromkeys(NODES, perhaps)))

    def exchange() -> list[bool]:
        asked = [Message(RecordDict(), node, "query") for node in NODES]
        return [reply.has_error() for reply in grid.send_and_receive(asked, timeout=60)]

    with task_identity():
        assert exchange() == [True, True]
        assert grid.broken_off == "error 0: The actor died"
        deaths.update(dict.fromkeys(NODES, 2))
        assert exchange() == [False, False]
