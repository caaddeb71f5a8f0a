"""`vicinal token`, `tally` and `serve` with a database that servers share."""

import json
from pathlib import Path

import pytest

from common.ranking import Counts
from common.vicinal.settings import preset
from server.reports.report import Report
from server.reports.tally import Tally, measured_by
from server.sql.postgresql import Database
from server.trust.token_tables import read_shared_keys
from sims import cli
from sims.processes.postgresql import PostgreSQL
from tests.support.places import new_schema

ONE = Counts((1, 1), (0, 1), 1, 1, on_device=1)


@pytest.fixture
def address(postgresql: PostgreSQL) -> str:
    return postgresql.database(new_schema())


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    code = cli.run([*map(str, arguments)])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_tokens_are_made_with_the_keys_of_a_database(
    address: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, _, err = run(capsys, "token", "--database", address, "--users", "0-9")
    assert (code, "holds no token keys" in err) == (2, True)
    token = tmp_path / "token"
    made = ("token", "--database", address, "--new-key", "--users", "0-9", "-o", token)
    code, out, err = run(capsys, *made)
    assert (code, out) == (0, "") and "stands first in postgresql://" in err
    assert PostgreSQL.PASSWORD not in err
    with Database(address) as database:
        assert read_shared_keys(database).users(token.read_text().strip()) == range(10)
    both = ("token", "--database", address, "--secret", tmp_path / "secret", "--users", "0-9")
    for arguments in (both, ("token", "--users", "0-9")):
        code, _, err = run(capsys, *arguments)
        assert (code, "give --secret FILE, or --database" in err) == (2, True)


def test_a_tally_is_read_beside_the_servers_that_count(
    address: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    measured = measured_by({"vicinal": preset("vicinal", model="mf")}, (12, 1680), 50)
    with Database(address) as database:
        tally = Tally(users=10, eligible=(9, 8), measured=measured, database=database)
        for number in range(5):
            assert tally.submit(Report("f" * 64, "vicinal", str(number), ONE)).result()
        out = tmp_path / "out.json"
        assert run(capsys, "tally", "show", "--database", address, "--json", out)[0] == 0
        tally.close()
    (told,) = json.loads(out.read_bytes())
    assert (told["reports"], told["watched"], told["list_length"]) == (5, [12, 1680], 50)
    code, _, err = run(capsys, "tally", "show", "--database", address, "--tally", out)
    assert (code, "give one of" in err) == (2, True)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--database", "{address}"), "give --database and --versions together"),
        (("--versions", "/nowhere"), "give --database and --versions together"),
        (("--database", "{address}", "--versions", "here"), "give a whole path"),
        (
            ("--database", "{address}", "--versions", "/nowhere", "--tally", "t"),
            "give --tally or --database, not both",
        ),
        (("--database", "{address}", "--versions", "/nowhere"), "holds no token keys"),
        (
            ("--database", "postgresql://ann:pw@h/d", "--versions", "/nowhere"),
            "a password here would stand",
        ),
    ],
)
def test_what_cannot_be_shared_is_said_before_anything_is_trained(
    address: str, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], text: str
) -> None:
    given = [one.format(address=address) for one in options]
    code, _, err = run(capsys, "serve", "--dataset", "synthetic:30x20", "--port", "0", *given)
    assert (code, text in err, err.count("\n")) == (2, True, 1)
    assert "pw" not in err and PostgreSQL.PASSWORD not in err
