"""`vicinal report`: what the page holds, and what it must not do."""

import base64
import copy
import csv
import hashlib
import io
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from sims.cli import run
from sims.evaluation.study import Study, evaluate
from sims.grid.config import GridConfig
from sims.grid.results import CellResult, add_run, cell_path, read_results, write_result
from sims.grid.run import attack_profiles, run_group
from sims.recorded import recorded
from sims.reporting.document import Document
from sims.reporting.of_grid import config_of
from sims.reporting.writing import as_csv, manifest_of

CONFIG = GridConfig(
    datasets=["synthetic:60x90"],
    models=["mf", "nsvd"],
    attacks=["average", "random"],
    presets=["vicinal"],
    neighbors=[9],
    seeds=[0, 1],
    users=20,
)
SMALL = Study("synthetic:60x90", attack="average", k=9, users=10, list_length=9)
HOSTILE = '</script><img src=x onerror="alert(1)"> | `a` **b**\x1b[31m \u202egpj'


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("grid")
    cells = CONFIG.cells()
    for attack in CONFIG.attacks:
        for seed in CONFIG.seeds:
            part = [
                one
                for one in cells
                if (one.experiment.attack, one.experiment.seed) == (attack, seed)
            ]
            attacked = attack_profiles(part)
            for model in CONFIG.models:
                group = [one for one in part if one.experiment.model == model]
                found = run_group(group, folder / "stores", {}, attacked)
                for cell, result in zip(group, found, strict=True):
                    assert cell.defense.name == result.defense
                    write_result(cell_path(folder, cell), result)
    add_run(folder, seconds=61, processes=2, command="vicinal grid 'my grid.toml'")
    return folder


