"""A fleet's robustness and accuracy as a strategy of Flower's: to be used, and to be subclassed.

A round is one of Flower's own (flwr.serverapp.strategy.Strategy.start): clients get the model
version ("train"), are asked for the counts of their users ("evaluate"), and what comes back is
added up. Override `sample` for who is asked, `configure_…` for what they are sent and `aggregate_…`
for what is made of it.
"""

import math
import random
import secrets
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any, Final

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result, Strategy

from common.errors import InputError, VicinalError
from common.ranking import Counts
from common.report_privacy import LOCAL, SECAGG
from common.wire import fleet_pb2 as wire
from common.wire.fleet import (
    ANSWERS,
    CONFIG,
    EXAMPLES,
    INSTALL,
    METRICS,
    MODEL,
    PRIVACY,
    RECOMMEND,
    SERVER_ROUND,
    counts_from_metrics,
)
from server.fleet import judging
from server.fleet.accounts import Accounts
from server.fleet.delivery import POLL_SECONDS, SteadyGrid
from server.fleet.ledger import Entry, Ledger
from server.fleet.masked_counts import MaskedCounts
from server.fleet.messages import failure_line, message_to
from server.fleet.private_reports import PrivateReports
from server.fleet.roster import Roster
from server.fleet.work import FleetJob, batches_in_turn
from server.recommending.recommender import Recommender

# Called with what is being done, how much of it is done, and how much there is.
Report = Callable[[str, int, int], None]

_INSTALL: Final = f"train.{INSTALL}"
_RECOMMEND: Final = f"query.{RECOMMEND}"


