"""A server among others: it says that it is there, takes versions over, trains at its turn.

It looks at the database twice a second. While that is away it goes on answering with what it has.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar, final

from common.errors import InputError, VicinalError
from server.cluster.blobs import BlobStore
from server.cluster.registry import (
    LEASE_SECONDS,
    Registry,
    Shared,
    Sight,
    Turn,
    TurnOverError,
)
from server.cluster.sharing import fetch, held, share
from server.sql.statements import SqlError
from server.trust.token_tables import shared_keys
from server.trust.tokens import TokenKeys
from server.versions.catalog import Catalog, Served
from server.versions.folder import read_edition

LOOK_SECONDS: Final = 0.5
KEYS_SECONDS: Final = 5.0

_log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True)
class Membership:
    """Where a server shares what.

    ids     where it keeps the order of users and items (server.data.growth)
    store   its own folder
    secret  of which users' devices have a key each
    keys    of bearer tokens, where they are the database's
    trains  whether it takes turns
    """

    registry: Registry
    blobs: BlobStore
    folder: Path
    ids: Path
    store: Path
    secret: bytes
    keys: TokenKeys | None = None
    trains: bool = True


@final
class Member:
    """Of a front's event loop; `run` goes on until it is canceled.

    published  is called with each version that is the current one from then on
    kept       is called with those before it that are answered for, too
    grace      seconds for which they are
    asked      is called when a training is to begin here
    told       is called with what is to be said in metrics: whether the database is away, and
               whether this server trains
    """

    def __init__(
        self,
        about: Membership,
        versions: Catalog,
        published: Callable[[Served], None],
        kept: Callable[[Served], None] = lambda _served: None,
        *,
        grace: float,
        told: Callable[[bool, bool], None] = lambda _away, _trains: None,
    ) -> None:
        self._about = about
        self._versions = versions
        self._published = published
        self._kept = kept
        self._grace = grace
        self._told = told
        self._had: set[str] = set()
        # The last edition of each version that all can have.
        self._shared: dict[str, int] = {}
        self.asked: Callable[[], None] = lambda: None
        self._turn: Turn | None = None
        self._until = 0.0
        self._fetching: asyncio.Task[None] | None = None
        self._begins: dict[str, float] = {}
        self._away = False
        self._holds = versions.current.description.publication
        self._keys_due = 0.0
        # The last thing that was in the way of a version: it is said once.
        self._said = ""

    @property
    def fence(self) -> int | None:
        """The number of this server's turn to train; None while it is not its turn."""
        return None if self._turn is None or time.monotonic() > self._until else self._turn.fence

    async def run(self) -> None:
        """Until it is canceled; then it says that it is gone, if the database answers."""
        try:
            while True:
                begun = time.monotonic()
                await self._look(begun)
                self._told(self._away, self.fence is not None)
                await asyncio.sleep(max(0.05, begun + LOOK_SECONDS - time.monotonic()))
        finally:
            if self._fetching is not None:
                self._fetching.cancel()
            self._turn = None
            try:
                await asyncio.to_thread(self._about.registry.leave)
            except SqlError:
                _log.warning("the database does not know that this server ended")

    async def want(self) -> None:
        """Ask whoever trains for a training. Raises InputError while the database is away."""
        await self._ask(self._about.registry.want)

    async def begin(self) -> tuple[int, int]:
        """A training begins here: the turn's number and its own. Raises InputError."""
        fence = self.fence
        if fence is None:
            raise InputError("another server trains")
        return fence, await self._ask(lambda: self._about.registry.begin(fence))

    async def done(self, fence: int, number: int) -> None:
        """It has ended, well or not. Raises InputError."""
        await self._ask(lambda: self._about.registry.done(fence, number))

    async def share(self, version: str, fence: int) -> None:
        """Let all have what was made, if it is new. Raises InputError, OSError."""
        about = self._about
        number = read_edition(about.folder, version).number
        if self._shared.get(version, -1) >= number:
            return
        try:
            await self._ask(
                lambda: share(about.folder, version, about.ids, about.blobs, about.registry, fence)
            )
        except VicinalError as error:
            raise InputError(str(error)) from None

    async def _ask(self, what: Callable[[], T]) -> T:
        try:
            return await asyncio.to_thread(what)
        except TurnOverError:
            raise InputError("another server trains by now") from None
        except SqlError as error:
            raise InputError(f"the database is away: {error}") from None

    async def _look(self, begun: float) -> None:
        about = self._about
        try:
            sight = await asyncio.to_thread(about.registry.look, self._holds, train=about.trains)
            if about.keys is not None and begun >= self._keys_due:
                keys = await asyncio.to_thread(shared_keys, about.registry.database)
                if keys:
                    about.keys.replace(keys)
                self._keys_due = begun + KEYS_SECONDS
        except (SqlError, InputError) as error:
            if not self._away:
                _log.error("%s: this server goes on with what it has", error)
            self._away = True
            return
        if self._away:
            _log.warning("the database answers again")
        self._away = False
        if sight.turn is not None and (self._turn is None or self._turn.fence != sight.turn.fence):
            _log.warning("this server trains from now on (turn %d)", sight.turn.fence)
        self._turn, self._until = sight.turn, begun + LEASE_SECONDS
        self._take_over(sight)
        if self._turn is not None and self._turn.asked:
            self.asked()

    def _take_over(self, sight: Sight) -> None:
        # What was replaced and has gone here is not fetched again.
        wanted = [
            one for one in sight.versions if one.replaced is None or one.version not in self._had
        ]
        self._shared = {one.version: one.edition for one in wanted if one.replaced is None}
        missing = [one for one in wanted if not held(self._about.folder, one)]
        if missing and (self._fetching is None or self._fetching.done()):
            # The newest first: the others are only still answered for.
            self._fetching = asyncio.create_task(self._fetch(missing[-1]))
        there = [one for one in wanted if one not in missing]
        for one in there:
            if one.replaced is not None and not self._versions.serves(one.version):
                left = self._grace - one.replaced
                self._kept(self._versions.keep(one.version, left))
        self._had = {one.version for one in sight.versions} & (
            self._had | {one.version for one in there}
        )
        if there:
            self._holds = max(self._holds, there[-1].publication)
        for one in there:
            if one.begins is not None and one.replaced is None:
                self._begin(one)
        current = sight.current
        if current is not None and current in there:
            self._refresh(current)

    def _begin(self, shared: Shared) -> None:
        """Serve a version from its moment on; all servers do at the same time."""
        assert shared.begins is not None
        version = shared.version
        if shared.begins > 0:
            if version not in self._begins:
                self._begins[version] = shared.begins
                asyncio.get_running_loop().call_later(shared.begins, self._serve, shared)
        elif shared.publication > self._versions.current.description.publication:
            self._serve(shared)

    def _serve(self, shared: Shared) -> None:
        self._begins.pop(shared.version, None)
        if shared.publication <= self._versions.current.description.publication:
            return
        try:
            self._published(self._versions.publish(shared.version))
        except (InputError, OSError) as error:
            _log.error("version %s cannot be served: %s", shared.version[:12], error)
            return
        _log.warning("version %s is served", shared.version[:12])

    def _refresh(self, shared: Shared) -> None:
        current = self._versions.current
        if shared.version != current.description.version:
            return
        users = current.users
        try:
            served = self._versions.refreshed()
        except InputError as error:
            _log.error("new users are not answered: %s", error)
            return
        if served.users > users:
            _log.warning("%d new users are answered", served.users - users)
            self._published(served)

    async def _fetch(self, shared: Shared) -> None:
        about = self._about
        try:
            await asyncio.to_thread(
                fetch,
                *(about.folder, shared, about.ids, about.store, about.secret, about.blobs),
            )
        except (VicinalError, OSError) as error:
            if self._said != str(error):
                self._said = str(error)
                _log.error("version %s cannot be taken over: %s", shared.version[:12], error)
            await asyncio.sleep(LOOK_SECONDS)
        else:
            self._said = ""
