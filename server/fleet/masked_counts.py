"""Counts that clients keep until they are added up under masks (server.fleet.secure_sum)."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import final

from common.errors import VicinalError
from common.ranking import Counts
from server.fleet.accounts import Accounts
from server.fleet.delivery import SteadyGrid
from server.fleet.ledger import Entry, Ledger
from server.fleet.private_reports import PrivateReports
from server.fleet.secure_sum import secure_sum


@final
class MaskedCounts:
    """Of a round; the sum goes into a ledger.

    watched  how many items' hits are counted
    """

    def __init__(self, ledger: Ledger, reports: PrivateReports, watched: int) -> None:
        self._ledger, self._reports, self._watched = ledger, reports, watched
        # Groups of messages that each client answered and keeps the counts of.
        self._kept: defaultdict[int, list[str]] = defaultdict(list)

    def keep(self, node: int, group: str) -> None:
        """A client has counted the users of a group."""
        self._kept[node].append(group)

    def add_up(
        self,
        grid: SteadyGrid,
        work: Mapping[str, Entry],
        *,
        server_round: int,
        timeout: float,
        accounts: Accounts,
    ) -> Iterator[tuple[int, int, str]]:
        """Add up what clients keep; who did not take part to the end, its users and why.

        work  the users of each group
        """
        kept = dict(self._kept)
        self._kept.clear()
        if not kept:
            return
        users = {n: [u for g in groups for u in work[g].users] for n, groups in kept.items()}
        try:
            sums, clients = secure_sum(
                grid,
                kept,
                most=max(map(len, users.values())),
                server_round=server_round,
                timeout=timeout,
                accounts=accounts,
            )
        except VicinalError as error:
            clients, why = set[int](), str(error)
        else:
            why = "left before its counts were added up"
            self._add(server_round, sums, [u for node in clients for u in users[node]])
        for node in kept.keys() - clients:
            yield node, len(users[node]), why

    def _add(self, server_round: int, sums: list[int], users: list[int]) -> None:
        hits = self._watched
        try:
            counts = Counts(self._reports.eligible(users), tuple(sums[:hits]), *sums[hits:])
        except ValueError as error:
            raise VicinalError("secure sum: a client gave counts that cannot be") from error
        self._ledger.add(Entry(round=server_round, partition=0, users=users, counts=counts))
