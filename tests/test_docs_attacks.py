"""The page on attacks: the options are the real ones."""

import re
from pathlib import Path

import pytest

from sims.attacks import ATTACKS, attack_named
from sims.attacks.options import declared

ROOT = Path(__file__).resolve().parents[1]
HOW_TO = ROOT / "docs" / "how-to"


@pytest.mark.parametrize("name", ATTACKS)
def test_every_option_and_its_default_is_on_the_page(name: str) -> None:
    page = (HOW_TO / "attacks.md").read_text(encoding="utf-8")
    row = re.search(rf"^\| `{name}` \|.*$", page, flags=re.MULTILINE)
    assert row is not None
    for option, parameter in declared(attack_named(name)).items():
        assert f"`{option}={parameter.default}`" in row.group(), f"{name}: {option}"
