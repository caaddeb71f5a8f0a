"""Presets, and what becomes of them when a value is replaced."""

from typing import Any

import pytest

from common.errors import InputError
from common.models import MODELS
from common.vicinal.settings import PRESETS, VicinalSettings, capped, preset


@pytest.mark.parametrize("model", MODELS)
def test_presets_are_given_by_model_and_name(model: str) -> None:
    vicinal = PRESETS[model]["vicinal"]
    assert preset("vicinal", model=model) == vicinal
    assert preset("vicinal", model=model, neighbors=1).min_support == 1
    # The paper asks for no support, whatever its k.
    assert preset("paper", model=model, neighbors=650).min_support == 1


def test_min_support_and_margin_follow_the_users_there_are() -> None:
    asked = VicinalSettings(40, 0.1, 2, min_support=8, margin=4)
    few = capped(asked, 10)
    assert (few.neighbors, few.min_support, few.margin) == (10, 2, 1)
    assert capped(asked, 200) == asked
    # Support that is not asked for stays so.
    assert capped(VicinalSettings(40, 0.1, 2), 10).min_support == 1


def test_the_fakes_assumed_are_a_share_of_all_accounts_rounded_up() -> None:
    assumed = VicinalSettings(40, 0.1, 2, assumed_fakes=0.03, margin=4)
    assert (assumed.tolerated_fakes(971), assumed.required_raters(971)) == (30, 34)
    assert (assumed.tolerated_fakes(100), assumed.required_raters(100)) == (3, 7)
    assert VicinalSettings(40, 0.1, 2, margin=4).required_raters(971) == 0


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"assumed_fakes": 0.51}, "assumed fakes must be a share in 0–0.5"),
        ({"margin": 0}, "margin must be at least 1"),
        ({"exploration": 1.1}, "exploration must be a share"),
        ({"row_cap": -1}, "row cap must lie in 0–2147483647"),
        ({"row_cap": 2**31}, "row cap must lie in 0–2147483647, got 2147483648"),
        ({"neighbors_by": "taste"}, "neighbors are sought by ratings, embedding, random"),
    ],
)
def test_what_admission_cannot_be(changes: dict[str, Any], line: str) -> None:
    with pytest.raises(InputError, match=line):
        VicinalSettings(40, 0.1, 2, **changes)


def test_what_is_given_is_taken() -> None:
    chosen = preset("vicinal", neighbors=50, steps=2, unrated_weight=0.3, min_support=7)
    assert (chosen.neighbors, chosen.steps, chosen.unrated_weight) == (50, 2, 0.3)
    assert chosen.min_support == 7


@pytest.mark.parametrize(
    ("name", "model", "line"),
    [("papers", "mf", "unknown preset 'papers'"), ("paper", "fm", "unknown model 'fm'")],
)
def test_unknown_names(name: str, model: str, line: str) -> None:
    with pytest.raises(InputError, match=line):
        preset(name, model=model)
