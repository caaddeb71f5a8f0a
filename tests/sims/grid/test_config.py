"""A grid's TOML: the cells it asks for, and what is refused with which line."""

import tomllib
from pathlib import Path

import pytest

from common.errors import InputError
from sims.evaluation.study import Study
from sims.grid.config import GridConfig, read_config
from sims.grid.results import cell_path

ROOT = Path(__file__).resolve().parents[3]
BASE = 'datasets = ["ml-100k"]\nattacks = ["random", "average"]\n'


def config_of(tmp_path: Path, text: str) -> GridConfig:
    path = tmp_path / "grid.toml"
    path.write_text(text)
    return read_config(path)


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.toml")), ids=lambda p: p.stem)
def test_committed_configs_have_known_keys(path: Path) -> None:
    config = GridConfig.model_validate(tomllib.loads(path.read_text()))
    assert len(config.cells()) >= 8


def test_every_combination_is_a_cell_once(tmp_path: Path) -> None:
    cells = config_of(tmp_path, BASE + "seeds = [0, 1]\n").cells()
    # Without rvd a preset changes nothing: none once, rvd with two presets.
    assert len(cells) == 2 * 2 * 3
    assert len({repr(cell) for cell in cells}) == len(cells)


def test_a_result_without_rvd_outlives_a_change_of_presets(tmp_path: Path) -> None:
    text = BASE + 'defenses = ["none", "rmf", "rvd", "rmf+rvd"]\n'
    paths = [
        {
            (cell.defense.name, cell.experiment.attack): cell_path(tmp_path, cell)
            for cell in config_of(tmp_path, text + changed).cells()
        }
        for changed in ('presets = ["paper"]', 'presets = ["vicinal"]', "neighbors = [7]")
    ]
    for key, path in paths[0].items():
        places = {path, *(other[key] for other in paths)}
        assert len(places) == (3 if "rvd" in key[0] else 1)


def test_the_paper_preset_takes_the_paper_s_k_unless_told_otherwise(tmp_path: Path) -> None:
    text = 'datasets = ["filmtrust"]\nattacks = ["random"]\ndefenses = ["rvd"]\n'
    ks = {cell.preset: cell.settings.neighbors for cell in config_of(tmp_path, text).cells()}
    assert ks["paper"] == 650
    text += "[k.paper.filmtrust]\nmf = 20\n[k.vicinal.filmtrust]\nmf = 30\n"
    ks = {cell.preset: cell.settings.neighbors for cell in config_of(tmp_path, text).cells()}
    assert ks == {"paper": 20, "vicinal": 30}


def test_ablations_go_through_their_values(tmp_path: Path) -> None:
    text = BASE + 'defenses = ["rvd"]\npresets = ["vicinal"]\nneighbors = [6, 60]\n'
    cells = config_of(tmp_path, text + "unrated_weights = [0.0, 0.5]\n").cells()
    found = {(cell.settings.neighbors, cell.settings.unrated_weight) for cell in cells}
    assert found == {(6, 0.0), (6, 0.5), (60, 0.0), (60, 0.5)}


def test_a_model_has_its_own_defenses_and_an_attack_its_options(tmp_path: Path) -> None:
    text = BASE + 'models = ["mf", "nsvd"]\ndefenses = ["none"]\n'
    text += '[model_defenses]\nmf = ["rmf"]\n[attack_options.random]\nknowledge = 0.5\n'
    cells = config_of(tmp_path, text).cells()
    assert {(cell.experiment.model, cell.defense.name) for cell in cells} == {
        ("mf", "rmf"),
        ("nsvd", "none"),
    }
    options = {cell.experiment.attack: cell.experiment.attack_options for cell in cells}
    assert options == {"random": {"knowledge": 0.5}, "average": {}}


def test_the_folder_s_name_follows_what_is_measured(tmp_path: Path) -> None:
    first = config_of(tmp_path, BASE)
    assert config_of(tmp_path, BASE + 'title = "x"\n').digest() == first.digest()
    assert config_of(tmp_path, BASE + "users = 9\n").digest() != first.digest()


