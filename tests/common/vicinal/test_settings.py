"""Presets, and what becomes of them when a value is replaced."""

import pytest

from common.errors import InputError
from common.models import MODELS
from common.vicinal.settings import PRESETS, preset


@pytest.mark.parametrize("model", MODELS)
def test_min_support_follows_k_where_there_is_any(model: str) -> None:
    vicinal = PRESETS[model]["vicinal"]
    assert preset("vicinal", model=model) == vicinal
    doubled = preset("vicinal", model=model, neighbors=2 * vicinal.neighbors)
    assert doubled.min_support == 2 * vicinal.min_support > 2
    assert preset("vicinal", model=model, neighbors=1).min_support == 1
    # The paper asks for no support, whatever its k.
    assert preset("paper", model=model, neighbors=650).min_support == 1


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
