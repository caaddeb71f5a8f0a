"""Messages of a simulation by whom they are for: as Flower hands them out, and no other way."""

from types import SimpleNamespace
from typing import Any

import pytest
from flwr.app import Message, RecordDict
from flwr.common.constant import NOOP_ACCOUNT_NAME, NOOP_FLWR_AID
from flwr.server.superlink.linkstate import LinkStateFactory
from flwr.server.superlink.linkstate.in_memory_linkstate import RunRecord
from flwr.supercore.constant import FLWR_IN_MEMORY_DB_NAME, NOOP_FEDERATION_ID
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supercore.run import Run
from flwr.superlink.federation import NoOpFederationManager
from flwr.superlink.grid import InMemoryGrid
from hypothesis import given
from hypothesis import strategies as st

from server.fleet.mailboxes import sort_mail
from tests.support.fleets import task_identity
from tests.support.in_process_grid import InProcessGrid

NODES = 4


def simulated() -> tuple[InMemoryGrid, list[int]]:
    """A grid of Flower's simulation, with nodes that are there for ever."""
    factory = LinkStateFactory(
        FLWR_IN_MEMORY_DB_NAME, NoOpFederationManager(), ObjectStoreFactory()
    )
    state: Any = factory.state()
    run = Run.create_empty(1)
    run.federation_id = NOOP_FEDERATION_ID
    state.run_ids[1] = RunRecord(run=run)
    state._is_finished_run = lambda _run: False
    nodes = [
        state.create_node(NOOP_FLWR_AID, NOOP_ACCOUNT_NAME, bytes([number]) * 32, 1e9)
        for number in range(NODES)
    ]
    for node in nodes:
        state.acknowledge_node_heartbeat(node, 1e9)
    grid = InMemoryGrid(factory)
    grid._run = run
    return grid, nodes


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("push"), st.integers(0, NODES - 1)),
        st.tuples(st.just("take"), st.integers(0, NODES - 1), st.sampled_from([1, 2, None])),
        st.tuples(st.just("drop"), st.integers(0, 30)),
    ),
    max_size=40,
)


@given(STEPS)
def test_every_client_gets_what_flower_would_give_it(steps: list[tuple[Any, ...]]) -> None:
    (ours, here), (plain, there) = simulated(), simulated()
    assert sort_mail(ours)
    pushed: list[list[str]] = [[], []]
    with task_identity():
        for step in steps:
            taken = []
            for number, (grid, nodes) in enumerate(((ours, here), (plain, there))):
                state: Any = grid.state
                if step[0] == "push":
                    message = Message(RecordDict(), nodes[step[1]], "query.a")
                    pushed[number] += grid.push_messages([message])
                elif step[0] == "take":
                    found = state.get_message_ins(node_id=nodes[step[1]], limit=step[2])
                    assert all(message.metadata.delivered_at for message in found)
                    taken.append([pushed[number].index(m.metadata.message_id) for m in found])
                elif step[1] < len(pushed[number]):
                    state.delete_messages({pushed[number][step[1]]})
            assert taken[:1] == taken[1:]


def test_a_message_that_flower_refuses_waits_nowhere() -> None:
    grid, nodes = simulated()
    assert sort_mail(grid)
    with task_identity():
        assert list(grid.push_messages([Message(RecordDict(), 77, "query.a")])) == []
        (identity,) = grid.push_messages([Message(RecordDict(), nodes[0], "query.a")])
    assert grid.state.get_message_ins(77, None) == []
    (found,) = grid.state.get_message_ins(nodes[0], None)
    assert found.metadata.message_id == identity


@pytest.mark.parametrize("state", [None, SimpleNamespace(message_ins_store={})])
def test_other_grids_stay_as_they_are(state: object) -> None:
    def unused(_message: Message, _context: object) -> Message:
        raise AssertionError

    grid: Any = InProcessGrid(unused, 1, {})  # type: ignore[arg-type]
    grid.state = state
    assert not sort_mail(grid)
