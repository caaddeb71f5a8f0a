"""A grid that gets its messages answered: a few at a time, and again by whoever is there.

Flower drops what it cannot deliver and says nothing; a node that dies takes its messages along and
comes back under another name. So a message here is work, and who does it is chosen when it is sent.
Each is answered once: the first reply counts, whoever it is from.
"""

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from random import SystemRandom
from typing import Final, Protocol, final

from flwr.app import Error, Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.superlink.grid.http_grid import HttpGrid

from common.errors import VicinalError
from server.fleet.accounts import Accounts
from server.fleet.messages import byte_count, reason
from server.fleet.parcels import Flight, Parcel
from server.fleet.replies import CLIENT_FAILED, Replies

POLL_SECONDS: Final = 0.05
LOOK_SECONDS: Final = 1.0
# Of a message that clients fail at, and of one that they do not answer.
TRIES: Final = 3
WAITS: Final = 2
# Of a message that no client was seen to fail at, while nothing else is answered either.
BREAKS: Final = 8
MOST_PAUSE_SECONDS: Final = 2.0
# Flower's error codes.
_NODE_GONE: Final = 5
_ABANDONED: Final = 0


_chance: Final = SystemRandom()


class Fleet(Protocol):
    """Whom messages are for, and what replies are worth."""

    def takers(self, message: Message) -> Sequence[int]:
        """Nodes that can answer it, best first."""

    def judge(self, sent: Message, reply: Message) -> Message | None:
        """None for a reply that counts, else what has to be sent to that node first.

        Raises VicinalError for one that does not count; the node is then not among the takers.
        """

    def sent(self, message: Message, node: int) -> None:
        """A message went to a node, who may be told it again or not be the first."""

    def told(self, reply: Message) -> tuple[float, float, float] | None:
        """When the client began (seconds since 1970), and milliseconds that it computed and that
        its processor took, of a reply that counts; None where it does not say.
        """

    def greeting(self, node: int) -> Message | None:
        """The first message to a node that came; None where it is not wanted."""

    def gone(self, node: int) -> None:
        """A node is not there any more, or does not answer."""

    def lost(self, message: Message, node: int, why: str) -> None:
        """A message was given up; the node is who had it last, 0 where nobody did."""


@final
class SteadyGrid(Grid):
    """Another grid, with replies that can be relied on.

    under_way   messages at a time; 0: one for each node
    broken_off  why everything of an exchange was given up, at last; None where nothing was
    """

    def __init__(self, grid: Grid, fleet: Fleet, *, under_way: int, accounts: Accounts) -> None:
        self.grid = grid
        self.fleet = fleet
        self.under_way = under_way
        self.accounts = accounts
        self.known: set[int] = set()
        self.frozen: set[int] = set()
        self.broken_off: str | None = None
        self._replies = Replies(grid) if isinstance(grid, HttpGrid) else None

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterator[Message]:
        """Replies as they come; an error for each message that nobody answers in the end.

        timeout  seconds to wait for a reply before the message is sent again; None: for ever
        """
        exchange = _Exchange(self, iter(messages), float("inf") if timeout is None else timeout)
        return exchange.replies()

    def get_node_ids(self) -> Iterable[int]:
        return self.grid.get_node_ids()

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Its digest is a message's name, and who knows it can answer: chance is in each."""
        sent = list(messages)
        for message in sent:
            message.metadata.ttl += _chance.random()
        return self.grid.push_messages(sent)

    def pull_messages(
        self, message_ids: Iterable[str], *, apart: bool = False
    ) -> Iterable[Message]:
        """apart: lose no other reply with one that cannot be read (server.fleet.replies)."""
        if self._replies is not None:
            return self._replies.pull(message_ids, apart=apart)
        return self.grid.pull_messages(message_ids)

    @property
    def coming(self) -> set[str]:
        """Messages whose replies may be there, and have only not been fetched yet."""
        return set() if self._replies is None else self._replies.coming

    @property
    def run(self) -> Run:
        return self.grid.run

    def set_run(self, run: Run) -> None:
        self.grid.set_run(run)

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        return self.grid.create_message(content, message_type, dst_node_id, group_id, ttl)


