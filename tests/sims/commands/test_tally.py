"""`vicinal tally`: what devices reported, from a file and from a server."""

import csv
import json
import re
import threading
import time
from pathlib import Path

import pytest

from common.ranking import Counts
from common.vicinal.settings import preset
from server.data.datasets import load_dataset
from server.data.growth import ids_file, keep_ids
from server.data.reading_options import ReadingOptions
from server.reports.report import RandomizedAnswers, Report
from server.reports.tally import STEP, Tally, measured_by
from server.trust.receipts import Receipts
from server.trust.tokens import TokenKeys, read_token_keys
from sims import cli
from sims.commands import tally_report
from tests.support.gates import make_gate
from tests.support.receipts import KEY, receipt, report_request
from tests.support.serving import Endpoint, make_scene

VERSION = "f00d" * 16
SECRET = "s" * 64
ONE = Counts((1, 1), (0, 1), 1, 1, on_device=1)


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    code = cli.run(["tally", *map(str, arguments)])
    said = capsys.readouterr()
    return code, said.out, said.err


def filled(path: Path, reports: int) -> Tally:
    """Half of the reports are randomized."""
    measured = measured_by({"vicinal": preset("vicinal", model="mf")}, (12, 1680), 50)
    tally = Tally(users=10, eligible=(9, 8), measured=measured, path=path)
    for number in range(reports):
        answers = RandomizedAnswers(1.0, (number % 3,), (number % 2,)) if number % 2 else None
        shown = (receipt(number),)
        counts = Counts((), (), on_device=1) if answers else ONE
        report = Report(
            "" + VERSION, "vicinal", str(number), counts, answers, shown, (), number % 32
        )
        assert tally.submit(report).result()
    return tally


def test_a_file_is_shown_in_80_columns_beside_its_server(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    path, written = tmp_path / "store" / "tally.sqlite", tmp_path / "out.json"
    with filled(path, 70):
        code, out, err = run(capsys, "show", "--store", path.parent, "--robust", "--json", written)
    assert (code, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 80
    for text in (VERSION[:12], "item 1680", "1.0000 of 35", "ε = 1", "± ", "70", "trimmed"):
        assert text in out, out
    (one,) = json.loads(written.read_text())
    assert (one["reports"], one["watched"], one["list_length"]) == (70, [12, 1680], 50)
    assert (one["hit_ratio"], one["accuracy"]) == (0.5, 1.0)
    assert set(one["robust"]) == {"hit_ratio", "accuracy"}
    names = {re.sub(r"\[\]\.(\w+).*", r"\1", name) for name in tally_report.KEYS}
    assert names == set(one)


def test_everything_is_exported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, output = tmp_path / "t.sqlite", tmp_path / "out.csv"
    filled(path, 61).close()
    code, out, _ = run(capsys, "export", "--tally", path, "--format", "csv")
    assert code == 0
    rows = list(csv.DictReader(out.splitlines()))
    found = {(row["what"], row["item"], row["epsilon"]): row for row in rows}
    assert found["reports", "", ""]["value"] == "61"
    assert found["hit_ratio", "1680", ""]["value"] == "1.0"
    assert float(found["hit_ratio", "12", "1.0"]["error"]) > 0
    assert run(capsys, "export", "--tally", path, "-o", output)[:2] == (0, "")
    assert json.loads(output.read_text())[0]["reports"] == 61
    assert run(capsys, "export", "--tally", path, "--format", "xml")[0] == 2


def test_what_is_no_tally_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"no tally")
    for path in (other, tmp_path / "none"):
        code, out, err = run(capsys, "show", "--tally", path)
        assert (code, out, err.count("\n")) == (2, "", 1) and str(path) in err
    assert not (tmp_path / "none").exists()


def test_a_server_tells_its_operator_in_steps(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scene = make_scene(tmp_path)
    keys, token = TokenKeys({"k": SECRET}), tmp_path / "token"
    service = scene.service()
    with Endpoint(service, gates=[make_gate(scene, keys)]) as endpoint:
        asked = ("show", "--server", endpoint.address, "--token", token)
        token.write_text(keys.token(range(5), days=1))
        token.chmod(0o600)
        code, _, err = run(capsys, *asked)
        assert code == 2 and "operator" in err
        token.write_text(keys.operator_token(days=1))
        code, out, _ = run(capsys, *asked)
        assert code == 0 and out.count("fewer than 100") == 3
        version = scene.description().version
        for number in range(STEP):
            users = [number % 40]
            request = report_request(Receipts(KEY), version, "paper", str(number), users, hits=1)
            counts = Counts((1, 1), (1, 1), 1, 1, on_device=1)
            service.tally.add(version, "paper", request.key, counts)
        code, out, _ = run(capsys, *asked, "--robust")
    assert code == 0 and out.count("fewer than 100") == 2 and "1.0000 of 100" in out


def test_watch_says_what_changed_until_it_is_interrupted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, looks = tmp_path / "t.sqlite", []

    with filled(path, 3) as tally:

        def sleep(seconds: float) -> None:
            looks.append(seconds)
            if len(looks) == 2:
                tally.add(VERSION, "vicinal", "new", ONE)
            if len(looks) == 4:
                raise KeyboardInterrupt

        monkeypatch.setattr(time, "sleep", sleep)
        threads = threading.active_count()
        code, out, _ = run(capsys, "watch", "--tally", path, "--every", "0.5")
    assert (code, looks) == (0, [0.5] * 4)
    assert len(re.findall(r"^\d{4}-\d\d-\d\d ", out, re.MULTILINE)) == 2
    assert threading.active_count() <= threads


def test_a_token_is_for_the_user_who_has_an_id(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    secret, ratings, store = tmp_path / "secret", tmp_path / "ratings.csv", tmp_path / "store"
    ratings.write_text("item,user,rating\np,zoe,4\nq,adam,5\nr,zoe,1\n")
    columns = ("--columns", "item,user,rating")
    ids = ids_file(store, str(ratings), ReadingOptions.of(columns=columns[1]))
    keep_ids(ids, load_dataset(str(ratings)).ratings)
    told = ("token", "--secret", str(secret), "--new-key", "--store", str(store))
    asked = (*told, "--dataset", str(ratings), *columns)
    for name, index in (("id:zoe", 1), ("id:adam", 0), ("1", 1)):
        assert cli.run([*asked, "--user", name]) == 0
        made = capsys.readouterr().out.strip()
        assert read_token_keys(secret).users(made) == range(index, index + 1)
    for name, line in (("id:eve", "no user has the id 'eve'"), ("0-1", "is a range: give --users")):
        assert cli.run([*asked, "--user", name]) == 2
        assert line in capsys.readouterr().err
    assert cli.run([*told, "--user", "id:zoe"]) == 2
    assert "says --dataset" in capsys.readouterr().err


@pytest.mark.parametrize("more", [("--user", "3"), ("--users", "0-9")])
def test_an_operators_token_is_for_no_user(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...]
) -> None:
    secret = tmp_path / "secret"
    assert cli.run(["token", "--secret", str(secret), "--new-key", "--operator"]) == 0
    token = capsys.readouterr().out.strip()
    keys = TokenKeys(dict([secret.read_text().split()]))
    assert keys.of_operator(token)
    assert cli.run(["token", "--secret", str(secret), "--operator", *more]) == 2
    assert "for no user" in capsys.readouterr().err