class VicinalStrategy(Strategy):
    """Counts of all real users, answered by whoever is there.

    ledger    what was counted; failures: partition (None where it is not known), client, users and
              reason of each message that nobody answered
    roster    who is there, and for whom; accounts: what it cost
    wanted    partitions that are asked; None: all that are there
    name      of what is asked, where a run asks several times; clients keep counts by it
    """

    def __init__(
        self,
        recommender: Recommender,
        job: FleetJob,
        *,
        ledger: Ledger | None = None,
        roster: Roster | None = None,
        wanted: Collection[int] | None = None,
        name: str = "",
        report: Report = lambda _what, _done, _total: None,
    ) -> None:
        self.recommender = recommender
        self.job = job
        self.ledger = ledger or Ledger(None, "")
        self.report = report
        self.roster = roster or Roster()
        self.name = name
        self.wanted = None if wanted is None else frozenset(wanted)
        self.accounts = Accounts()
        self.failures: list[dict[str, Any]] = []
        self.broken_off: str | None = None
        self._sampled: set[int] = set()
        self._unwanted: set[int] = set()
        self._greeted: set[int] = set()
        self._work: dict[str, Entry] = {}
        self._asked_of: defaultdict[str, set[int]] = defaultdict(set)
        self._steady: SteadyGrid | None = None
        self._shown = (0, 0)
        # Whether each real user can be shown each watched item, [U, t].
        self._unrated = np.ones((recommender.user_count, len(job.watched)), dtype=bool)
        real = recommender.ratings.rows(np.arange(recommender.user_count))
        for column, item in enumerate(job.watched):
            self._unrated[real.users[real.items == item], column] = False
        self.reports = PrivateReports(job.privacy, self.ledger, self._unrated, secrets.randbelow)
        self._masked = MaskedCounts(self.ledger, self.reports, len(job.watched))

    # Who is asked.

    def sample(self, grid: Grid) -> list[int]:
        """Nodes for a round: a share of those there, once as many are there as the job waits for.

        Raises VicinalError when fewer than its minimum are there in the end.
        """
        nodes = self.wait_for_clients(grid)
        if len(nodes) < self.job.min_clients:
            raise VicinalError(
                f"{len(nodes)} of {self.job.clients} clients are connected after "
                f"{self.job.reply_timeout:g} s: start more, or set min-clients"
            )
        if self.wanted is not None:
            return [node for node in nodes if self.is_wanted(self.roster.partition(node))]
        count = max(self.job.min_clients, math.ceil(self.job.fraction * len(nodes)))
        return sorted(random.sample(nodes, count))

    def wait_for_clients(self, grid: Grid) -> list[int]:
        """Nodes that are there, once no further one has come in time or none is wanted."""
        seen, deadline = 0, time.monotonic() + self.job.reply_timeout
        while len(nodes := sorted(grid.get_node_ids())) < self.job.clients:
            if len(nodes) > seen:
                seen, deadline = len(nodes), time.monotonic() + self.job.reply_timeout
            if time.monotonic() > deadline:
                break
            time.sleep(POLL_SECONDS)
        return nodes

    # A round, in Flower's words.

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """The model version, for each client of the round that does not have it."""
        self._sampled = set(self.sample(grid))
        self._unwanted = set(grid.get_node_ids()) - self._sampled
        missing = self._sampled - self._greeted
        self._greeted |= missing
        return [self._install(node) for node in sorted(missing)]

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Whom clients play; nothing is trained yet."""
        for _ in replies:
            pass
        self.report("install", len(self.roster), len(self._greeted))
        if not self.roster.partitions:
            self.roster.settle(self.job.clients)
        return None, MetricRecord({"installed": len(self.roster)})

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterator[Message]:
        """Neighborhoods of the users of all who are asked, also of those who come meanwhile."""
        begun: set[int] = set()
        while new := [p for p in self.asked_partitions() if p not in begun]:
            begun.update(new)
            for batch in batches_in_turn(
                self.recommender,
                self.job,
                new,
                self.roster.partitions,
                self.ledger.counted(server_round),
            ):
                first, last = batch.users[0], batch.users[-1]
                group = f"{self.name}{server_round}/{batch.partition}/{first}-{last}"
                nothing = Counts.none(len(self.job.watched))
                self._work[group] = Entry(
                    round=server_round,
                    partition=batch.partition,
                    users=batch.users,
                    counts=nothing,
                )
                node = next(iter(self.roster.players(batch.partition)), 0)
                message = message_to(node, _RECOMMEND, batch.payload, group=group)
                record = ConfigRecord({**config, SERVER_ROUND: server_round})
                record[PRIVACY] = str(self.job.privacy)
                message.content[CONFIG] = record
                yield message

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """Counts of those who answered, as they come, and what they amount to.

        Raises VicinalError for the first that nobody answers, where failures are not accepted.
        """
        self._show_answered(server_round)
        for reply in replies:
            if reply.has_error():
                if not self.job.accept_failures:
                    raise VicinalError(failure_line(self.failures[-1]))
                continue
            self._take(reply)
            self._show_answered(server_round)
        if self.job.privacy.kind == SECAGG:
            self._add_up(server_round)
            self._show_answered(server_round)
        found = self.reports.measures(server_round)
        return MetricRecord(
            {
                EXAMPLES: len(self.ledger.counted(server_round)),
                "hit-ratio": found["hit_ratio"],
                "accuracy": found["accuracy"],
                "accuracy-thresholded": found["accuracy_thresholded"],
            }
        )

    def _take(self, reply: Message) -> None:
        """An answer that counts."""
        group = reply.metadata.group_id
        metrics, kind = reply.content.metric_records[METRICS], self.job.privacy.kind
        if kind == SECAGG:
            self._masked.keep(reply.metadata.src_node_id, group)
            return
        asked = self._work[group]
        found: dict[str, Any] = {"asked": len(self._asked_of[group])}
        if kind == LOCAL:
            found["answers"] = metrics[ANSWERS]
        else:
            found["counts"] = counts_from_metrics(metrics)
        self.ledger.add(asked.model_copy(update=found))

    def _add_up(self, server_round: int) -> None:
        """What clients keep, under masks; who does not take part to the end is not counted."""
        assert self._steady is not None
        lost = self._masked.add_up(
            self._steady,
            self._work,
            server_round=server_round,
            timeout=self.job.reply_timeout,
            accounts=self.accounts,
        )
        for node, users, why in lost:
            self._fail(self.roster.partition(node), node, users, why)

    def summary(self) -> None:
        """Flower's lines of how it begins say what there is to say."""

    def start(
        self,
        grid: Grid,
        initial_arrays: ArrayRecord | None = None,
        num_rounds: int = 1,
        timeout: float | None = None,
        train_config: ConfigRecord | None = None,
        evaluate_config: ConfigRecord | None = None,
        evaluate_fn: Callable[[int, ArrayRecord], MetricRecord | None] | None = None,
    ) -> Result:
        """Flower's own loop over rounds, on a grid that sends again what was not answered."""
        steady = SteadyGrid(grid, self, under_way=self.job.under_way, accounts=self.accounts)
        self._steady = steady
        try:
            return super().start(
                steady,
                initial_arrays or self.arrays(),
                num_rounds,
                self.job.reply_timeout if timeout is None else timeout,
                train_config,
                evaluate_config,
                evaluate_fn,
            )
        finally:
            self.broken_off = steady.broken_off

    # What it came to.

    def arrays(self) -> ArrayRecord:
        """The model version, as Flower sends it: one array of bytes, the same for all."""
        data = self.recommender.path.read_bytes()
        return ArrayRecord({MODEL: Array("uint8", (len(data),), "vicinal.version", data)})

    def counts(self, server_round: int = 1, partition: int | None = None) -> Counts:
        """Of all who answered in a round, or of one partition."""
        return self.ledger.total(server_round, len(self.job.watched), partition)

    def users_of(self, partition: int) -> range:
        return range(partition, self.recommender.user_count, self.roster.partitions or 1)

    def is_wanted(self, partition: int | None) -> bool:
        """Whether a partition is asked; of a client that has not said which is its own, perhaps."""
        return self.wanted is None or partition is None or partition in self.wanted

    def asked_partitions(self) -> list[int]:
        """Partitions of the clients that were sampled, and of those who stand in for them."""
        if self.job.fraction >= 1:
            return [each for each in self.roster.present() if self.is_wanted(each)]
        played = (self.roster.partition(node) for node in sorted(self._sampled))
        return [partition for partition in played if partition is not None]

    # What SteadyGrid asks (server.fleet.delivery.Fleet).

    def takers(self, message: Message) -> Sequence[int]:
        """Whoever plays the partition of some work; everything else is for its addressee."""
        asked = self._work.get(message.metadata.group_id)
        if asked is not None:
            return self.roster.players(asked.partition)
        node = message.metadata.dst_node_id
        return [] if node in self.roster.refused else [node]

    def judge(self, sent: Message, reply: Message) -> Message | None:
        """Raises VicinalError for a reply that does not count, and refuses who sent it."""
        node = sent.metadata.dst_node_id
        try:
            if sent.metadata.message_type == _INSTALL:
                return self._judge_installed(node, sent, reply)
            return self._judge_answered(node, sent, reply)
        except VicinalError as error:
            self.roster.refuse(node, str(error))
            raise

    def told(self, reply: Message) -> tuple[float, float, float] | None:
        """When the client began, and what its work took."""
        if METRICS in reply.content.metric_records:
            with suppress(InputError):
                return judging.times(reply)
        return None

    def greeting(self, node: int) -> Message | None:
        """The model version, for a client that came."""
        if node in self._greeted | self._unwanted or node in self.roster.refused:
            return None
        if not self.is_wanted(self.roster.partition(node)):
            return None
        self._greeted.add(node)
        return self._install(node)

    def gone(self, node: int) -> None:
        """Greeted again, should it come back."""
        self.roster.leave(node)
        self._greeted.discard(node)

    def lost(self, message: Message, node: int, why: str) -> None:
        """Kept, for the result."""
        asked = self._work.get(message.metadata.group_id)
        self._fail(
            asked.partition if asked else self.roster.partition(node),
            node or message.metadata.dst_node_id,
            len(asked.users) if asked else 0,
            why,
        )

    def sent(self, message: Message, node: int) -> None:
        """Each device that is asked tells something of its own."""
        self._asked_of[message.metadata.group_id].add(node)

    def _fail(self, partition: int | None, client: int, users: int, why: str) -> None:
        failure = {"partition": partition, "client": client, "users": users, "reason": why}
        self.failures.append(failure)

    def _install(self, node: int, *, whole: bool = False) -> Message:
        """With the version's bytes, unless the client may have them from another."""
        version = self.recommender.version.digest
        payload = wire.Install(version=version, book=self.job.book).SerializeToString()
        model = self.arrays() if whole or not self.job.shared_models else None
        return message_to(node, _INSTALL, payload, group=f"install/{node}", model=model)

    def _judge_installed(self, node: int, sent: Message, reply: Message) -> Message | None:
        plays = judging.plays(reply, self.recommender, self.job, self.roster)
        if plays is None:
            if MODEL in sent.content:
                raise VicinalError("does not keep the model version that it was sent")
            return self._install(node, whole=True)
        self.roster.join(node, *plays)
        return None

    def _judge_answered(self, node: int, sent: Message, reply: Message) -> Message | None:
        asked = self._work[sent.metadata.group_id]
        if not judging.answers(reply, asked, self.recommender, self.job, self.reports):
            return self._install(node, whole=True)
        return None

    def _show_answered(self, server_round: int) -> None:
        users = self.recommender.user_count
        if self.wanted is not None:
            users = sum(len(self.users_of(each)) for each in self.wanted)
        done = len(self.ledger.counted(server_round))
        # A line is a message of its own to whoever looks on: at most one for each percent.
        if self._shown != (shown := (server_round, 100 * done // users)):
            self._shown = shown
            self.report("recommend", done, users)
