"""A PostgreSQL database that servers share: a pool of connections, and one schema of tables.

    postgresql://USER@HOST:PORT/DATABASE            also schema=…, and libpq's own words

The schema (server.sql.schema) is made where it is not there. Passwords have no place in the
address (server.sql.address).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import Any, Final, Self, final
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from common.errors import InputError
from common.text import one_line
from server.sql.address import conninfo, hidden_secrets, library, require_no_secret, said
from server.sql.schema import FORM, SCHEMA
from server.sql.statements import SqlError

DEFAULT_SCHEMA: Final = "vicinal"
POOL: Final = 4
# Until a connection is there; whoever asks is told then that there is none.
WAIT_SECONDS: Final = 3.0
CONNECT_SECONDS: Final = 3
# A server that stands still gives its locks back after so long.
STATEMENT_SECONDS: Final = 10
# One at a time makes the tables; the number spells "vicinal".
_MAKING: Final = 0x766963696E616C


@final
class Database:
    """Connections to one schema, until `close`; for many threads.

    shown  its address, for messages

    Raises InputError for an address that cannot be used, a database that cannot be reached, and
    tables that are not of this program or of another form of it.
    """

    def __init__(self, address: str) -> None:
        self.shown, connection, self._schema = _parsed(address)
        self._psycopg = library("psycopg", self.shown)
        pools = library("psycopg_pool", self.shown)
        usual = {"connect_timeout": CONNECT_SECONDS, "tcp_user_timeout": 5000}
        words = conninfo(connection, self.shown, usual)
        self._make(words)
        self._pool = pools.ConnectionPool(
            words,
            min_size=1,
            max_size=POOL,
            open=False,
            timeout=WAIT_SECONDS,
            kwargs={"autocommit": True},
            configure=self._configure,
            check=pools.ConnectionPool.check_connection,
        )
        self._timed_out = pools.PoolTimeout
        self._closed = pools.PoolClosed
        self._pool.open()

    @contextmanager
    def transaction(self, *, lock: str | None = None) -> Iterator["PostgresTransactions"]:
        """A transaction that is committed when the block ends, and rolled back where it raises."""
        one = PostgresTransactions(self, lock)
        one.begin()
        try:
            yield one
            one.commit()
        finally:
            one.roll_back()

    def secret(self, name: str, fresh: bytes) -> bytes:
        """A secret that all servers have: what is there, or what is given. Raises SqlError."""
        with self.transaction() as sql:
            sql.execute("INSERT INTO secrets VALUES (?, ?) ON CONFLICT DO NOTHING", (name, fresh))
            found = sql.execute(
                "SELECT secret FROM secrets WHERE name = ? AND length(secret) = ?",
                (name, len(fresh)),
            ).fetchone()
        if found is None:
            raise InputError(f"{self.shown}: its secret {name!r} is none of this program's")
        return bytes(found[0])

    def now(self) -> float:
        """Seconds since 1970 by the database's clock. Raises SqlError."""
        with self.transaction() as sql:
            asked = "SELECT extract(epoch FROM clock_timestamp())"
            return float(sql.execute(asked).fetchone()[0])

    def require(self, column: str, said_here: str, told: str) -> None:
        """Note what the tables are of, or compare it. Raises InputError, SqlError.

        column  dataset or served; `told` is the message where it is another
        """
        assert column in ("dataset", "served")
        with self.transaction() as sql:
            sql.execute(f"UPDATE about SET {column} = coalesce({column}, ?)", (said_here,))
            same = f"SELECT {column} = ? FROM about"
            if sql.execute(same, (said_here,)).fetchone() != (True,):
                raise InputError(f"{self.shown}: {told}")

    def close(self) -> None:
        self._pool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def connection(self) -> Any:
        """One of the pool, to be given back. Raises SqlError."""
        try:
            return self._pool.getconn()
        except self._timed_out:
            raise SqlError(f"{self.shown} does not answer") from None
        except (self._closed, self._psycopg.Error) as error:
            raise SqlError(f"{self.shown}: {said(error)}") from None

    def give_back(self, connection: Any) -> None:
        self._pool.putconn(connection)

    def failed(self, error: Exception) -> Exception:
        """What is raised instead of an error of psycopg."""
        own = (self._psycopg.DataError, self._psycopg.IntegrityError)
        return (ValueError if isinstance(error, own) else SqlError)(said(error))

    @property
    def errors(self) -> Any:
        return self._psycopg.Error

    def _configure(self, connection: Any) -> None:
        sql = library("psycopg.sql", self.shown)
        connection.execute(sql.SQL("SET search_path TO {}").format(sql.Identifier(self._schema)))
        milliseconds = 1000 * STATEMENT_SECONDS
        for name in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"):
            connection.execute(f"SET {name} = {milliseconds}")

    def _make(self, words: str) -> None:
        """Make the tables where there are none; look at what is there. Raises InputError."""
        psycopg = self._psycopg
        sql = library("psycopg.sql", self.shown)
        try:
            with psycopg.connect(words, autocommit=True) as connection, connection.transaction():
                connection.execute("SELECT pg_advisory_xact_lock(%s)", (_MAKING,))
                name = sql.Identifier(self._schema)
                there = connection.execute(
                    "SELECT 1 FROM pg_namespace WHERE nspname = %s", (self._schema,)
                ).fetchone()
                if there is None:
                    connection.execute(sql.SQL("CREATE SCHEMA {}").format(name))
                connection.execute(sql.SQL("SET LOCAL search_path TO {}").format(name))
                if self._is_new(connection):
                    for statement in SCHEMA:
                        connection.execute(statement)
                self._require_plain(connection)
        except psycopg.errors.InsufficientPrivilege as error:
            raise InputError(
                f"{self.shown}: {said(error)}: let the servers' user make a schema, or make "
                f"{self._schema} and give it to that user"
            ) from None
        except psycopg.Error as error:
            raise InputError(f"{self.shown}: {said(error)}") from None

    def _is_new(self, connection: Any) -> bool:
        tables = {
            name
            for (name,) in connection.execute(
                "SELECT relname FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace "
                "WHERE nspname = %s AND relkind IN ('r', 'p', 'v', 'm', 'f') LIMIT 1000",
                (self._schema,),
            ).fetchall()
        }
        if not tables:
            return True
        form = None
        if "about" in tables:
            with suppress(self._psycopg.errors.UndefinedColumn), connection.transaction():
                row = connection.execute("SELECT form FROM about LIMIT 1").fetchone()
                form = row and row[0]
        if not isinstance(form, int):
            raise InputError(
                f"{self.shown}: its schema {self._schema} has tables that are not this program's: "
                "name another with ?schema=…"
            )
        if form != FORM:
            raise InputError(
                f"{self.shown}: its tables are of format {form}, not {FORM}: run a vicinal of "
                "their age, or name another schema with ?schema=…"
            )
        return False

    def _require_plain(self, connection: Any) -> None:
        """Nothing runs when a table is read or written. Raises InputError."""
        more = connection.execute(
            "SELECT (SELECT count(*) FROM pg_class WHERE relnamespace = n.oid "
            "AND relkind NOT IN ('r', 'i', 'S', 'c')) "
            "+ (SELECT count(*) FROM pg_trigger JOIN pg_class c ON c.oid = tgrelid "
            "WHERE c.relnamespace = n.oid AND NOT tgisinternal) "
            "+ (SELECT count(*) FROM pg_rules WHERE schemaname = n.nspname) "
            "+ (SELECT count(*) FROM pg_proc WHERE pronamespace = n.oid) "
            "FROM pg_namespace n WHERE nspname = %s",
            (self._schema,),
        ).fetchone()
        if more != (0,):
            raise InputError(
                f"{self.shown}: its schema {self._schema} has views, functions or triggers, which "
                "none of this program's has"
            )


