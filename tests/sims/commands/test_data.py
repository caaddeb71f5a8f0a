"""`vicinal data`, as a process."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


def data(*arguments: str, cache: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "VICINAL_DATA"}
    return subprocess.run(
        [sys.executable, "-m", "sims.cli", "data", *arguments],
        cwd=ROOT,
        env={**environment, "VICINAL_CACHE": str(cache), "COLUMNS": "80"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_describe_json_says_what_a_file_holds(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("user,item,rating,timestamp\nann,tea,4,0\nann,rum,5,86400\nbob,tea,1,5\n")
    done = data("describe", str(path), "--json", cache=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    said = json.loads(done.stdout)
    assert (said["users"], said["items"], said["ratings"]) == (2, 2, 3)
    assert said["density"] == 0.75
    assert said["scale"] == {"minimum": 1, "maximum": 5, "step": 1, "shift": 0}
    assert said["mean"] == pytest.approx(10 / 3)
    assert said["ratings_per_user"]["median"] == 1.5
    assert said["ratings_per_item"]["max"] == 2
    assert said["users_with_one_rating"] == 1
    assert said["items_with_1_to_4_ratings"] == 2
    assert said["timestamps"] == ["1970-01-01", "1970-01-02"]
    assert said["split"] == "random"
    assert said["source"] == f"file {path}"


def test_the_table_fits_a_terminal_of_80_columns(tmp_path: Path) -> None:
    path = tmp_path / ("[red]" + "long" * 30 + ".csv")
    path.write_text("ann,tea,40\n")
    done = data("describe", str(path), "--scale", "1:100", cache=tmp_path)
    assert done.returncode == 0, done.stderr
    assert max(len(line) for line in done.stdout.splitlines()) <= 80
    assert "[red]" in done.stdout
    assert "1–100 in steps of 1" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["describe", "nowhere.csv"], "nowhere.csv: no such file"),
        (["describe", "synthetic:5"], "write synthetic:USERSxITEMS"),
        (["describe", "synthetic:30x40", "--scale", "wide"], "write MIN:MAX:STEP"),
        (["fetch", "yelp"], "VICINAL_DATA/yelp"),
        (["fetch", "synthetic"], "choose one of ml-100k, ml-1m"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    tmp_path: Path, arguments: list[str], message: str
) -> None:
    done = data(*arguments, cache=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
