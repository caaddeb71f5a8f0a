"""The laboratory's pictures show what its tables say, on a machine that was busy, too."""

import re
from pathlib import Path

import numpy as np
import pytest
from matplotlib.container import BarContainer
from matplotlib.figure import Figure

from common.errors import InputError
from sims.figures.style import save
from sims.latency import figures
from sims.latency.fit import SIDES
from sims.latency.page import page_of
from sims.latency.plan import plan_named
from sims.latency.redraw import costs_in, fleets_of, redraw
from sims.latency.report import SettingReport, as_json, setting_reports
from sims.latency.results import ScenarioResult
from sims.latency.table import Sheet, costs, fleets
from tests.support.latency_results import results_of

PLAN = plan_named(
    "quick",
    datasets=["synthetic:40x60"],
    models=["mf"],
    networks=["loopback", "4g", "3g"],
    loads=[0.3, 0.7],
    shares=[1.0, 0.5],
)


def report_of(server: float) -> SettingReport:
    """A server whose server-side answers took `server` of the time that a core was kept."""

    def busy(one: ScenarioResult) -> ScenarioResult:
        asked = {
            call: found.model_copy(
                update={
                    "processor_seconds": found.processor_seconds
                    * (server if call.endswith("Recommend") else 1)
                }
            )
            for call, found in one.asked.items()
        }
        return one.model_copy(update={"asked": asked})

    (part,) = setting_reports(PLAN, [busy(one) for one in results_of(PLAN)], interval=600)
    return part


def texts(figure: Figure, path: Path) -> str:
    save(figure, path)
    return " ".join(re.findall(r"<!-- (.*?) -->", path.read_text()))


def column(sheet: Sheet, head: str) -> list[str]:
    return [row[sheet.heads.index(head)] for row in sheet.rows]


@pytest.mark.parametrize("server", [1.0, 0.5])
def test_bars_of_cost_are_the_table_s_processor_time(server: float, tmp_path: Path) -> None:
    part = report_of(server)
    figure = figures.cost(part)
    (bars,) = (one for one in figure.axes[0].containers if isinstance(one, BarContainer))
    shown = [f"{bar.get_width():.2f}" for bar in bars]
    assert shown == column(costs(part), "server CPU s/1000") == [f"{10 * server:.2f}", "1.00"]
    written = texts(figure, tmp_path / "a.svg")
    assert f"takes {0.1 / server:.2f} of the" in written
    assert "n = 40 users, K = 50" in written and "(log scale)" in written


@pytest.mark.parametrize(("server", "cores"), [(1.0, 24), (0.5, 12)])
def test_cores_of_a_fleet_follow_processor_time(server: float, cores: int) -> None:
    part = report_of(server)
    # 10⁶ devices, one question in 600 s each: 1667 a second, 70 % busy.
    lines = {line.get_color(): line for line in figures.fleets(part).axes[0].get_lines()}
    drawn = lines[figures.COLORS["server"]].get_ydata()
    assert np.asarray(drawn)[-1] == cores
    sheet = fleets(part)
    table = [
        row[sheet.heads.index("cores")]
        for row in sheet.rows
        if row[:3] == ("1,000,000", "server", "loopback")
    ]
    assert table == [str(cores)]
    # Enough cores: nobody waits forever.
    assert "∞" not in "".join(column(sheet, "p50"))


def test_machine_and_processor_time_that_disagree_are_told(tmp_path: Path) -> None:
    line = "server: 100 req/s reached where processor time says 200"
    part = report_of(0.5)
    assert any(note.startswith(line) for note in costs(part).notes)
    (setting,) = as_json(PLAN, [part])["settings"]
    assert setting["saturation_by_processor_time"] == pytest.approx({"server": 200, "device": 1000})
    assert [one.partition(":")[0] for one in setting["disagreements"]] == ["server"]
    for name, picture in (("cost", figures.cost), ("fleets", figures.fleets)):
        assert line in texts(picture(part), tmp_path / f"{name}.svg")
    calm = report_of(1.0)
    assert not any("processor time says" in note for note in costs(calm).notes)
    assert "processor time says" not in texts(figures.cost(calm), tmp_path / "calm.svg")


@pytest.mark.parametrize("name", ["cost", "latency", "break_even", "fleets"])
def test_every_picture_names_its_scales_and_numbers(name: str, tmp_path: Path) -> None:
    figure = getattr(figures, name)(report_of(1.0))
    written = texts(figure, tmp_path / "a.svg")
    assert "synthetic:40x60 · mf · paper, k = 12" in written
    assert "n = 40 users, K = 50" in written
    for axes in figure.axes:
        scales = {axes.xaxis: axes.get_xlabel(), axes.yaxis: axes.get_ylabel()}
        for axis, label in scales.items():
            if axes.get_visible() and axis.get_scale() == "log":
                named = f"{label} {axes.get_title(loc='left')} {figure.axes[0].get_ylabel()}"
                assert "log scale" in named
            ticks = "".join(text.get_text() for text in axis.get_ticklabels())
            assert "^" not in ticks and "e+" not in ticks and "$" not in ticks


def test_marks_of_a_network_and_of_a_share_differ() -> None:
    part = report_of(1.0)
    looks = list(figures._looks(part).values())
    assert len({(str(one.dash), one.marker) for one in looks}) == len(looks) == 3
    marks = {
        (line.get_color(), line.get_marker())
        for line in figures.break_even(part).axes[0].get_lines()
        if line.get_linestyle() == "None"
    }
    assert len({marker for _, marker in marks}) == len({color for color, _ in marks}) == 3
    assert set(figures.COLORS) == set(SIDES)


def test_a_page_s_tables_are_enough_for_its_bars(tmp_path: Path) -> None:
    part = report_of(0.5)
    files = figures.draw(part, tmp_path)
    page = tmp_path / "page.md"
    page.write_text(page_of([part], files, page, command="x", apart=True))
    before = {path: path.read_text() for path in files}
    redrawn = redraw(page)
    assert {path.name.rpartition("-")[2] for path in redrawn} == {"cost.svg", "fleets.svg"}
    for path in redrawn:
        # The same picture: the numbers of this example are as round as a table prints them.
        assert path.read_text() == before[path]
    page.write_text("# nothing\n")
    with pytest.raises(InputError, match="links no picture"):
        redraw(page)


def test_the_committed_page_says_what_its_pictures_show() -> None:
    page = Path(__file__).parents[3] / "docs" / "latency.md"
    sections = page.read_text().split("\n## ")
    # Notes have no picture: how it was measured, and what became of it since.
    measured = [section for section in sections if "-cost.svg)" in section]
    assert measured
    for section in measured:
        costs = costs_in(section)
        assert costs is not None
        (stem,) = re.findall(r"\(latency/(\S+)-cost\.svg\)", section)
        drawn = (page.parent / "latency" / f"{stem}-cost.svg").read_text()
        for side in SIDES:
            assert f"<!-- {1000 * costs[side].spent:.2f} -->" in drawn
            (cores, _) = fleets_of(costs[side], 600)[-1]
            assert re.search(rf"\| 1,000,000 \| {side} \| .*\| {cores} \| ", section)
        assert "EXTRAPOLATED" in (page.parent / "latency" / f"{stem}-fleets.svg").read_text()
