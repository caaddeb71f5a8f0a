"""t-SNE: what it minimizes, and what it shows."""

import numpy as np
import pytest

from common.errors import InputError
from sims.figures.tsne import _gradient, divergence, joint_affinities, tsne


def clusters(rng: np.random.Generator) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    centers = np.repeat(rng.normal(scale=20, size=(3, 10)), 30, axis=0)
    points: np.ndarray[tuple[int, int], np.dtype[np.float64]] = centers + rng.normal(size=(90, 10))
    return points


def test_clusters_stay_apart() -> None:
    layout = tsne(clusters(np.random.default_rng(0)), perplexity=10, steps=300)
    groups = layout.reshape(3, 30, 2)
    centers = groups.mean(axis=1)
    radius = np.linalg.norm(groups - centers[:, None], axis=2).max()
    for a in range(3):
        for b in range(a):
            assert np.linalg.norm(centers[a] - centers[b]) > radius


def test_the_same_points_give_the_same_picture_and_more_steps_a_better_one() -> None:
    points = np.random.default_rng(1).normal(size=(60, 5))
    wanted = joint_affinities(points, 8)
    layouts = [tsne(points, perplexity=8, steps=steps) for steps in (160, 400, 400)]
    assert np.array_equal(layouts[1], layouts[2])
    assert divergence(layouts[1], wanted) < min(divergence(layouts[0], wanted), 1)


def test_every_point_has_the_neighbors_that_perplexity_says() -> None:
    points = np.random.default_rng(2).normal(size=(50, 4)) * np.linspace(1, 50, 50)[:, None]
    joint = joint_affinities(points, 7)
    assert joint.sum() == pytest.approx(1)
    assert np.allclose(joint, joint.T)
    assert np.all(joint.sum(axis=1) >= 0.5 / 50 - 1e-9)


def test_the_gradient_is_the_divergence_s() -> None:
    rng = np.random.default_rng(3)
    wanted = joint_affinities(rng.normal(size=(30, 4)), 6)
    layout, along = rng.normal(size=(2, 30, 2))
    slope = divergence(layout + 1e-5 * along, wanted) - divergence(layout - 1e-5 * along, wanted)
    assert slope / 2e-5 == pytest.approx((_gradient(layout, wanted) * along).sum(), rel=1e-5)


def test_too_few_points() -> None:
    with pytest.raises(InputError, match="at least 90"):
        tsne(np.zeros((80, 3)))


def test_twins_are_drawn_without_complaint() -> None:
    with np.errstate(all="raise", under="ignore"):
        assert np.isfinite(tsne(np.ones((40, 3)), perplexity=5, steps=20)).all()