class Seen(HTMLParser):
    """Tags with their attributes, and the text outside of scripts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._within = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._within = tag

    def handle_data(self, data: str) -> None:
        if self._within not in ("script", "style"):
            self.text += data


def written(results: Path, folder: Path, *names: str) -> list[bytes]:
    paths = [folder / name for name in names]
    command = ["report", str(results)]
    for path in paths:
        command += ["-o", str(path)]
    assert run(command) == 0
    return [path.read_bytes() for path in paths]


def test_the_page_fetches_and_runs_nothing(grid: Path, tmp_path: Path) -> None:
    (page,) = written(grid, tmp_path, "report.html")
    seen = Seen(page.decode())
    scripts = [attributes for tag, attributes in seen.tags if tag == "script"]
    assert scripts == [{"type": "application/ld+json"}]
    assert not any(key.startswith("on") for _, attributes in seen.tags for key in attributes)
    sources = [one["src"] or "" for _, one in seen.tags if "src" in one]
    # Hit ratio against accuracy and a heat map, of two models.
    assert len(sources) == 4
    assert all(one.startswith("data:image/svg+xml;base64,") for one in sources)
    links = [one["href"] or "" for _, one in seen.tags if "href" in one]
    anchors = {one["id"] for _, one in seen.tags if "id" in one}
    assert links and {f"#{one}" for one in anchors} >= set(links)
    assert all(one.get("alt") for tag, one in seen.tags if tag == "img")
    assert b"default-src 'none'" in page


def test_the_page_has_every_number_of_the_grids_tables(grid: Path, tmp_path: Path) -> None:
    page, markdown = written(grid, tmp_path, "report.html", "report.md")
    text = Seen(page.decode()).text
    results = read_results(grid)
    for model in CONFIG.models:
        here = [
            one.hit_ratio["defended"]
            for one in results
            if (one.model, one.attack, one.defense) == (model, "average", "rvd")
        ]
        shown = f"{sum(here) / 2:.3f}"
        assert len(here) == 2 and shown in text and shown in markdown.decode()
    assert (
        "vicinal grid 'my grid.toml'" in text and "vicinal grid 'my grid.toml'" in markdown.decode()
    )
    assert "numpy" in text


def test_a_row_a_result(grid: Path, tmp_path: Path) -> None:
    (data,) = written(grid, tmp_path, "report.csv")
    rows = list(csv.DictReader(io.StringIO(data.decode())))
    results = read_results(grid)
    assert len(rows) == len(results) == 16
    told = sorted(float(row["hit_ratio_defended"]) for row in rows)
    assert told == sorted(one.hit_ratio["defended"] for one in results)


def test_the_manifest_names_every_file_by_its_digest(grid: Path, tmp_path: Path) -> None:
    (data,) = written(grid, tmp_path, "report.json")
    parts = {one["@id"]: one for one in json.loads(data)["@graph"]}
    named = {one["@id"] for one in parts["./"]["hasPart"]}
    there = {f"cells/{path.name}": path for path in (grid / "cells").iterdir()}
    assert named == set(there)
    for name, path in there.items():
        assert parts[name]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert parts["#run"]["name"] == "vicinal grid 'my grid.toml'"
    assert parts["ro-crate-metadata.json"]["about"] == {"@id": "./"}


def test_without_a_configuration_the_cells_say_what_was_asked(grid: Path) -> None:
    found = config_of(read_results(grid))
    assert (found.datasets, sorted(found.models)) == (CONFIG.datasets, CONFIG.models)
    assert (sorted(found.attacks), found.seeds) == (CONFIG.attacks, CONFIG.seeds)


def test_what_a_grid_has_not_come_to_is_told(grid: Path, tmp_path: Path) -> None:
    config, output = tmp_path / "grid.toml", tmp_path / "r.md"
    asked = CONFIG.model_dump(exclude_defaults=True)
    for seeds, missing in (([0, 1], 0), ([0, 1, 2], len(CONFIG.cells()) // 2)):
        lines = [
            f"{name} = {json.dumps(value)}" for name, value in {**asked, "seeds": seeds}.items()
        ]
        config.write_text("\n".join(lines))
        assert run(["report", str(grid), "--config", str(config), "-o", str(output)]) == 0
        told = f"{missing} of {3 * missing} cells of the configuration are not in the folder"
        text = output.read_text()
        assert told in text if missing else "not in the folder" not in text


def test_what_failed_is_on_the_page_and_hostile_names_are_text(grid: Path, tmp_path: Path) -> None:
    for path in (grid / "cells").iterdir():
        (tmp_path / "g" / "cells").mkdir(parents=True, exist_ok=True)
        (tmp_path / "g" / "cells" / path.name).write_bytes(path.read_bytes())
    one = read_results(grid)[0]
    broken = CellResult.model_validate(
        {**one.model_dump(), "dataset": HOSTILE, "model": HOSTILE, "error": f"lost {HOSTILE}"}
    )
    write_result(tmp_path / "g" / "cells" / "broken.json", broken)
    page, markdown, table = written(tmp_path / "g", tmp_path, "r.html", "r.md", "r.csv")
    seen = Seen(page.decode())
    assert "onerror" not in {key for _, attributes in seen.tags for key in attributes}
    assert [one for tag, one in seen.tags if tag == "img" and one.get("src") == "x"] == []
    assert "lost </script>" in seen.text and "\\u202egpj" in seen.text
    assert not {"\x1b", "\u202e"} & {*page.decode(), *markdown.decode()}
    assert "<img" not in markdown.decode() and "\x1b" not in markdown.decode()
    assert len(list(csv.reader(io.StringIO(table.decode())))) == 18


def test_a_spreadsheet_takes_no_cell_for_a_formula(tmp_path: Path) -> None:
    rows = ({"a": "=1+1", "b": -0.5}, {"a": "@x", "b": None})
    data = as_csv(Document("t", (), (), rows, ())).decode()
    assert data == "a,b\n'=1+1,-0.5\n'@x,\n"


def test_an_evaluation_has_intervals_targets_and_the_command(tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    words = ["evaluate", "--dataset", "synthetic:60x90", "--attack", "average"]
    words += ["--k", "9", "--users", "20"]
    store = ["--store", str(tmp_path / "store"), "--processes", "1"]
    assert run([*words, *store, "--json", str(result)]) == 0
    told = json.loads(result.read_text())
    assert set(told["run"]) == {"command", "versions", "git", "made"}
    page, markdown = written(result, tmp_path, "r.html", "r.md")
    text = Seen(page.decode()).text
    low, high = told["intervals"]["accuracy"]["defended"]
    assert f"{told['accuracy']['defended']:.3f} ± {(high - low) / 2:.3f}" in text
    assert all(f"{one['id']}: defended hit ratio" in text for one in told["target_items"])
    assert re.search(r"(Holds|Missed): hit ratio at most the clean model's", markdown.decode())


def test_pictures_are_xml_whatever_a_name_holds(
    grid: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = evaluate(SMALL, tmp_path / "store", processes=1).to_json()
    file, letters = tmp_path / "x.json", f"{HOSTILE} $x_{{1}}$ -- \u65e5\u672c"
    file.write_text(json.dumps({**told, "attack": letters, "dataset": letters}))
    for path in (grid / "cells").iterdir():
        one = {**json.loads(path.read_text()), "dataset": letters, "attack": letters}
        write_result(tmp_path / "cells" / path.name, CellResult.model_validate(one))
    capsys.readouterr()
    for results in (file, tmp_path):
        (page,) = written(results, tmp_path, "r.html")
        pictures = re.findall(r"svg\+xml;base64,([^\"]+)", page.decode())
        assert pictures
        for picture in pictures:
            ElementTree.fromstring(base64.b64decode(picture))
    assert "Glyph" not in capsys.readouterr().err


def test_a_result_that_is_damaged_in_one_place_is_one_line_or_a_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = {**evaluate(SMALL, tmp_path / "store", processes=1).to_json(), "run": recorded()}
    file, page = tmp_path / "x.json", tmp_path / "r.html"
    wrong: list[Any] = [None, [[1]]]
    for places in (("run",), ("run", "versions"), ("run", "command"), ("run", "versions", "numpy")):
        for value in wrong:
            damaged = copy.deepcopy(told)
            at = damaged
            for name in places[:-1]:
                at = at[name]
            at[places[-1]] = value
            file.write_text(json.dumps(damaged))
            # Without how it was made, which is what earlier versions wrote.
            assert run(["report", str(file), "-o", str(page), "-o", f"{page}.json"]) == 0
            json.loads(Path(f"{page}.json").read_text())
    capsys.readouterr()
    ends = copy.deepcopy(told)
    ends["intervals"]["accuracy"]["defended"] = [10**400, 1]
    for damaged in (ends, {**told, "seed": math.nan}):
        file.write_text(json.dumps(damaged))
        assert run(["report", str(file), "-o", str(page)]) == 2
        assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "not JSON"),
        ("[1]", "name a grid's folder"),
        ('{"hit_ratio": 1, "accuracy": 2}', "no result of"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_what_is_no_result_is_one_line(
    content: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x.json"
    path.write_text(content)
    assert run(["report", str(path), "-o", str(tmp_path / "r.html")]) == 2
    error = capsys.readouterr().err
    assert told in error and error.count("\n") == 1
    assert not (tmp_path / "r.html").exists()


def test_bad_requests_write_nothing(
    grid: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words, told in (
        ([str(grid), "-o", str(tmp_path / "r.pdf")], "ends in .html, .md, .csv, .json"),
        ([str(tmp_path / "nothing"), "-o", str(tmp_path / "r.md")], "no such file"),
        ([str(tmp_path), "-o", str(tmp_path / "r.md")], "name a grid's folder"),
        ([str(grid / "cells"), "-o", str(tmp_path / "r.md")], "name a grid's folder"),
    ):
        assert run(["report", *words]) == 2
        error = capsys.readouterr().err
        assert told in error and error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_manifest_is_whole_without_files() -> None:
    found = manifest_of(Document("t", ("s",), (), (), ()))
    ids = [one["@id"] for one in found["@graph"]]
    assert len(ids) == len(set(ids)) == 4
