"""Colors that stay apart for color-blind eyes, labels that do not touch, plain numbers."""

import doctest
from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from sims.figures import bars, style
from sims.figures.style import GREY, MUTED, SERIES, look, plain, plain_ticks, spread

# Machado, Oliveira, Fernandes, "A Physiologically-based Model for Simulation of Color Vision
# Deficiency", IEEE TVCG 15 (6), 2009, table 1, severity 1; on linear RGB.
EYES = {
    "usual": np.eye(3),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "tritanopia": np.array(
        [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ]
    ),
}
TO_XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)
WHITE = np.array([0.95047, 1.0, 1.08883])


def lab(color: str, eyes: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """CIE L*a*b* (D65) of what these eyes see."""
    coded = np.array([int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)])
    linear = np.where(coded <= 0.04045, coded / 12.92, ((coded + 0.055) / 1.055) ** 2.4)
    xyz = TO_XYZ @ np.clip(EYES[eyes] @ linear, 0, 1) / WHITE
    root = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.array([116 * root[1] - 16, 500 * (root[0] - root[1]), 200 * (root[1] - root[2])])


def distance(one: str, other: str, eyes: str) -> float:
    """ΔE*ab; 2.3 can just be told apart."""
    return float(np.linalg.norm(lab(one, eyes) - lab(other, eyes)))


def test_the_simulation_confuses_what_it_should() -> None:
    assert distance("#ff0000", "#8f8f00", "deuteranopia") < 0.5 * distance(
        "#ff0000", "#8f8f00", "usual"
    )
    assert distance("#ffffff", "#000000", "deuteranopia") == pytest.approx(100, abs=0.1)


@pytest.mark.parametrize("eyes", EYES)
def test_no_two_colors_of_a_picture_look_alike(eyes: str) -> None:
    for one, other in combinations((*SERIES, GREY), 2):
        assert distance(one, other, eyes) > 15, (one, other)
    for one in SERIES[:4]:
        assert distance(one, "#ffffff", eyes) > 30
    # Lines that others are compared with, and the series drawn first.
    assert min(distance(MUTED, one, eyes) for one in SERIES[:3]) > 15
    # A few lines, as most pictures have, are apart at a glance.
    assert min(distance(*pair, eyes) for pair in combinations(SERIES[:4], 2)) > 24


def test_no_two_series_share_color_and_marker() -> None:
    looks = [look(place) for place in range(70)]
    assert len({(one.color, one.marker) for one in looks}) == 70
    # In print without colors, the first five lines differ in dash and in marker.
    assert len({str(one.dash) for one in looks[:5]}) == 5
    assert len({one.marker for one in looks[:10]}) == 10


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=12),
    st.floats(0.001, 0.08),
)
def test_labels_keep_their_distance_and_order(wanted: list[float], gap: float) -> None:
    found = spread(wanted, gap, low=0.0, high=1.0)
    order = sorted(range(len(wanted)), key=lambda place: wanted[place])
    heights = [found[place] for place in order]
    assert all(after - before >= gap * (1 - 1e-6) for before, after in pairwise(heights))
    assert min(heights) >= -1e-9 and max(heights) <= 1 + 1e-9
    apart = all(b - a >= gap for a, b in pairwise(sorted(wanted)))
    if apart:
        assert found == pytest.approx(wanted)


@pytest.mark.parametrize("low", [0.0002, 0.3, 2.0])
@pytest.mark.parametrize("high", [9.0, 40_000.0])
def test_logarithmic_axes_have_no_powers(low: float, high: float) -> None:
    figure = Figure()
    axes = figure.subplots()
    axes.set_yscale("log")
    axes.set_ylim(low, high)
    plain_ticks(axes.yaxis)
    figure.canvas.draw()
    shown = [label.get_text() for label in axes.get_yticklabels()]
    assert len(shown) >= 2
    assert all(set(text) <= set("0123456789.,") for text in shown), shown


def test_numbers_are_plain() -> None:
    texts = [plain(value) for value in (0.001, 0.05, 0.1, 1, 2.5, 100, 10_000, 0.25, 0, 1e6)]
    assert texts[:5] == ["0.001", "0.05", "0.1", "1", "2.5"]
    assert texts[5:] == ["100", "10,000", "0.25", "0", "1,000,000"]


@pytest.mark.parametrize("module", [style, bars])
def test_examples_hold(module: object) -> None:
    found = doctest.testmod(module)  # type: ignore[arg-type]
    assert found.attempted and not found.failed


def test_nothing_of_others_pictures_changes() -> None:
    import matplotlib as mpl  # noqa: PLC0415 - as a notebook has it

    before = dict(mpl.rcParams)
    with style.drawing():
        style.canvas(1, 1, (3, 3))
    assert dict(mpl.rcParams) == before
