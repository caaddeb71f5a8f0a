"""The tables of servers that share a PostgreSQL database, in a schema of their own.

    about        one row: which form these tables have, of which data set, and what is served
    secrets      keys that all servers have: of receipts, and of devices
    token_keys   keys that bearer tokens are signed with; the newest signs
    servers      who is there: seen by the database's clock, and how new a version it holds
    lease        one row: who trains, until when, the number of its turn, and how many trainings
                 were asked for and are done
    versions     what was published: its files by SHA-256, and from when on it is the current one
    shown, shown_to, shown_of   who was shown whom in a day, and both numbers of them

The others are the tally's (server.reports.tally_tables). `measured` says what the sums of a digest
were measured with: PostgreSQL has no index on texts that are so long.
"""

from typing import Final

FORM: Final = 1
_WHOSE: Final = "version text, preset text, measured text"
SCHEMA: Final = (
    "CREATE TABLE about (one boolean PRIMARY KEY DEFAULT true CHECK (one), form bigint NOT NULL, "
    "dataset text, served text)",
    f"INSERT INTO about (form) VALUES ({FORM})",
    "CREATE TABLE secrets (name text PRIMARY KEY, secret bytea NOT NULL)",
    "CREATE TABLE token_keys (name text PRIMARY KEY, secret text NOT NULL, "
    "added bigint GENERATED ALWAYS AS IDENTITY)",
    "CREATE TABLE servers (name text PRIMARY KEY, address text NOT NULL, "
    "seen timestamptz NOT NULL, holds bigint NOT NULL)",
    "CREATE TABLE lease (one boolean PRIMARY KEY DEFAULT true CHECK (one), "
    "holder text, expires timestamptz NOT NULL DEFAULT '-infinity', "
    "fence bigint NOT NULL DEFAULT 0, wanted bigint NOT NULL DEFAULT 0, "
    "done bigint NOT NULL DEFAULT 0)",
    "INSERT INTO lease DEFAULT VALUES",
    "CREATE TABLE versions (digest text PRIMARY KEY, publication bigint UNIQUE NOT NULL, "
    "edition bigint NOT NULL, files text NOT NULL, fence bigint NOT NULL, "
    "staged timestamptz NOT NULL DEFAULT now(), activates timestamptz, replaced timestamptz)",
    "CREATE TABLE shown (day bigint, viewer bigint, neighbor bigint, "
    "PRIMARY KEY (day, viewer, neighbor))",
    "CREATE TABLE shown_to (day bigint, viewer bigint, neighbors bigint NOT NULL, "
    "PRIMARY KEY (day, viewer))",
    "CREATE TABLE shown_of (day bigint, neighbor bigint, viewers bigint NOT NULL, "
    "PRIMARY KEY (day, neighbor))",
    "CREATE TABLE measured (digest text PRIMARY KEY, measured text NOT NULL)",
    f"CREATE TABLE totals ({_WHOSE}, reports bigint NOT NULL, counts text NOT NULL, "
    "PRIMARY KEY (version, preset, measured))",
    f"CREATE TABLE shards ({_WHOSE}, shard bigint, reports bigint NOT NULL, "
    "counts text NOT NULL, PRIMARY KEY (version, preset, measured, shard))",
    f"CREATE TABLE randomized ({_WHOSE}, epsilon double precision, answers text NOT NULL, "
    "PRIMARY KEY (version, preset, measured, epsilon))",
    f"CREATE TABLE published ({_WHOSE}, sums text NOT NULL, "
    "PRIMARY KEY (version, preset, measured))",
    "CREATE TABLE keys (key text PRIMARY KEY, came bigint NOT NULL)",
    "CREATE INDEX keys_by_age ON keys (came)",
    "CREATE TABLE spent (issued bigint, nonce bigint, stale bigint, "
    "PRIMARY KEY (issued, nonce, stale))",
    "CREATE TABLE state (now bigint NOT NULL, keys bigint NOT NULL, spent bigint NOT NULL, "
    "oldest bigint NOT NULL)",
    "INSERT INTO state VALUES (0, 0, 0, 0)",
)
