"""`vicinal certify`: from a command to a table and a JSON file."""

import json
from pathlib import Path

import pytest

from server.data.datasets import load_dataset
from sims import recorded
from sims.cli import run
from sims.commands.certify import KEYS
from sims.evaluation.certified import USERS_PER_TASK
from tests.support.result_keys import differences

SMALL = ["certify", "--dataset", "synthetic:80x120"]


def test_the_table_and_the_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "c.json"
    asked = ["--assume-fakes", "5%", "--fakes", "10%,2,5%", "--users", "30", "--json", str(output)]
    assert run([*SMALL, *asked]) == 0
    shown = capsys.readouterr().out
    assert "pairwise" in shown and "30 of 80 users" in shown
    assert all(len(line) <= 80 for line in shown.splitlines())
    told = json.loads(output.read_text())
    names = told["run"]["versions"]
    assert differences(told, KEYS | recorded.KEYS, NAME=names) == set()
    assert [(row["form"], row["fakes"]) for row in told["rows"]] == [
        (form, fakes) for form in ("any", "pairwise") for fakes in (2, 4, 8)
    ]
    # 5 % of 82 accounts, rounded up, and the margin of so few users.
    assert told["rows"][0]["required_raters"] == 5 + 1
    for form in (told["rows"][:3], told["rows"][3:]):
        assert form[0]["pairs"] >= form[1]["pairs"] >= form[2]["pairs"]


def test_processes_share_users_and_find_the_same(tmp_path: Path) -> None:
    told = []
    for processes in ("1", "2"):
        output = tmp_path / f"{processes}.json"
        assert run([*SMALL, "--processes", processes, "--json", str(output)]) == 0
        told.append({**json.loads(output.read_text()), "run": {}})
    assert told[0] == told[1] and told[0]["users"] == 80 > USERS_PER_TASK


def test_what_assuming_costs_stands_below(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "c.json"
    shares = ["--assume-fakes", "1%,30%", "--users", "5", "--json", str(output)]
    assert run([*SMALL, *shares]) == 0
    assert "What it costs to assume them" in capsys.readouterr().out
    few, many = json.loads(output.read_text())["assumed"]
    counts = load_dataset("synthetic:80x120").ratings.item_counts()
    for row in (few, many):
        left = counts[counts >= row["required_raters"]]
        assert row["items"] == len(left)
        assert row["ratings"] == pytest.approx(left.sum() / counts.sum())
    assert many["ratings"] < few["ratings"]


def test_embeddings_have_the_weaker_form_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*SMALL, "--neighbors-by", "embedding"]) == 0
    assert "pairwise" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--preset", "paper"], "certify nothing: give --assume-fakes a share"),
        (["--fakes", "many"], "give numbers of fakes, or shares of the accounts"),
        (["--fakes", "9" * 25], "choose at most 10000000000"),
        (["--fakes", "9" * 5000], "choose at most 10000000000"),
        (["--fakes", ","], "give numbers or shares, as in 10,3%"),
        (["--assume-fakes", "60%"], "assumed fakes must be a share in 0–0.5"),
        (["--assume-fakes", ","], "give a share, as in 3% or 0.03"),
    ],
)
def test_mistakes_are_one_line(
    options: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*SMALL, *options]) == 2
    error = capsys.readouterr().err
    assert line in error and error.count("\n") == 1