def test_a_detector_expects_the_fakes_that_are_assumed(tmp_path: Path) -> None:
    text = BASE + 'defenses = ["pca+rvd"]\npresets = ["vicinal"]\n'
    for share, more in ((None, ""), (0.1, "assume_fakes = [0.1]\n")):
        study = Study(dataset="ml-100k", defense="pca+rvd", assume_fakes=share)
        assert config_of(tmp_path, text + more).cells()[0].defense == study.cell().defense


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (BASE + 'defences = ["rvd"]\n', "did you mean defenses?"),
        (BASE + 'models = ["fm"]\n', "did you mean mf?"),
        (BASE + 'presets = ["papers"]\n', "did you mean paper?"),
        (BASE + 'defenses = ["rvb"]\n', "unknown defense 'rvb'"),
        ('datasets = ["ml-100k"]\nattacks = ["avrage"]\n', "did you mean average?"),
        (BASE + "attack_size = 0.0\n", "attack_size: input should be greater than 0"),
        (BASE + "attack_size = 0.6\n", "attack_size: input should be less than or equal to 0.5"),
        (BASE + "seeds = []\n", "seeds: "),
        (BASE + '[model_defenses]\nnsvd = ["none"]\n', "model_defenses: unknown model 'nsvd'"),
        (BASE + '[model_defenses]\nmf = ["rvb"]\n', "unknown defense 'rvb'"),
        (
            BASE + "[attack_options.vicinity]\nhubs = 3\n",
            "attack_options: unknown attack 'vicinity'",
        ),
        (BASE + "[attack_options.random]\nknowlege = 0.4\n", "did you mean knowledge?"),
        (BASE + '[attack_options.random]\nknowledge = "all"\n', "give a number"),
        (BASE + "[k.vicinal.ml-1m]\nmf = 3\n", "k.vicinal: unknown data set 'ml-1m'"),
        (BASE + "[targets]\nml-10k = [1]\n", "did you mean ml-100k?"),
        (BASE + 'neighbors_by = ["rating"]\n', "space of neighbors 'rating': did you mean"),
        (BASE + "neighbors_by = [1]\n", "unknown space of neighbors '1'"),
        (BASE + 'metrics = ["hits"]\n', "unknown metric 'hits'"),
        (BASE + f"seeds = {list(range(9000))}\nneighbors = {list(range(1, 9000))}\n", "split the"),
        (BASE + f"seeds = {[0] * 9000}\nneighbors = {[1] * 9000}\n", "more than 100000 cells"),
        ("datasets = [", "not TOML"),
        ("a = " + "[" * 100_000, "not TOML"),
        ('attacks = ["random"]\n', "datasets: field required"),
    ],
)
def test_bad_input_is_one_line(tmp_path: Path, text: str, line: str) -> None:
    with pytest.raises(InputError) as caught:
        config_of(tmp_path, text)
    assert line in str(caught.value) and "\n" not in str(caught.value)
    assert str(tmp_path / "grid.toml") in str(caught.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        read_config(tmp_path / "no.toml")


def test_releases_are_asked_for_one_after_the_other(tmp_path: Path) -> None:
    rows = config_of(
        tmp_path, 'datasets = ["synthetic"]\nattacks = ["none"]\npresets = ["vicinal"]'
    )
    both = config_of(
        tmp_path,
        'datasets = ["synthetic"]\nattacks = ["none"]\npresets = ["vicinal"]\n'
        'releases = ["rows", "book"]',
    )
    assert [cell.release for cell in rows.cells()] == ["rows", "rows"]
    # What is not defended has neither rows nor a book.
    assert [cell.release for cell in both.cells()] == ["rows", "rows", "book"]
    paths = {cell_path(tmp_path, cell) for cell in both.cells()}
    assert len(paths) == 3
    assert {cell_path(tmp_path, cell) for cell in rows.cells()} < paths
