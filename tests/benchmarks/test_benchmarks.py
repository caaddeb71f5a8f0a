"""What benchmarks print, how they compare, and that a missed floor fails."""

import json
import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks import page
from benchmarks.cases import Shape, recommender
from benchmarks.report import Section, milliseconds, run, table
from benchmarks.serving.mapped import mapped_tables
from benchmarks.timing import in_turn
from benchmarks.tuning import stages
from common.versions.version import encode_version


@pytest.mark.parametrize(("missed", "code"), [([], 0), (["mf: 3 times, not 10"], 1)])
def test_a_missed_floor_fails_with_a_line(
    missed: list[str],
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "figures.json"
    monkeypatch.setattr("sys.argv", ["benchmark", "--short", "--json", str(file)])
    with pytest.raises(SystemExit) as end:
        run(lambda short: Section("## Heading", {"short": short}, missed))
    assert end.value.code == code
    printed = capsys.readouterr()
    assert printed.out == "## Heading\n"
    assert printed.err == "".join(f"below its floor: {line}\n" for line in missed)
    assert json.loads(file.read_text()) == {"short": True}


def test_tables_and_times_are_printed_as_markdown() -> None:
    text = table(("model", "ms"), [["mf", milliseconds(0.0123)], ["cdae", milliseconds(1.5)]])
    assert text == "| model | ms |\n|---|---:|\n| mf | 12.3 |\n| cdae | 1500 |"


def test_functions_are_timed_in_turn_on_the_same_inputs() -> None:
    calls: list[tuple[str, int]] = []

    def slow(given: int) -> int:
        calls.append(("slow", given))
        end = time.process_time() + 0.01
        while time.process_time() < end:
            pass
        return given

    def fast(given: int) -> int:
        calls.append(("fast", given))
        return -given

    timed = in_turn([slow, fast], [1, 2, 3, 4], budget=0, least=3)
    assert calls == [(name, i) for i in (1, 1, 2, 3) for name in ("slow", "fast")]
    assert timed.answers == [[1, -1], [2, -2], [3, -3]]
    assert timed.seconds.shape == (2, 3)
    assert timed.medians[0] > 3 * timed.medians[1]


def test_a_mapped_file_is_the_version_that_was_written(tmp_path: Path) -> None:
    version = recommender(Shape("tiny", "ml-100k", 20, 30, 200), "autorec").version
    path = tmp_path / "model.safetensors"
    path.write_bytes(encode_version(version.manifest, version.parameters))
    mapped = mapped_tables(path)
    assert mapped.keys() == version.parameters.keys()
    for name, rows in version.parameters.items():
        assert np.array_equal(mapped[name], rows) and not mapped[name].flags.writeable


def test_clocks_leave_out_what_inner_clocks_count() -> None:
    seconds: dict[str, float] = {"outer": 0.0, "inner": 0.0}

    def wait() -> None:
        end = time.process_time() + 0.02
        while time.process_time() < end:
            pass

    stack = [0.0]
    inner = stages._clocked(wait, "inner", seconds, stack)
    stages._clocked(inner, "outer", seconds, stack)()
    assert seconds["inner"] >= 0.02 > 2 * seconds["outer"]


def test_the_page_names_every_benchmark() -> None:
    folder = Path(page.__file__).parent
    commands = {
        ".".join(path.relative_to(folder).with_suffix("").parts)
        for path in folder.rglob("*.py")
        if "__main__" in path.read_text()
    }
    # What benchmarks start as processes of their own are no benchmarks.
    processes = {"page", "serving.mapped", "device.process", "scale.tasks", "scale.cut_short"}
    assert commands - processes == set(page.PARTS)


def test_a_kept_section_is_not_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measured: list[str] = []

    def printed(part: str, *, short: bool) -> str:
        measured.append(part)
        return f"## {part}, {short}\n"

    monkeypatch.setattr(page, "printed", printed)
    (tmp_path / "tuning.kernel.md").write_text("## measured before\n")
    page.page(short=True, folder=tmp_path)
    assert measured == list(page.PARTS[1:])
    said = capsys.readouterr().out
    assert (
        said.index("measured before")
        < said.index("## tuning.stages, True")
        < said.index("## serving.reports")
    )
    page.page(short=False, folder=tmp_path)
    assert len(measured) == len(page.PARTS) - 1
    assert capsys.readouterr().out == said
