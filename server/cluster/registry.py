"""What servers of one database know of each other: who is there, who trains, which versions.

One server trains: it holds a lease, which ends by the database's clock when it is not renewed, and
each turn has a number. What an earlier turn made is refused. A version is staged first; when all
who are there hold it, it gets a moment from which it is the current one of all of them.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, final

from common.errors import InputError
from common.versions.version import MAX_BYTES, is_digest
from server.sql.postgresql import Database
from server.sql.statements import SqlError, Transactions, bounded
from server.versions.folder import DESCRIPTION_FILE

# Renewed several times in it: another server trains so long after the one that did has died.
LEASE_SECONDS: Final = 3.0
# Nobody waits longer for one who does not say that it is there.
SEEN_SECONDS: Final = 4.0
# From the moment when all hold a version until it is the current one: each looks meanwhile.
LEAD_SECONDS: Final = 1.5
# One who is there and does not get hold of a version is waited for so long.
STAGED_SECONDS: Final = 120.0
MAX_VERSIONS: Final = 64
MAX_FILES: Final = 200
_NAME: Final = re.compile(
    r"forms/[0-9a-f]{64}|model\.safetensors|server(-[1-9][0-9]{0,8})?\.safetensors"
    r"|description|eligible|edition|survey|ids"
)
_NUMBER: Final = 1 << 62


class TurnOverError(Exception):
    """Another server trains by now: what was made here is not taken."""


class Kept(NamedTuple):
    """Bytes in the shared store."""

    digest: str
    size: int


Files = Mapping[str, Kept]


@dataclass(frozen=True)
class Shared:
    """A version that servers share.

    begins    seconds until it is the current one, negative afterwards; None: not all hold it
    replaced  seconds since another one is; None: none is
    """

    version: str
    publication: int
    edition: int
    files: Files
    begins: float | None
    replaced: float | None


@dataclass(frozen=True)
class Turn:
    """To train.

    fence   number of the turn; asked: trainings that were asked for and are not done
    """

    fence: int
    asked: bool


@dataclass(frozen=True)
class Sight:
    """What there was at one moment; versions in the order of publication."""

    versions: tuple[Shared, ...]
    turn: Turn | None

    @property
    def current(self) -> Shared | None:
        begun = [one for one in self.versions if one.begins is not None and one.begins <= 0]
        return begun[-1] if begun else None


@final
class Registry:
    """As one server sees it.

    name   of the server, as no other has; address: where it listens, for people
    grace  seconds for which a version is answered for after it was replaced

    Everything raises SqlError; InputError for what no server has written.
    """

    def __init__(self, database: Database, name: str, address: str, grace: float) -> None:
        self.database = database
        self._name = name
        self._address = address
        self._grace = grace

    def look(self, holds: int, *, train: bool) -> Sight:
        """Say that this server is there, and see what there is.

        holds  the newest publication that it could answer for
        train  whether it would
        """
        with self.database.transaction() as sql:
            sql.execute(
                "INSERT INTO servers VALUES (?, ?, now(), ?) ON CONFLICT (name) "
                "DO UPDATE SET seen = now(), holds = excluded.holds, address = excluded.address",
                (self._name, self._address, holds),
            )
            sql.execute("DELETE FROM servers WHERE seen < now() - interval '1 hour'")
            turn = self._turn(sql) if train else None
            self._move_on(sql)
            return Sight(self._versions(sql), turn)

    def turn(self) -> Turn | None:
        """A turn to train, without being there for devices; None: another server has it."""
        with self.database.transaction() as sql:
            return self._turn(sql)

    def seen(self) -> Sight:
        """What there is, without being there."""
        with self.database.transaction() as sql:
            self._move_on(sql)
            return Sight(self._versions(sql), None)

    def others(self) -> int:
        """How many servers are there beside this one."""
        with self.database.transaction() as sql:
            asked = (
                "SELECT count(*) FROM servers WHERE name <> ? "
                "AND seen > now() - make_interval(secs => ?)"
            )
            return int(sql.execute(asked, (self._name, SEEN_SECONDS)).fetchone()[0])

    def stage(
        self, version: str, publication: int, edition: int, files: Files, fence: int
    ) -> set[str]:
        """Let all know a version, or another edition of it; digests that nobody needs any more.

        Raises TurnOverError when the turn of that number is over, and for an older publication.
        """
        text = _text(files)
        with self.database.transaction() as sql:
            holds = "SELECT 1 FROM lease WHERE fence = ? AND holder = ? FOR UPDATE"
            if sql.execute(holds, (fence, self._name)).fetchone() is None:
                raise TurnOverError
            later = (
                "SELECT 1 FROM versions WHERE publication > ? OR (publication = ? AND digest <> ?)"
            )
            if sql.execute(later, (publication, publication, version)).fetchone() is not None:
                raise TurnOverError
            before = sql.execute(
                f"SELECT edition, {bounded('files')} FROM versions "
                "WHERE digest = ? AND replaced IS NULL",
                (version,),
            ).fetchone()
            if before is None:
                sql.execute(
                    "INSERT INTO versions (digest, publication, edition, files, fence) "
                    "VALUES (?, ?, ?, ?, ?) ON CONFLICT (digest) DO UPDATE SET "
                    "publication = excluded.publication, edition = excluded.edition, "
                    "files = excluded.files, fence = excluded.fence, staged = now(), "
                    "activates = NULL, replaced = NULL",
                    (version, publication, edition, text, fence),
                )
            elif edition > before[0]:
                # A training that came to the version that is served publishes nothing new.
                same = _files(before[1]).get(DESCRIPTION_FILE)
                text = _text(files if same is None else {**files, DESCRIPTION_FILE: same})
                sql.execute(
                    "UPDATE versions SET edition = ?, files = ? WHERE digest = ?",
                    (edition, text, version),
                )
            gone = sql.execute(
                f"DELETE FROM versions WHERE replaced < now() - make_interval(secs => ?) "
                f"RETURNING {bounded('files')}",
                (2 * self._grace + STAGED_SECONDS,),
            ).fetchall()
            kept = sql.execute(f"SELECT {bounded('files')} FROM versions LIMIT 10000").fetchall()
        needed = {one.digest for (files_of,) in kept for one in _files(files_of).values()}
        return {one.digest for (files_of,) in gone for one in _files(files_of).values()} - needed

    def want(self) -> None:
        """Ask for a training, whoever does it."""
        with self.database.transaction() as sql:
            sql.execute("UPDATE lease SET wanted = wanted + 1")

    def begin(self, fence: int) -> int:
        """A training begins: if this server dies meanwhile, the next one does it. Its number."""
        with self.database.transaction() as sql:
            asked = sql.execute(
                "UPDATE lease SET wanted = greatest(wanted, done + 1) WHERE fence = ? "
                "RETURNING wanted",
                (fence,),
            ).fetchone()
        if asked is None:
            raise TurnOverError
        return int(asked[0])

    def done(self, fence: int, number: int) -> None:
        """A training has ended, well or not."""
        with self.database.transaction() as sql:
            sql.execute(
                "UPDATE lease SET done = greatest(done, ?) WHERE fence = ?", (number, fence)
            )

    def leave(self) -> None:
        """Be there no more, and train no more."""
        with self.database.transaction() as sql:
            sql.execute("DELETE FROM servers WHERE name = ?", (self._name,))
            sql.execute(
                "UPDATE lease SET holder = NULL, expires = '-infinity' WHERE holder = ?",
                (self._name,),
            )

    def _turn(self, sql: Transactions) -> Turn | None:
        found = sql.execute(
            "UPDATE lease SET holder = ?, expires = now() + make_interval(secs => ?), "
            "fence = CASE WHEN holder = ? AND expires > now() THEN fence ELSE fence + 1 END "
            "WHERE holder = ? OR holder IS NULL OR expires < now() "
            "RETURNING fence, wanted > done",
            (self._name, LEASE_SECONDS, self._name, self._name),
        ).fetchone()
        return None if found is None else Turn(int(found[0]), bool(found[1]))

    def _move_on(self, sql: Transactions) -> None:
        """Begin what all hold, and mark what was replaced by it."""
        sql.execute(
            "UPDATE versions SET activates = now() + make_interval(secs => CASE "
            "WHEN EXISTS (SELECT 1 FROM servers WHERE seen > now() - make_interval(secs => ?)) "
            "THEN ? ELSE 0 END) WHERE activates IS NULL "
            "AND (staged < now() - make_interval(secs => ?) OR NOT EXISTS (SELECT 1 FROM servers "
            "WHERE seen > now() - make_interval(secs => ?) AND holds < publication))",
            (SEEN_SECONDS, LEAD_SECONDS, STAGED_SECONDS, SEEN_SECONDS),
        )
        sql.execute(
            "UPDATE versions SET replaced = now() WHERE replaced IS NULL AND activates <= now() "
            "AND EXISTS (SELECT 1 FROM versions AS newer WHERE newer.activates <= now() "
            "AND newer.publication > versions.publication)"
        )

    def _versions(self, sql: Transactions) -> tuple[Shared, ...]:
        rows = sql.execute(
            f"SELECT digest, publication, edition, {bounded('files')}, "
            "extract(epoch FROM activates - now()), extract(epoch FROM now() - replaced) "
            "FROM versions WHERE replaced IS NULL OR replaced > now() - make_interval(secs => ?) "
            f"ORDER BY publication DESC LIMIT {MAX_VERSIONS}",
            (self._grace,),
        ).fetchall()
        return tuple(_shared(*row) for row in reversed(rows))


def _shared(
    digest: Any, publication: Any, edition: Any, files: Any, begins: Any, replaced: Any
) -> Shared:
    """Raises InputError for a row that no server has written."""
    if not isinstance(digest, str) or not is_digest(digest):
        raise InputError("the database names a version that is none")
    if not (0 <= publication < _NUMBER and 0 <= edition < 10**9):
        raise InputError(f"version {digest[:12]} has numbers in the database that none has")
    return Shared(
        digest,
        publication,
        edition,
        _files(files),
        None if begins is None else float(begins),
        None if replaced is None else float(replaced),
    )


def _text(files: Files) -> str:
    return json.dumps({name: list(kept) for name, kept in files.items()})


def _files(text: Any) -> dict[str, Kept]:
    """Raises InputError for anything but what stage() writes."""
    try:
        table = json.loads(text)
        files = {str(name): Kept(digest, size) for name, (digest, size) in table.items()}
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise InputError("the database names files of a version that are none") from None
    for name, (digest, size) in files.items():
        known = _NAME.fullmatch(name) and is_digest(str(digest))
        if not known or type(size) is not int or not 0 <= size <= 2 * MAX_BYTES:
            raise InputError("the database names files of a version that are none")
    if len(files) > MAX_FILES:
        raise InputError("the database names more files than a version has")
    return files


def require_same(database: Database, column: str, here: str, told: str) -> None:
    """As Database.require(). Raises InputError where the database does not answer, too."""
    try:
        database.require(column, here, told)
    except SqlError as error:
        raise InputError(str(error)) from None
