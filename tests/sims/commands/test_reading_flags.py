"""Reading options as one process gives them to another."""

import json
from pathlib import Path
from typing import Any

import pytest

from server.data.reading_options import ReadingOptions
from sims.cli import run
from tests.support.own_files import lines

SAID: list[dict[str, Any]] = [
    {},
    {"columns": "user,item,rating,time", "drop_ratings": "0,-1,empty", "duplicates": "latest"},
    {"format": "movielens", "separator": "comma", "header": "no"},
    {"implicit": True, "columns": "user=1,item=2", "min_ratings": 3},
    {"scale": "0.5:5:0.5", "split": "latest", "encoding": "latin-1"},
]


@pytest.mark.parametrize("said", SAID)
def test_flags_say_what_was_said(
    said: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = {name: "," if value == "comma" else value for name, value in said.items()}
    options = ReadingOptions.of(**said)
    path = tmp_path / "ratings.csv"
    path.write_bytes(lines("{u},{i},{r},{t}"))
    assert run(["data", "describe", str(path), *options.as_flags(), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["reading"]
    assert ReadingOptions.of(**found) == options
