"""Pictures of a grid: what they show, what they say below, and what cannot be drawn."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from matplotlib.container import BarContainer

from common.errors import InputError
from sims.cli import run
from sims.figures.ablation import SWEPT, ablation
from sims.figures.bars import before_and_after, demo_outcomes, read_demo, wrapped
from sims.figures.embedding import experiment_of, points
from sims.figures.heat_map import heat_map
from sims.figures.outcomes import METRICS, outcomes_of, read_page
from sims.figures.scatter import marks_of, scatter
from sims.figures.style import save
from sims.grid.config import GridConfig
from sims.grid.page import page_of
from sims.grid.results import CELLS, CellResult
from tests.support.grid_results import CONDITIONS, SINCE_2, filled, result

DEFENSES = (("none", ""), ("rvd", "paper"), ("rvd", "vicinal"), ("rmf", ""), ("rmf+rvd", "vicinal"))
GRID = [
    result(
        attack=attack,
        defense=defense,
        preset=preset,
        seed=seed,
        # Without a defense, defended is undefended.
        hit_ratio=dict.fromkeys(CONDITIONS, 0.9)
        | ({"defended": 0.1 * place + 0.01 * seed} if place else {}),
        accuracy=dict.fromkeys(CONDITIONS, 0.3)
        | ({"defended": 0.2 + 0.1 * place + 0.01 * seed} if place else {}),
        min_support=24 if preset == "vicinal" else 1,
    )
    for place, (defense, preset) in enumerate(DEFENSES)
    for attack in ("aush", "tna")
    for seed in (0, 1, 2)
]
ABLATION = [
    result(attack=attack, k=k, hit_ratio=0.1 / k, unrated_weight=0.1, seed=seed)
    for attack in ("aush", "tna")
    for k in (6, 12, 25)
    for seed in (0, 1)
]
ALPHA = [
    one.model_copy(update={"k": 12, "unrated_weight": weight})
    for one, weight in zip(ABLATION, [0.0, 0.0, 0.1, 0.1, 0.5, 0.5] * 2, strict=True)
]

SIZES = [
    one.model_copy(update={"k": 12, "attack_size": size, "assumed_fakes": 0.03})
    for one, size in zip(ABLATION, [0.01, 0.01, 0.03, 0.03, 0.1, 0.1] * 2, strict=True)
]


def texts(path: Path) -> str:
    """What is written in an SVG: matplotlib keeps each text as a comment beside its shapes."""
    return "\n".join(re.findall(r"<!-- (.*?) -->", path.read_text()))


@pytest.mark.parametrize("kind", ["png", "svg"])
@pytest.mark.parametrize(
    ("name", "results"),
    [
        ("k-ablation", ABLATION),
        ("alpha-ablation", ALPHA),
        ("attack-sizes", SIZES),
        ("before-after", GRID),
        ("before-after", [result()]),
        ("heat-map", GRID),
        ("heat-map", [result()]),
        ("scatter", GRID),
        ("scatter", [result()]),
    ],
)
def test_figures(tmp_path: Path, name: str, results: list[CellResult], kind: str) -> None:
    folder, picture = filled(tmp_path / "grid", results), tmp_path / f"a.{kind}"
    attack = ["--attack", "aush"] if name == "before-after" else []
    assert run(["figure", name, str(folder), "-o", str(picture), *attack]) == 0
    data = picture.read_bytes()
    assert data.startswith(b"\x89PNG") if kind == "png" else b"<svg" in data
    if kind == "svg":
        told = texts(picture)
        assert "n = 10 users; K = 50" in told and "ml-100k" in told
        # One seed has no spread, and no caption says that there is one.
        several = len({one.seed for one in results}) > 1
        assert ("their standard deviation" in told) is several
        assert "seeds (0, 1" in told if several else "seed 0" in told
        if name.endswith(("ablation", "sizes")):
            assert "(log scale" in told
        again = tmp_path / "again.svg"
        assert run(["figure", name, str(folder), "-o", str(again), *attack]) == 0
        assert again.read_bytes() == data


def test_before_and_after_leaves_no_defense_out(tmp_path: Path) -> None:
    outcomes = outcomes_of(GRID, dataset=None, model=None)
    figure = before_and_after(outcomes, "aush")
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names == [
        "not attacked",
        "undefended",
        "rvd, preset paper\nk = 12, α = 0",
        "rvd, preset vicinal\nk = 12, α = 0, m = 24",
        "rmf",
        "rmf+rvd, preset vicinal\nk = 12, α = 0, m = 24",
        "popularity ranking",
    ]
    for axes, metric in zip(figure.axes, METRICS, strict=True):
        lengths = [
            float(bar.get_width())
            for container in axes.containers
            if isinstance(container, BarContainer)
            for bar in container
        ]
        expected = [0.9 if metric == "hit_ratio" else 0.3] * 2
        expected += [0.11, 0.21, 0.31, 0.41] if metric == "hit_ratio" else [0.31, 0.41, 0.51, 0.61]
        assert lengths == pytest.approx([*expected, expected[0]])
    save(figure, tmp_path / "a.svg")
    assert "0.110 ± 0.010" in texts(tmp_path / "a.svg")


def test_defenses_that_are_not_asked_for_are_named(tmp_path: Path) -> None:
    outcomes = outcomes_of(GRID, dataset=None, model=None).of_defenses(["rvd"])
    assert [row.partition(" ")[0] for row in outcomes.rows] == [
        "not",
        "popularity",
        "none",
        *["rvd"] * 2,
    ]
    assert outcomes.caption.endswith("Left out, as asked: rmf, rmf+rvd.")
    with pytest.raises(InputError, match="no results with defense apr: there are none"):
        outcomes.of_defenses(["apr"])
    folder = filled(tmp_path / "grid", GRID)
    command = ["figure", "before-after", str(folder), "--attack", "tna", "--defense", "rmf"]
    assert run([*command, "-o", str(tmp_path / "a.svg")]) == 0
    assert "Left out, as asked: rmf+rvd, rvd." in texts(tmp_path / "a.svg")


def test_a_folder_of_robust_trainings_alone_is_drawn(tmp_path: Path) -> None:
    folder = filled(tmp_path / "grid", [result(defense="rmf", preset="")])
    assert run(["figure", "before-after", str(folder), "-o", str(tmp_path / "a.svg")]) == 0
    assert "rmf" in texts(tmp_path / "a.svg")


def test_what_failed_is_said() -> None:
    failed = result(attack="tna", seed=3, error="no memory")
    outcomes = outcomes_of([*GRID, failed], dataset=None, model=None)
    assert "Left out, since they failed: 1 under tna." in outcomes.caption
    assert "seeds (0, 1, 2)" in outcomes.caption


def test_a_heat_map_holds_every_cell() -> None:
    figure = heat_map(outcomes_of(GRID, dataset=None, model=None))
    for axes, first in zip(figure.axes[:2], (0.11, 0.31), strict=True):
        (image,) = axes.images
        shown = np.asarray(image.get_array())
        assert shown.shape == (7, 2)
        assert shown[2].tolist() == pytest.approx([first, first])


def test_marks_of_a_scatter_differ() -> None:
    rows = outcomes_of(GRID, dataset=None, model=None).rows
    rows += ["rvd (vicinal, k = 40, α = 0.4)", "rvd (vicinal, k = 80, α = 0.4)"]
    assert len(set(marks_of(rows).values())) == len(rows)
    figure = scatter(outcomes_of(GRID, dataset=None, model=None))
    (legend,) = figure.legends
    assert len(legend.get_texts()) == 7


def test_options_and_support_tell_cells_apart() -> None:
    several = [
        result(attack="vicinity", attack_options={"hubs": hubs}, hit_ratio=hubs / 10)
        for hubs in (2, 4)
    ]
    outcomes = outcomes_of(several, dataset=None, model=None)
    assert outcomes.attacks == ["vicinity (hubs = 2)", "vicinity (hubs = 4)"]
    with pytest.raises(InputError, match=r"choose one with --attack 'vicinity \(hubs = 2\)' | '"):
        outcomes.of_attack("vicinity")
    (name,) = outcomes.of_attack("vicinity (hubs = 4)").attacks
    assert name.endswith("(hubs = 4)")
    assert outcomes_of(several[:1], dataset=None, model=None).of_attack("vicinity").attacks
    supports = [result(preset="vicinal", min_support=m) for m in (3, 9)]
    rows = outcomes_of(supports, dataset=None, model=None).rows
    assert [row for row in rows if "m = " in row] == [
        "rvd (vicinal, k = 12, α = 0, m = 3)",
        "rvd (vicinal, k = 12, α = 0, m = 9)",
    ]


def test_users_are_drawn_under_the_attack_that_was_measured() -> None:
    cell = result(attack="vicinity", attack_options={"hubs": 4}, targets=[5, 3])
    experiment = experiment_of(cell)
    assert experiment.attack_options == {"hubs": 4} and experiment.targets == (5, 3)
    old = cell.model_copy(update={"format": 1, **dict.fromkeys(SINCE_2)})
    with pytest.raises(InputError, match="format 1 do not keep the options of vicinity"):
        experiment_of(old)
    # A file of profiles has no options.
    assert experiment_of(old.model_copy(update={"attack": "file:x"})).attack == "file:x"
    with pytest.raises(InputError, match="choose another --attack"):
        experiment_of(result(attack="none"))


def test_users_and_fakes_have_markers_of_their_own(tmp_path: Path) -> None:
    layout = np.random.default_rng(0).normal(size=(30, 2))
    save(points(layout, 25, title="t", caption="n = 25"), tmp_path / "a.svg")
    assert "fakes" in texts(tmp_path / "a.svg")


def test_a_page_draws_what_its_grid_draws(tmp_path: Path) -> None:
    config = GridConfig(datasets=["ml-100k"], attacks=["aush", "tna"], seeds=[0, 1, 2])
    page = tmp_path / "tables.md"
    page.write_text(page_of(config, GRID, command="x", runs=[]))
    read, made = (
        read_page(page, dataset=None, model=None),
        outcomes_of(GRID, dataset=None, model=None),
    )
    assert (read.dataset, read.model, read.list_length) == ("ml-100k", "mf", 50)
    assert read.seeds == (0, 1, 2) and read.attacks == ["aush", "tna"]
    for (metric, row, attack), spread in made.values.items():
        if (metric, row) == ("hit_ratio", "popularity ranking") or "m = " in row:
            continue  # not on the page; a page does not name m
        assert read.values[metric, row, attack].mean == pytest.approx(spread.mean, abs=6e-4)
        assert read.values[metric, row, attack].deviation == pytest.approx(
            spread.deviation, abs=6e-4
        )
    for name in ("heat-map", "scatter", "before-after"):
        command = ["figure", name, str(page), "-o", str(tmp_path / f"{name}.svg")]
        assert run([*command, *(["--attack", "tna"] if name == "before-after" else [])]) == 0


def test_a_demo_is_drawn_small(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    conditions = ("clean", "undefended", "defended_vicinal", "popularity")
    told = {
        "dataset": "ml-100k",
        "model": "mf",
        "attack": "mixrand",
        "seed": 0,
        "split": "random",
        "users": 943,
        "hit_ratio": dict(zip(conditions, (0.0, 0.999, 0.0, 0.0), strict=True)),
        "accuracy": dict(zip(conditions, (0.2, 0.2, 0.5, 0.33), strict=True)),
    }
    figure = before_and_after(demo_outcomes(told), None)
    # 700 pixels of a page, at the 96 of an inch there.
    assert figure.get_size_inches()[0] * 96 <= 701
    assert not figure.axes[0].get_title() and len(figure.axes[0].get_yticklabels()) == 4
    (tmp_path / "results.json").write_text(json.dumps(told))
    assert read_demo(tmp_path).values == read_demo(tmp_path / "results.json").values
    assert run(["figure", "demo", str(tmp_path), "-o", str(tmp_path / "a.svg")]) == 0
    shown = texts(tmp_path / "a.svg")
    assert (
        "n = 943 users, random split; K = 50; seed 0." in shown and "rvd, preset vicinal" in shown
    )
    (tmp_path / "results.json").write_text("[]")
    assert run(["figure", "demo", str(tmp_path), "-o", str(tmp_path / "b.svg")]) == 2
    assert "no results of `vicinal demo`" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["k-ablatoin", "-o", "a.png"], "did you mean k-ablation?"),
        (["k-ablation", "-o", "a.pdf"], "ends in .png or .svg"),
        (["before-after", "-o", "a.png"], "choose one with --attack aush | tna"),
        (["k-ablation", "-o", "a.png", "--model", "cdae"], "no results with model cdae"),
        (["alpha-ablation", "-o", "a.png"], "one value of α, unrated weight: nothing to draw"),
    ],
)
def test_figures_that_cannot_be_drawn(
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    line: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    filled(tmp_path / "grid", ABLATION)
    assert run(["figure", arguments[0], "grid", *arguments[1:]]) == 2
    errors = capfd.readouterr().err
    assert line in errors and errors.count("\n") == 1
    assert not list(tmp_path.glob("a.*"))


def test_unlike_cells_are_not_averaged() -> None:
    mixed = [*ABLATION, result(k=50, list_length=10)]
    with pytest.raises(InputError, match="several values of list_length"):
        ablation(mixed, SWEPT["k-ablation"], dataset=None, model=None, preset=None)
    crossed = [*ABLATION, result(k=6, unrated_weight=0.5, attack="tna")]
    with pytest.raises(InputError, match=r"mix α = 0\.1, 0\.5 at one k"):
        ablation(crossed, SWEPT["k-ablation"], dataset=None, model=None, preset=None)
    with pytest.raises(InputError, match="several values of list_length"):
        outcomes_of(mixed, dataset=None, model=None)


@pytest.mark.parametrize("name", ["results.parquet", "tables.txt", "evaluation.json"])
def test_a_good_file_of_another_kind_is_not_called_damaged(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    folder = filled(tmp_path / "grid", GRID)
    (folder / name).write_bytes(b"PAR1 and so on")
    command = ["figure", "heat-map", str(folder / name), "-o", str(tmp_path / "a.png")]
    assert run(command) == 2
    errors = capfd.readouterr().err
    assert f"name the folder {folder}" in errors
    assert "delete" not in errors and errors.count("\n") == 1
    cell = next((folder / CELLS).glob("*.json"))
    assert run(["figure", "heat-map", str(cell), "-o", str(tmp_path / "a.png")]) == 0


def test_row_names_fit_beside_bars() -> None:
    assert wrapped("none") == "undefended"
    assert wrapped("rvd (paper)") == "rvd, preset paper"


def test_a_history_is_drawn_from_its_folder(tmp_path: Path) -> None:
    assert run(["figure", "history", str(tmp_path), "-o", str(tmp_path / "a.svg")]) == 2
    arguments = ["--dataset", "synthetic:48x40", "--attack-size", "0.1", "--list-length", "10"]
    arguments += ["--rounds", "2", "--attack-from", "2", "--clients", "4", "--k", "12"]
    arguments += ["--in-process", "--processes", "1", "--folder", str(tmp_path / "fleet")]
    assert run(["simulate", *arguments, "--store", str(tmp_path / "store")]) == 0
    assert run(["figure", "history", str(tmp_path / "fleet"), "-o", str(tmp_path / "a.svg")]) == 0
    assert texts(tmp_path / "a.svg") == texts(tmp_path / "fleet" / "history.svg")
    assert "attack begins" in texts(tmp_path / "a.svg")