@final
class PostgresTransactions:
    """As server.sql.statements.Transactions; each takes a connection of the pool.

    lock  a statement that waits until nobody else is in such a transaction; None: nobody waits
    """

    def __init__(self, database: Database, lock: str | None = None) -> None:
        self._database = database
        self._lock = lock
        self._connection: Any = None

    def begin(self) -> None:
        self.roll_back()
        self._connection = self._database.connection()
        try:
            self.execute("BEGIN")
            if self._lock is not None:
                self.execute(self._lock)
        except BaseException:
            self.roll_back()
            raise

    def commit(self) -> None:
        self.execute("COMMIT")
        self._give_back()

    def roll_back(self) -> None:
        if self._connection is not None:
            with suppress(SqlError, ValueError):
                self.execute("ROLLBACK")
            self._give_back()

    @contextmanager
    def part(self) -> Iterator[None]:
        self.execute("SAVEPOINT part")
        try:
            yield
        except SqlError:
            # Of a connection that is gone there is nothing to go back to.
            raise
        except BaseException:
            self.execute("ROLLBACK TO part")
            self.execute("RELEASE part")
            raise
        self.execute("RELEASE part")

    def execute(self, statement: str, values: Sequence[object] = ()) -> Any:
        try:
            return self._connection.execute(_psycopgs(statement), values or None)
        except self._database.errors as error:
            raise self._database.failed(error) from None

    def close(self) -> None:
        self.roll_back()

    def _give_back(self) -> None:
        connection, self._connection = self._connection, None
        self._database.give_back(connection)


@lru_cache(maxsize=512)
def _psycopgs(statement: str) -> str:
    return statement.replace("?", "%s")


def _parsed(address: str) -> tuple[str, str, str]:
    """What may be shown of it, what libpq is given, and the schema. Raises InputError."""
    if address.split("://", maxsplit=1)[0].lower() not in ("postgresql", "postgres") or (
        "://" not in address
    ):
        raise InputError(
            f"--database {one_line(address, 80)!r}: give postgresql://USER@HOST:PORT/DATABASE"
        )
    shown = one_line(hidden_secrets(address))
    require_no_secret(address)
    try:
        parts = urlsplit(address)
        words = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError as error:
        raise InputError(f"{shown}: is no address of a database ({error})") from None
    schema = next((value for name, value in words if name == "schema"), DEFAULT_SCHEMA)
    if not 0 < len(schema.encode()) < 64 or schema.startswith("pg_") or not schema.isprintable():
        raise InputError(f"{shown}: {schema[:70]!r} is no name of a schema")
    if any(name == "table" for name, _ in words):
        raise InputError(f"{shown}: leave table=… out: servers make tables of their own")
    rest = [(name, value) for name, value in words if name != "schema"]
    query = urlencode(rest, quote_via=quote)
    return shown, f"postgresql://{parts.netloc}{parts.path}{'?' if query else ''}{query}", schema
