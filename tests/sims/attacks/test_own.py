"""An attack of one's own: found, held to the contract, and every mistake is one clear line."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.errors import InputError
from common.ratings import RatingMatrix, RatingScale
from server.data.synthetic import synthetic
from sims.attacks import make_profiles
from sims.attacks.own import own_attack
from sims.evaluation.study import Study
from sims.functions import load_function, resolved, stable
from sims.grid.config import read_config
from sims.grid.results import cell_path

RATINGS = synthetic(60, 80, seed=0)
TABLE = """
import numpy as np

def praise(ratings, targets, budget, *, rng, noise: float = 0.0):
    table = np.zeros((budget.fakes, ratings.item_count))
    table[:, list(targets)] = ratings.scale.maximum
    return table
"""


def praise(ratings: RatingMatrix, targets: Any, budget: Any, *, rng: Any) -> Any:
    table = np.zeros((budget.fakes, ratings.item_count))
    table[:, list(targets)] = ratings.scale.maximum
    return table


def made(function: Any, name: str = "mine", **options: Any) -> RatingMatrix:
    attack = own_attack(function, name)
    return make_profiles(
        name, RATINGS, seed=0, attack_size=0.1, options=options, attack=attack
    ).ratings


def changed(change: Callable[[Any], Any]) -> Callable[..., Any]:
    def attack(ratings: RatingMatrix, targets: Any, budget: Any, *, rng: Any) -> Any:
        return change(praise(ratings, targets, budget, rng=rng))

    return attack


def at(row: int, column: int, value: float) -> Callable[[Any], Any]:
    def change(table: Any) -> Any:
        table[row, column] = value
        return table

    return change


def test_a_table_and_a_matrix_are_the_same_attack() -> None:
    def matrix(ratings: RatingMatrix, targets: Any, budget: Any, *, rng: Any) -> RatingMatrix:
        users, items = np.nonzero(praise(ratings, targets, budget, rng=rng))
        return RatingMatrix.from_triples(
            users, items, np.full(len(users), 4), user_count=budget.fakes,
            item_count=80, scale=ratings.scale,
        )  # fmt: skip

    assert made(praise).digest() == made(matrix).digest()
    assert made(praise).user_count == 6


def test_the_same_seed_gives_the_same_numbers_by_any_name(tmp_path: Path) -> None:
    def noise(ratings: RatingMatrix, targets: Any, budget: Any, *, rng: Any) -> Any:
        table = praise(ratings, targets, budget, rng=rng)
        table[:, rng.choice(np.setdiff1d(np.arange(80), targets), 3, replace=False)] = 2
        return table

    path = made(noise, f"{tmp_path}/any.py:noise#0123456789ab")
    assert path.digest() == made(noise, "noise").digest() != made(noise, "other").digest()


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (changed(lambda table: table[:, :-1]), "gives 79 items, where the data has 80"),
        (changed(lambda table: np.vstack([table, table])), r"gives 12 fakes: give 1–6"),
        (changed(lambda table: table[:0]), "gives 0 fakes: give 1–6"),
        (changed(lambda table: np.full_like(table, 5)), r"fake 0 has 80 ratings: give at most 16"),
        (changed(at(2, 3, 4.5)), "rating 4.5 is not on the scale 1–5"),
        (changed(at(2, 3, np.nan)), "rating nan is not on the scale"),
        (changed(lambda table: table * 0.8), "fake 0 does not rate target [0-9]+ at the maximum"),
        (changed(lambda table: None), "gives a NoneType: give a RatingMatrix, or a table"),
        (changed(lambda table: "text"), "gives a str: give a RatingMatrix"),
        (changed(lambda table: [[1], [2, 3]]), "gives a list: give a RatingMatrix"),
        (changed(lambda table: sys.exit(3)), "failed: SystemExit in test_own.py line [0-9]+: 3"),
        (changed(lambda table: 1 / 0), "failed: ZeroDivisionError in test_own.py line [0-9]+"),
        (
            lambda ratings: None,
            r"cannot be called as function\(ratings, targets, budget",
        ),
        (7, "is a int, not a function"),
    ],
)
def test_what_breaks_the_contract_is_one_clear_line(function: Any, told: str) -> None:
    with pytest.raises(InputError, match=rf"^attack mine:? {told}") as raised:
        made(function)
    assert "\n" not in str(raised.value)


def test_a_matrix_of_another_scale_or_shape_is_refused() -> None:
    def other(scale: RatingScale, items: int) -> Callable[..., RatingMatrix]:
        def attack(ratings: RatingMatrix, targets: Any, budget: Any, *, rng: Any) -> RatingMatrix:
            return RatingMatrix.from_triples(
                [0], [0], [0], user_count=1, item_count=items, scale=scale
            )

        return attack

    with pytest.raises(InputError, match="gives 81 items"):
        made(other(RATINGS.scale, 81))
    with pytest.raises(InputError, match="gives ratings 1–8 in steps of 1, the data has 1–5"):
        made(other(RatingScale(1, 8, 1), 80))


def test_options_are_as_annotated_or_of_the_defaults_type() -> None:
    seen: list[Any] = []

    def attack(  # type: ignore[no-untyped-def]
        ratings: RatingMatrix, targets: Any, budget: Any, *, rng: Any, many=3, word: "str" = "a"
    ) -> Any:
        seen.append((many, word))
        return praise(ratings, targets, budget, rng=rng)

    made(attack)
    made(attack, many="7", word="7")
    assert seen == [(3, "a"), (7, "7")]
    with pytest.raises(InputError, match="attack option many=x: give a whole number"):
        made(attack, many="x")
    with pytest.raises(InputError, match="attack mine: unknown option 'mny': did you mean many"):
        made(attack, mny=3)

    def bare(ratings: Any, targets: Any, budget: Any, *, rng: Any, least: int) -> Any: ...

    def listed(ratings: Any, targets: Any, budget: Any, *, rng: Any, of: Any = ()) -> Any: ...

    with pytest.raises(InputError, match="least"):
        made(bare)
    with pytest.raises(InputError, match="attack option of: annotate it int, float or str"):
        made(listed, of="1")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("nowhere.py:praise", "attack nowhere.py:praise: .*nowhere.py: no such file"),
        ("mine.py:prase", "no such function in .*mine.py: did you mean praise"),
        ("mine.py", "'mine.py': name the function too, as in mine.py:FUNCTION"),
        ("mine.py:", "name the function too"),
        ("mine.py:np", "is a module, not a function"),
        ("broken.py:praise", "does not load: SyntaxError in broken.py line 2"),
        ("raising.py:praise", "does not load: ValueError in raising.py line 3: of mine"),
        ("leaving.py:praise", "does not load: SystemExit in leaving.py line 1"),
        (".:praise", "unknown attack"),
    ],
)
def test_a_name_that_leads_nowhere_is_one_clear_line(
    name: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(TABLE)
    Path("broken.py").write_text("\ndef praise(:\n")
    Path("raising.py").write_text("import os\n\nraise ValueError('of mine')\n")
    Path("leaving.py").write_text("raise SystemExit(0)\n")
    with pytest.raises(InputError, match=told) as raised:
        make_profiles(name, RATINGS, seed=0)
    assert "\n" not in str(raised.value)


def test_modules_beside_the_file_are_its_own(tmp_path: Path) -> None:
    for folder, value in (("a", 1), ("b", 2)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "beside.py").write_text(f"VALUE = {value}\n")
        (tmp_path / folder / "mine.py").write_text(
            "from beside import VALUE\nfrom common.errors import InputError\n"
            "def function():\n    return VALUE\n"
        )
    before = list(sys.path)
    values = [load_function(f"{tmp_path}/{folder}/mine.py:function", "it")() for folder in "ab"]
    assert values == [1, 2]
    assert sys.path == before and "beside" not in sys.modules
    assert sys.modules["common.errors"].InputError is InputError


def test_a_resolved_name_is_absolute_and_says_when_the_file_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(TABLE)
    name = resolved("mine.py:praise")
    assert name.startswith(f"{tmp_path}{os.sep}mine.py:praise#")
    assert resolved(name) == name and resolved("mixrand") == "mixrand"
    assert Study(attack="mine.py:praise").cell().experiment.attack == name
    monkeypatch.chdir("/")
    assert load_function(name, "attack").__name__ == "praise"
    (tmp_path / "mine.py").write_text(TABLE + "\n")
    with pytest.raises(InputError, match="has changed since it was named: start again"):
        load_function(name, "attack")


def test_a_grid_measures_an_edited_attack_again(tmp_path: Path) -> None:
    config = tmp_path / "grid.toml"
    config.write_text(
        'datasets = ["synthetic:60x80"]\nattacks = ["average", "mine.py:praise"]\n'
        'defenses = ["none"]\n[attack_options."mine.py:praise"]\nnoise = 1\n'
    )
    paths, digests = [], []
    for folder, text in (("one", TABLE), ("other", TABLE), ("edited", TABLE + "\n")):
        (tmp_path / "mine.py").write_text(text)
        read = read_config(config)
        cells = read.cells()
        assert cells[1].experiment.attack_options == {"noise": 1}
        paths.append([cell_path(tmp_path, cell).name for cell in cells])
        digests.append(read.digest())
        moved = tmp_path / folder
        moved.mkdir()
        (moved / "mine.py").write_text(text)
        (moved / "grid.toml").write_text(config.read_text())
        elsewhere = read_config(moved / "grid.toml")
        assert elsewhere.digest() == read.digest()
        assert stable(elsewhere.attacks[1]) == stable(read.attacks[1])
        assert [cell_path(tmp_path, cell).name for cell in elsewhere.cells()] == paths[-1]
    assert paths[0] == paths[1] and digests[0] == digests[1] != digests[2]
    assert paths[0][0] == paths[2][0] and paths[0][1] != paths[2][1]
    config.write_text(config.read_text().replace("mine.py:praise", "mine.py:prize"))
    with pytest.raises(InputError, match=r"grid.toml: .*no such function"):
        read_config(config)


@pytest.mark.parametrize("name", ["indptr", "items", "levels", "ratings", "users"])
def test_it_cannot_write_to_the_ratings(name: str) -> None:
    def spoil(ratings: RatingMatrix, targets: Any, budget: Any, *, rng: Any) -> Any:
        getattr(ratings, name)[:] = 0

    before = RATINGS.digest()
    with pytest.raises(InputError, match=r"attack mine failed: ValueError in test_own\.py line"):
        made(spoil)
    assert RATINGS.digest() == before and (RATINGS.dense() > 0).sum() == len(RATINGS)
    # Nor to the grid of ratings, which they share.
    for values in (RATINGS.scale.values, RATINGS.scale.fractions):
        assert not values.flags.writeable
