"""Sums of clients' counts that show those of no client: Flower's SecAgg+, for whole numbers.

Flower's workflow of SecAgg+ is written for its earlier interface: a strategy that gives what to fit
and takes weighted means. It runs on any grid, and so here: as a strategy it gets one that names the
groups to add up, and weights and ranges are such that quantization changes nothing. Then a mean
times the number of clients is the sum, to the last count.

A client that leaves between the third and the fourth step is left out. One that fails earlier
halts the protocol, which then begins again: with it, as a process may have died under it, and once
more without it.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, Final, NamedTuple, cast

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.common import FitIns, Parameters, parameters_to_ndarrays
from flwr.server.compat import LegacyContext
from flwr.server.workflow import SecAggPlusWorkflow
from flwr.server.workflow.constant import MAIN_CONFIGS_RECORD, MAIN_PARAMS_RECORD, Key
from flwr.server.workflow.secure_aggregation.secaggplus_workflow import WorkflowState
from flwr.serverapp import Grid

from common.errors import VicinalError
from common.report_privacy import LEAST_SUMMED
from common.wire.fleet import RECEIPTS
from server.fleet.accounts import Accounts
from server.fleet.delivery import SteadyGrid
from server.fleet.messages import byte_count

# Clients that hold a share of each client's secrets, itself among them, and of whom 3 of 5 are
# needed to take its mask away.
SHARES: Final = 15
THRESHOLD: Final = 0.6
TRIES: Final = 4
MODULUS: Final = 1 << 32
# Flower's own grids look for replies every three seconds.
POLL_SECONDS: Final = 0.05


class Summed(NamedTuple):
    """The sums, and whose counts are in them."""

    sums: list[int]
    clients: set[int]


def secure_sum(
    grid: SteadyGrid,
    groups: Mapping[int, Sequence[str]],
    *,
    most: int,
    server_round: int,
    timeout: float,
    accounts: Accounts,
) -> Summed:
    """Add up what clients keep (client.flower_sums).

    groups    of messages whose counts each client is to give, by node id
    most      that any client's count can be
    accounts  what its messages cost is added to

    Raises VicinalError when too few clients are there to the end.
    """
    left, told, failed = dict(groups), _Prompt(grid, accounts), set[int]()
    for _ in range(TRIES):
        if len(left) < LEAST_SUMMED:
            break
        asked = _Asked(left)
        present = _protocol(told, asked, most, server_round, timeout)
        if asked.summed is not None:
            return asked.summed
        absent = left.keys() - present
        if not absent:
            break
        left = {node: left[node] for node in left if node not in absent & failed}
        failed |= absent
    raise VicinalError(
        f"secure sum: {len(left)} of {len(groups)} clients took part, and at least "
        f"{LEAST_SUMMED} have to, to the end"
    )


def _protocol(
    grid: "_Prompt", asked: "_Asked", most: int, server_round: int, timeout: float
) -> set[int]:
    """Its steps, until one fails; who answered in the last one that anybody answered."""
    # With so many values of a count, and a weight of 1, each is sent as it is.
    clip = 1 << max(1, most - 1).bit_length()
    many = len(asked.groups)
    if 2 * clip * many >= MODULUS:
        raise VicinalError(f"secure sum: {many} clients with {most} users each are too many")
    workflow = SecAggPlusWorkflow(
        1.0 if many <= SHARES else SHARES,
        THRESHOLD if many <= SHARES else round(THRESHOLD * SHARES),
        max_weight=1.0,
        clipping_range=float(clip),
        quantization_range=2 * clip,
        modulus_range=MODULUS,
        timeout=timeout,
    )
    manager = SimpleNamespace(num_available=lambda: many)
    empty = Context(run_id=0, node_id=0, node_config={}, state=RecordDict(), run_config={})
    context = LegacyContext(
        empty,
        None,
        cast(Any, asked),
        cast(Any, manager),  # of what they offer, two functions are used
    )
    context.state[MAIN_CONFIGS_RECORD] = ConfigRecord({Key.CURRENT_ROUND: server_round})
    context.state[MAIN_PARAMS_RECORD] = ArrayRecord()
    state, present = WorkflowState(), set(asked.groups)
    for step in (
        workflow.setup_stage,
        workflow.share_keys_stage,
        workflow.collect_masked_vectors_stage,
        workflow.unmask_stage,
    ):
        try:
            done = step(cast(Grid, grid), context, state)
        except Exception as error:
            # Flower's steps take for granted what replies hold.
            raise VicinalError("secure sum: a client's reply is none of the protocol's") from error
        # All of them fail at shares of a client that left before it gave any.
        present = set(state.active_node_ids) or present
        if not done:
            break
    return present


class _Prompt:
    """Of a grid, what Flower's workflow uses: replies as soon as they are there, and their cost."""

    def __init__(self, grid: SteadyGrid, accounts: Accounts) -> None:
        self._grid, self._accounts = grid, accounts

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        """What came in time."""
        sent, found = list(messages), list[Message]()
        for message in sent:
            account = self._accounts.of(message.metadata.dst_node_id)
            account.messages += 1
            account.down += byte_count(message)
        deadline = time.monotonic() + (float("inf") if timeout is None else timeout)
        accepted = set(self._grid.push_messages(sent))
        about = [message.metadata for message in sent]
        waiting = {one.message_id: one.dst_node_id for one in about if one.message_id in accepted}
        while waiting:
            # What is lost here cannot be asked for again, but from the start.
            came = list(self._grid.pull_messages(waiting, apart=True))
            for reply in came:
                node = waiting.pop(reply.metadata.reply_to_message_id, None)
                if node is not None:
                    self._accounts.of(node).up += byte_count(reply)
                    found.append(reply)
            if not came:
                if time.monotonic() > deadline and not self._grid.coming:
                    break
                time.sleep(POLL_SECONDS)
        return found


class _Asked:
    """What Flower's workflow takes for a strategy."""

    def __init__(self, groups: Mapping[int, Sequence[str]]) -> None:
        self.groups = groups
        self.summed: Summed | None = None

    def configure_fit(
        self, _round: int, parameters: Parameters, _manager: object
    ) -> list[tuple[Any, FitIns]]:
        return [
            (SimpleNamespace(node_id=node), FitIns(parameters, {RECEIPTS: " ".join(groups)}))
            for node, groups in self.groups.items()
        ]

    def aggregate_fit(
        self, _round: int, results: list[tuple[Any, Any]], _failures: object
    ) -> tuple[None, dict[str, Any]]:
        if results:
            (mean,) = parameters_to_ndarrays(results[0][1].parameters)
            sums = np.rint(len(results) * mean).astype(np.int64).tolist()
            self.summed = Summed(sums, {proxy.node_id for proxy, _ in results})
        return None, {}