@final
class _Exchange:
    """One round of messages and replies."""

    def __init__(self, steady: SteadyGrid, messages: Iterator[Message], timeout: float) -> None:
        self._steady = steady
        self._fleet = steady.fleet
        self._messages: Iterator[Message] | None = messages
        self._timeout = timeout
        self._waiting: deque[Parcel] = deque()
        self._flights: dict[str, Flight] = {}
        self._progress = 0
        self._broken_off = False
        self._looked = -LOOK_SECONDS

    def replies(self) -> Iterator[Message]:
        while True:
            self._look_around()
            self._send()
            came = [*self._collect()]
            yield from came
            yield from self._give_up()
            if self._messages is None and not self._waiting and not self._under_way():
                return
            if not came:
                time.sleep(POLL_SECONDS)

    def _under_way(self) -> list[Flight]:
        return [each for each in self._flights.values() if not each.overdue]

    def _look_around(self) -> None:
        """Greet who came; send again what was with those who left."""
        if time.monotonic() < self._looked + LOOK_SECONDS:
            return
        self._looked, steady = time.monotonic(), self._steady
        here = set(steady.get_node_ids())
        for node in steady.known - here:
            self._gone(node, "left")
        for node in sorted(here - steady.known - steady.frozen):
            greeting = self._fleet.greeting(node)
            if greeting is not None:
                self._waiting.appendleft(Parcel(greeting, expected=False))
        steady.known = here

    def _gone(self, node: int, why: str) -> None:
        self._fleet.gone(node)
        for identity, flight in list(self._flights.items()):
            if flight.node == node:
                if not flight.overdue:
                    self._again(flight.parcel, why)
                if why == "left":
                    del self._flights[identity]

    def _again(self, parcel: Parcel, why: str) -> None:
        parcel.why = why
        self._steady.accounts.of(parcel.node).failed += 1
        if not parcel.done:
            self._waiting.append(parcel)

    def _send(self) -> None:
        """Fill what may be under way, from what has to be sent again and then from the new."""
        if self._broken():
            return  # what is under way may still be answered
        under_way = self._under_way()
        busy = {flight.node for flight in under_way}
        room = (self._steady.under_way or max(1, len(self._steady.known))) - len(under_way)
        held: list[Parcel] = []
        batch: list[Flight] = []
        now = time.monotonic()
        while room > len(batch):
            parcel = self._next(held)
            if parcel is None:
                break
            takers = self._takers(parcel)
            free = [node for node in takers if node not in busy]
            if takers:
                parcel.lonely = None
            elif parcel.lonely is None:
                parcel.lonely = now
            if not free or parcel.ready > now:
                held.append(parcel)
                continue
            busy.add(free[0])
            batch.append(self._flight(parcel, free[0]))
        self._waiting.extendleft(reversed(held))
        self._push(batch)

    def _next(self, held: list[Parcel]) -> Parcel | None:
        if self._waiting:
            return self._waiting.popleft()
        # What waits for a busy client is in memory: no more of it than can be under way.
        blocked = sum(parcel.lonely is None for parcel in held)
        if self._messages is None or blocked > max(16, self._steady.under_way):
            return None
        message = next(self._messages, None)
        if message is None:
            self._messages = None
            return None
        # A client that is asked by the caller needs no greeting.
        self._steady.known.add(message.metadata.dst_node_id)
        return Parcel(message, expected=True)

    def _takers(self, parcel: Parcel) -> list[int]:
        """Those who have not failed at it first."""
        takers = self._fleet.takers(parcel.message)
        return sorted(takers, key=lambda node: node in parcel.failed)

    def _flight(self, parcel: Parcel, node: int) -> Flight:
        first = parcel.node == 0
        original = parcel.message
        message = Message(
            original.content,
            node,
            original.metadata.message_type,
            group_id=original.metadata.group_id,
        )
        account = self._steady.accounts.of(node)
        account.messages += 1
        account.resent += not first
        account.down += byte_count(message)
        parcel.node = node
        self._fleet.sent(message, node)
        return Flight(parcel, message, node, time.monotonic(), time.time())

    def _push(self, batch: list[Flight]) -> None:
        if not batch:
            return
        accepted = set(self._steady.push_messages([flight.message for flight in batch]))
        pushed = time.monotonic()
        for flight in batch:
            flight.due = pushed + self._timeout
            identity = flight.message.metadata.message_id
            if identity in accepted:
                self._flights[identity] = flight
            else:
                self._again(flight.parcel, "the message could not be sent")
                self._pause(flight.parcel)

    def _collect(self) -> Iterator[Message]:
        """Replies that count; others make their messages be sent again."""
        replies = list(self._steady.pull_messages(list(self._flights))) if self._flights else []
        for reply in replies:
            flight = self._flights.pop(reply.metadata.reply_to_message_id, None)
            if flight is None:
                continue
            if flight.node in self._steady.frozen:  # to be greeted anew
                self._steady.frozen.discard(flight.node)
                self._steady.known.discard(flight.node)
            self._steady.accounts.of(flight.node).up += byte_count(reply)
            if not flight.parcel.done and self._counts(flight, reply):
                flight.parcel.done = True
                if flight.parcel in self._waiting:
                    self._waiting.remove(flight.parcel)
                self._progress += 1
                if flight.parcel.expected:
                    yield reply
        # While replies come, others may be there that have only not been fetched.
        coming = self._steady.coming
        for identity, flight in [] if replies else list(self._flights.items()):
            late = time.monotonic() > flight.due and identity not in coming
            if late and not flight.overdue:
                flight.overdue = True
                flight.parcel.waits += 1
                flight.parcel.failed.add(flight.node)
                self._again(flight.parcel, f"no reply in {self._timeout:g} s")
                if flight.parcel.waits >= WAITS and flight.node not in self._steady.frozen:
                    self._steady.frozen.add(flight.node)
                    self._fleet.gone(flight.node)

    def _counts(self, flight: Flight, reply: Message) -> bool:
        parcel = flight.parcel
        if reply.has_error():
            self._failed(flight, reply)
            return False
        try:
            if reply.metadata.group_id != parcel.message.metadata.group_id:
                raise VicinalError("answered something that it was not asked")
            first = self._fleet.judge(flight.message, reply)
        except VicinalError as error:
            parcel.final = True
            self._again(parcel, str(error))
            return False
        if first is None:
            if parcel.expected:
                self._account(flight, reply)
            return True
        parcel.tries += 1
        self._again(parcel, "the client does not keep its model version")
        # The very next that this node gets.
        self._waiting.appendleft(Parcel(first, expected=False))
        return False

    def _account(self, flight: Flight, reply: Message) -> None:
        told = self._fleet.told(reply)
        if told is not None:
            begun, computed, processor = told
            self._steady.accounts.of(flight.node).worked(
                1000 * (time.monotonic() - flight.sent),
                queue=1000 * (begun - flight.clock),
                computed=computed,
                processor=processor,
            )

    def _failed(self, flight: Flight, reply: Message) -> None:
        parcel, code = flight.parcel, reply.error.code
        gone = code == _NODE_GONE and flight.node not in set(self._steady.get_node_ids())
        if gone:
            self._steady.known.discard(flight.node)
            self._again(parcel, "the client is gone")
            self._gone(flight.node, "left")
        elif code in (*CLIENT_FAILED, _NODE_GONE):  # a client may call itself gone
            parcel.tries += 1
            parcel.failed.add(flight.node)
            self._again(parcel, reason(reply))
        else:
            self._again(parcel, reason(reply))
            self._pause(parcel)

    def _pause(self, parcel: Parcel) -> None:
        """Nobody failed at it: send it again a little later, as long as others are answered."""
        parcel.breaks = parcel.breaks + 1 if parcel.progress == self._progress else 1
        parcel.progress = self._progress
        pause = min(MOST_PAUSE_SECONDS, 2 * POLL_SECONDS * 2 ** min(parcel.breaks, 8))
        parcel.ready = time.monotonic() + pause

    def _broken(self) -> bool:
        """Whether a message was sent often enough while nothing else was answered either."""
        return any(
            parcel.expected and parcel.breaks >= BREAKS and parcel.progress == self._progress
            for parcel in self._waiting
        )

    def _give_up(self) -> Iterator[Message]:
        now = time.monotonic()
        if self._broken() and not self._under_way():
            worst = max(self._waiting, key=lambda parcel: parcel.breaks)
            self._broken_off, self._steady.broken_off = True, worst.why
            self._messages = None
            self._flights.clear()
        for parcel in list(self._waiting):
            alone = not self._fleet.takers(parcel.message)
            patience = 0.0 if parcel.final or parcel.waits >= WAITS else self._timeout
            given_up = (
                self._broken_off
                or parcel.tries >= TRIES
                or (parcel.breaks >= BREAKS and not parcel.expected)
                or (parcel.waits >= WAITS and not self._untried(parcel))
                or (alone and now > (now if parcel.lonely is None else parcel.lonely) + patience)
                or (alone and parcel.final)
            )
            if given_up:
                self._waiting.remove(parcel)
                parcel.done = True
                why = parcel.why or "nobody was there to answer"
                self._fleet.lost(parcel.message, parcel.node, why)
                if parcel.expected:
                    yield Message(Error(_ABANDONED, why), reply_to=parcel.message)

    def _untried(self, parcel: Parcel) -> bool:
        return bool(set(self._fleet.takers(parcel.message)) - parcel.failed)
