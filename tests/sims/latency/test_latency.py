"""The latency laboratory: plans, results, tables, a whole run."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from common.errors import InputError
from server.data.reading_options import ReadingOptions
from sims.cli import run
from sims.latency.figures import draw
from sims.latency.measure import run_plan
from sims.latency.page import page_of
from sims.latency.plan import FULL, QUICK, Plan, Scenario, Setting, plan_named
from sims.latency.report import as_json, setting_reports
from sims.latency.results import read_scenario, scenario_path, write_scenario
from sims.latency.servers import serve_arguments
from sims.latency.table import sheets, summary
from sims.processes.workers import Workers
from tests.support.latency_results import OWN_MS, SERVICE_MS, result_of, results_of

ROOT = Path(__file__).resolve().parents[3]
SETTING = Setting("synthetic:40x60", "mf", "paper")
SMALL = plan_named(
    "quick",
    datasets=["synthetic:40x60"],
    models=["mf"],
    networks=["loopback"],
    loads=[0.3, 0.7],
    shares=[1.0, 0.5],
)


SMALL_BOOK = plan_named(
    "quick",
    book=True,
    datasets=["synthetic:40x60"],
    models=["mf"],
    networks=["loopback"],
    loads=[0.3, 0.7],
    shares=[1.0, 0.5],
)


def test_results_are_found_under_the_names_that_stored_ones_have() -> None:
    setting = Setting("ml-1m", "mf", "paper")
    scenario = Scenario(setting, "load", "device", share=0.5, load=0.3)
    assert scenario.digest == "737141c5caea8715e47f8bbe4cf5501f"
    assert Scenario(Setting("a", "b", "c", 3), "capacity").digest == (
        "dd9369432d956471082dc14f2cf026a8"
    )


def test_a_file_is_read_as_the_options_say() -> None:
    options = ReadingOptions.of(columns="item,user,rating", scale="1:5:1")
    plain = plan_named("quick", datasets=["ratings.csv"])
    plan = plan_named("quick", datasets=["ratings.csv"], reading=options)
    ((setting, scenarios), *_) = plan.servers().items()
    arguments = serve_arguments(setting, 1)
    place = arguments.index("--columns")
    assert arguments[place : place + 4] == ["--columns", "item,user,rating", "--scale", "1:5:1"]
    # Another reading is another measurement, and a result is found by what was measured.
    assert plan.digest != plain.digest
    names = [
        {each.digest for each in found} for one in (plan, plain) for found in one.servers().values()
    ]
    assert len(set.union(*names)) == sum(map(len, names))
    assert result_of(scenarios[0], 3).setting == setting
    found = as_json(plan, setting_reports(plan, results_of(plan), interval=600))
    assert found["settings"][0]["reading"] == options.told()


@pytest.mark.parametrize("plan", [QUICK, FULL])
def test_scenarios_of_a_plan_differ(plan: Plan) -> None:
    scenarios = [scenario for found in plan.servers().values() for scenario in found]
    assert len({scenario.digest for scenario in scenarios}) == len(scenarios)
    for found in plan.servers().values():
        assert found[0].kind == "capacity"
        assert {scenario.side for scenario in found if scenario.kind == "load"} == {
            "server",
            "device",
        }


def test_axes_replace_those_of_a_preset() -> None:
    plan = plan_named("full", models=["nsvd"], rates=[5.0], loads=None)
    (block,) = plan.blocks
    assert block.models == ("nsvd",) and block.networks == FULL.blocks[0].networks
    scenarios = [
        scenario
        for found in plan.servers().values()
        for scenario in found
        if scenario.kind == "load"
    ]
    assert {(scenario.rate, scenario.load) for scenario in scenarios} == {(5.0, 0.0)}
    assert plan_named("quick") is QUICK


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ["--network", "5g"],
            "unknown network '5g': choose one of loopback, wifi",
        ),
        (["--device-share", "0"], "device share 0: a share of a core lies above 0"),
        (["--device-share", "1.5"], "device share 1.5: a share of a core lies above 0"),
        (["--rate", "0"], "rate 0: ask for a number of requests a second above 0"),
        (["--load", "-1"], "rate -1: ask for a number"),
        (["--rate", "nan"], "rate nan: ask for a number"),
        (["--model", "svd"], "unknown model 'svd': did you mean nsvd? choose one of mf"),
        (["--settings", "best"], "unknown preset 'best': choose one of paper"),
        (["--k", "0"], "k must be at least 1"),
        (["--preset", "huge"], "unknown preset 'huge': choose one of quick, full"),
        (["--model", "mf", "--model", "mf"], "models mf, mf: name each once"),
        (["--seconds", "0"], "--seconds 0: give a number of seconds above 0"),
        (["--interval", "inf"], "--interval inf: give a number of seconds above 0"),
        (["--columns", "item,user"], "data set ml-100k: is made and not read: leave out columns"),
        (
            ["--dataset", "synthetic:40x60", "--scale", "1:5:1"],
            "data set synthetic:40x60: is made and not read: leave out scale",
        ),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["latency", *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and len(printed.err.splitlines()) == 1
    assert printed.err.startswith("vicinal: error: ") and line in printed.err


@pytest.mark.slow
def test_processes_fit_what_one_fits() -> None:
    plan = replace(SMALL, blocks=(replace(SMALL.blocks[0], ks=(5, 9)),))
    results = results_of(plan)
    told = [
        as_json(plan, setting_reports(plan, results, interval=600, workers=Workers(processes)))
        for processes in (1, 2)
    ]
    assert told[0] == told[1] and len(told[0]["settings"]) == 2


def test_results_are_read_as_written_and_damage_is_told(tmp_path: Path) -> None:
    scenario = Scenario(SETTING, "load", "device", share=0.5, load=0.3)
    assert read_scenario(tmp_path, scenario) is None
    written = result_of(scenario, 3)
    write_scenario(tmp_path, scenario, written)
    assert read_scenario(tmp_path, scenario) == written
    assert written.setting == SETTING
    for damage in ("{", "[]", '{"format": 1}', "[" * 100_000):
        scenario_path(tmp_path, scenario).write_text(damage)
        with pytest.raises(InputError, match="damaged; delete it"):
            read_scenario(tmp_path, scenario)


def test_a_book_is_timed_beside_rows_and_moves_none_of_their_results() -> None:
    axes: dict[str, Any] = {
        "datasets": ["ml-1m"],
        "models": ["mf", "autorec"],
        "shares": [1.0, 0.25],
    }
    rows = plan_named("quick", presets=["vicinal"], **axes)
    book = plan_named("quick", book=True, **axes)
    assert rows.digest == book.digest
    for setting, scenarios in book.servers().items():
        assert scenarios[:-2] == rows.servers()[setting]
        assert [(one.kind, one.share) for one in scenarios[-2:]] == [("book", 1.0), ("book", 0.25)]
    (part,) = setting_reports(SMALL_BOOK, results_of(SMALL_BOOK), interval=600)
    (sheet,) = [one for one in sheets(part) if "from a book" in one.title]
    assert [row[2:] for row in sheet.rows] == [("1.50", "1.50", "21.0"), ("1.50", "1.50", "41.0")]
    assert sheet.notes[-1].endswith("met.")
    (plain,) = setting_reports(SMALL, results_of(SMALL), interval=600)
    (with_book,), (without,) = summary([part]).rows, summary([plain]).rows
    assert with_book[-3:-1] == ("21.0", "1.5") and without[-3:-1] == ("21.0", "–")
    page = page_of([part], [], Path("x.md"), command="x", apart=True)
    assert "From a book a device answers in 1.50 ms (p50), and asks nobody." in page
    with pytest.raises(InputError, match="preset vicinal"):
        plan_named("quick", book=True, **axes, presets=["paper"])


def test_what_is_measured_is_not_measured_again(tmp_path: Path) -> None:
    for scenarios in SMALL.servers().values():
        for scenario in scenarios:
            write_scenario(tmp_path, scenario, result_of(scenario, 3))
    shown: list[tuple[str, int, int]] = []
    # No server is started: there would be a line of progress about it.
    results = run_plan(SMALL, tmp_path, lambda *line: shown.append(line))
    assert {line[0] for line in shown} == {"scenarios"} and shown[-1][1] == len(results)


def test_formulas_find_again_what_follows_them() -> None:
    (part,) = setting_reports(SMALL, results_of(SMALL), interval=600)
    fit = part.fit
    assert fit.service == pytest.approx({"server": 0.010, "device": 0.001})
    assert fit.spent == pytest.approx(fit.service)
    assert fit.processor_ratio == pytest.approx(0.1)
    assert fit.processor == pytest.approx(OWN_MS / 1000)
    assert part.error("p50") < 0.01
    fitted = [row.measured for row in part.rows if row.fitted]
    assert [(one.side, one.share, one.load) for one in fitted] == [("device", 1.0, 0.3)]
    # A device takes 21 ms and the server 10: it breaks even once half of its requests wait 11.
    even = {one.share: one.rate["p50"] for one in part.break_even}
    assert even[1.0] is not None and 70 < even[1.0] < 100
    assert even[0.5] is not None and even[1.0] < even[0.5] < 100
    # 10⁶ devices, one question in 600 s each: 1667 a second, 10 ms each, 70 % busy.
    (fleet,) = [one for one in part.fleets if one.devices == 10**6 and one.side == "server"][:1]
    assert fleet.rate == pytest.approx(1666.7, abs=0.1) and fleet.cores == 24


def test_what_is_extrapolated_says_so() -> None:
    parts = setting_reports(SMALL, results_of(SMALL), interval=600)
    found = json.loads(json.dumps(as_json(SMALL, parts), allow_nan=False))
    (setting,) = found["settings"]
    assert setting["processor_ratio"] == pytest.approx(0.1)
    assert setting["server_processor_seconds_saved_per_1000"] == pytest.approx(9.0)
    assert setting["fleets"] and all(one["extrapolated"] for one in setting["fleets"])
    # 70 requests a second were measured; the break-even lies above.
    assert all(one["extrapolated"]["p50"] for one in setting["break_even"])
    for sheet in sheets(parts[0]):
        if "break-even" in sheet.title:
            assert all(row[2].endswith("*") for row in sheet.rows)
            assert any(note.startswith("*: extrapolated") for note in sheet.notes)
        if "fleets" in sheet.title:
            assert "EXTRAPOLATED" in sheet.title


@pytest.mark.parametrize("answers", [3, 200])
def test_tables_fit_a_terminal(answers: int) -> None:
    (part,) = setting_reports(QUICK_SHAPED, results_of(QUICK_SHAPED, answers=answers), interval=600)
    stream = io.StringIO()
    console = Console(file=stream, width=80)
    for sheet in sheets(part):
        sheet.show(console)
    lines = stream.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    # Nothing is cut off.
    assert "…" not in stream.getvalue()
    assert any("goal 0.2: met" in line for line in lines)
    mark = "<" if answers < 100 else ""
    own = f"{OWN_MS + SERVICE_MS['device']:.1f}"
    assert any(f" {mark}{own} " in line for line in lines)


QUICK_SHAPED = replace(
    QUICK, blocks=(replace(QUICK.blocks[0], models=("autorec",), shares=(1.0, 0.25, 0.1)),)
)


def test_a_page_links_its_pictures(tmp_path: Path) -> None:
    parts = setting_reports(SMALL, results_of(SMALL), interval=600)
    files = draw(parts[0], tmp_path / "pictures")
    assert {file.stem.rpartition("k12-")[2] for file in files} == {
        *("latency", "cost", "break-even", "fleets")
    }
    page = page_of(
        parts, files, tmp_path / "latency.md", command="vicinal latency --page x", apart=True
    )
    for file in files:
        assert f"(pictures/{file.name})" in page and file.stat().st_size > 1000
    assert "\nvicinal latency --page x\n" in page
    assert "cores of their own" in page and "| device | loopback | 0.5 |" in page


def command(folder: Path, *more: str) -> list[str]:
    return [
        *(sys.executable, "-m", "sims.cli", "latency", "--dataset", "synthetic:40x60"),
        *("--model", "mf", "--network", "wifi", "--load", "0.5", "--device-share", "0.5"),
        *("--seconds", "0.5", "--release", "book", "--folder", str(folder), *more),
    ]


def left_of(folder: Path) -> list[str]:
    """Processes of a run that are still there."""
    mark, left = f"VICINAL_RUN={folder.resolve()}".encode(), []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if mark in (process / "environ").read_bytes().split(b"\0"):
                left.append((process / "cmdline").read_text())
    return left


@pytest.mark.slow
@pytest.mark.timeout(900)  # it trains and starts servers, twice
def test_an_interrupted_run_leaves_nothing_and_goes_on(tmp_path: Path) -> None:
    folder, environment = tmp_path / "run", {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command(folder), cwd=tmp_path, env=environment)
    try:
        deadline = time.monotonic() + 240
        while not (there := sorted((folder / "cells").glob("*.json"))):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        assert left_of(folder)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    finally:
        process.kill()
        process.wait()
    assert left_of(folder) == []
    before = {path: path.stat().st_mtime_ns for path in there}
    done = subprocess.run(
        command(folder, "-o", "pictures", "--json", "found.json", "--page", "page.md"),
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert left_of(folder) == []
    assert {path: path.stat().st_mtime_ns for path in there} == before
    assert "All settings" in done.stdout and max(map(len, done.stdout.splitlines())) <= 80
    (found,) = json.loads((tmp_path / "found.json").read_text())["settings"]
    assert {(one["side"], one["network"]) for one in found["measured"]} == {
        ("server", "wifi"),
        ("device", "wifi"),
    }
    # Arithmetic moved to devices costs the server less, on any machine; a trip takes its time.
    assert 0 < found["processor_ratio"] < 1
    assert all(one["ms"]["p50"] > 5 for one in found["measured"] if one["answers"])
    assert found["cold"][0]["model_bytes"] > 1000
    # Where nothing is asked, the trip takes no time.
    (book,) = found["books"]
    assert (book["share"], book["answers"] > 5) == (0.5, True)
    assert book["ms"]["p50"] < found["measured"][0]["ms"]["p50"]
    assert "answers from a book" in done.stdout
    assert len(list((tmp_path / "pictures").glob("*.svg"))) == 4
    assert "pictures/" in (tmp_path / "page.md").read_text()
