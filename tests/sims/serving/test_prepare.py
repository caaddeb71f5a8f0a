"""What a server says of its presets when it starts."""

from common.vicinal.settings import VicinalSettings, capped
from sims.serving.prepare import _tolerated_notes


def test_the_raters_told_are_those_that_an_item_needs() -> None:
    settings = VicinalSettings(24, 0.7, 1, assumed_fakes=0.03, margin=4)
    needed = capped(settings, 120).required_raters(120)
    assert needed == 6  # and not the 8 of the margin that is for more users
    (note,) = _tolerated_notes({"vicinal": settings}, 120, 120)
    assert f"an item needs {needed} raters" in note
