"""Trainings that order items, each against its definition; what all of them hold."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from common.errors import InputError
from common.ratings import RatingMatrix, RatingScale
from common.vicinal.settings import PRESETS
from server.training.bpr import compared, comparison_loss, epoch_of
from server.training.calibration import scale
from server.training.descent import Factors
from server.training.ials import train_ials
from server.training.lightgcn import spread_over, train_lightgcn
from server.training.rankers import RANKERS
from server.training.ranking import RANKINGS, Bpr, Ials, LightGcn
from server.training.train import Start, TrainingSettings, train

SHORT = {
    "ials": Ials(rounds=3),
    "bpr": Bpr(epochs=3, batch=16),
    "lightgcn": LightGcn(epochs=3, batch=16),
}


def ratings(seed: int = 0, users: int = 20, items: int = 15) -> RatingMatrix:
    rng = np.random.default_rng(seed)
    pairs = np.argwhere(rng.random((users, items)) < 0.3)
    return RatingMatrix.from_triples(
        pairs[:, 0],
        pairs[:, 1],
        rng.integers(0, 5, len(pairs)),
        user_count=users,
        item_count=items,
        scale=RatingScale(1, 5, 1),
    )


def settings_of(model: str, **changes: object) -> TrainingSettings:
    fields = {"model": model, "width": 4, "ranking": SHORT[model], **changes}
    return TrainingSettings.model_validate(fields)


def table_of(factors: Factors) -> NDArray[np.float64]:
    return np.asarray(factors.users.double().numpy() @ factors.items.double().numpy().T)


def test_ials_solves_the_normal_equations() -> None:
    """The last thing that a round does is to solve each item's row, given all users."""
    method, observed = Ials(confidence=7, regularization=0.5, rounds=4), ratings()
    factors = train_ials(observed, method, width=4, seed=0)
    users, dense = factors.users.double().numpy(), observed.dense()
    for item in range(observed.item_count):
        confidence = 1 + 7 * dense[:, item].astype(np.float64)
        left = users.T @ (confidence[:, None] * users) + 0.5 * np.eye(4)
        right = users.T @ (confidence * (dense[:, item] > 0))
        expected = np.linalg.solve(left, right)
        np.testing.assert_allclose(factors.items[item].numpy(), expected, rtol=1e-3, atol=1e-4)


def test_ials_lowers_its_objective_in_every_round() -> None:
    observed, losses = ratings(), []
    dense = observed.dense()
    for rounds in (1, 2, 4, 8):
        factors = train_ials(observed, Ials(rounds=rounds, regularization=1), width=4, seed=0)
        weights, aims = 1 + 10 * dense, dense > 0
        squares = float(factors.users.square().sum() + factors.items.square().sum())
        losses.append(float((weights * (table_of(factors) - aims) ** 2).sum()) + squares)
    assert losses == sorted(losses, reverse=True)


def test_the_loss_of_a_comparison_by_hand() -> None:
    rows = torch.tensor([[1.0, 2.0], [0.5, 0.0], [0.0, 1.0]], requires_grad=True)
    places = [torch.tensor([at]) for at in (0, 1, 2)]
    loss = comparison_loss(rows, *places)
    loss.backward()  # type: ignore[no-untyped-call]
    gap = 0.5 - 2.0
    assert loss.item() == pytest.approx(np.log1p(np.exp(-gap)))
    # Rendle et al. 2009, section 4.2.1: −σ(−gap) times the gap's own gradient.
    share = 1 / (1 + np.exp(gap))
    expected = -share * np.array([[0.5, -1.0], [1.0, 2.0], [-1.0, -2.0]])
    assert rows.grad is not None
    np.testing.assert_allclose(rows.grad.numpy(), expected, rtol=1e-5)


def test_an_epoch_compares_every_rating_once_with_an_unrated_item() -> None:
    observed = ratings()
    dense = observed.dense()
    batches = list(epoch_of(observed, 16, np.random.default_rng(0)))
    assert max(len(own) for own, _, _ in batches) == 16
    own, rated, other = (np.concatenate(part) for part in zip(*batches, strict=True))
    pairs = sorted(zip(own.tolist(), rated.tolist(), strict=True))
    assert pairs == list(zip(observed.users.tolist(), observed.items.tolist(), strict=True))
    assert (dense[own, other] == 0).all()


def test_other_items_are_equally_likely() -> None:
    one = RatingMatrix.from_triples(
        [0, 0], [1, 4], [0, 0], user_count=1, item_count=5, scale=RatingScale(1, 5, 1)
    )
    rng = np.random.default_rng(0)
    drawn = [other for _ in range(1500) for _, _, batch in epoch_of(one, 2, rng) for other in batch]
    counts = np.bincount(drawn, minlength=5)
    assert counts[[1, 4]].tolist() == [0, 0]
    assert np.abs(counts[[0, 2, 3]] - 1000).max() < 110  # four standard deviations


def test_who_rated_everything_is_left_out() -> None:
    full = RatingMatrix.from_triples(
        [0, 0, 1], [0, 1, 0], [0, 0, 0], user_count=2, item_count=2, scale=RatingScale(1, 5, 1)
    )
    ((own, _, other),) = epoch_of(full, 9, np.random.default_rng(0))
    assert (own.tolist(), other.tolist()) == ([1], [1])


def dense_spread(observed: RatingMatrix, layers: int) -> NDArray[np.float64]:
    """(1 + Â + … + Âᴸ) / (L + 1)."""
    rated = (observed.dense() > 0).astype(np.float64)
    users, items = rated.shape
    graph = np.zeros((users + items, users + items))
    graph[:users, users:], graph[users:, :users] = rated, rated.T
    roots = np.sqrt(np.maximum(graph.sum(1), 1))
    step = graph / roots[:, None] / roots
    powers = [np.linalg.matrix_power(step, layer) for layer in range(layers + 1)]
    return np.asarray(sum(powers) / (layers + 1))


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_embeddings_are_spread_over_the_graph(layers: int) -> None:
    observed = ratings()
    rows = torch.randn((35, 4), generator=torch.Generator().manual_seed(0))
    expected = dense_spread(observed, layers) @ rows.double().numpy()
    spread = spread_over(observed, layers)(rows)
    np.testing.assert_allclose(spread.numpy(), expected, rtol=1e-4, atol=1e-6)


def test_lightgcn_follows_the_gradient_through_the_graph() -> None:
    """One step of Adam in a dense version with autograd all the way."""
    observed = ratings()
    method = LightGcn(layers=2, epochs=1, batch=10**6, regularization=0.3, learning_rate=0.01)
    factors = train_lightgcn(observed, method, width=4, seed=3)

    ((own, rated, other),) = epoch_of(observed, 10**6, np.random.default_rng(3))
    start = torch.empty((35, 4)).normal_(0, 0.1, generator=torch.Generator().manual_seed(3))
    table = torch.nn.Parameter(start.double())
    spread = torch.from_numpy(dense_spread(observed, 2))
    places = [torch.from_numpy(at) for at in (own, rated + 20, other + 20)]
    rows = torch.cat([table[at] for at in places])
    loss = comparison_loss(spread @ table, *places) + 0.15 * rows.square().sum() / len(own)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.optim.Adam([table], lr=0.01).step()
    expected = (spread @ table).detach().numpy()
    np.testing.assert_allclose(factors.users.numpy(), expected[:20], rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(factors.items.numpy(), expected[20:], rtol=1e-3, atol=1e-5)


def test_bpr_is_lightgcn_without_a_graph() -> None:
    method = Bpr(epochs=2, batch=8)
    factors = RANKERS[Bpr](ratings(), method, width=4, seed=0, progress=None)
    other = compared(ratings(), method, width=4, seed=0, spread=lambda rows: rows.clone())
    assert torch.equal(factors.users, other.users) and torch.equal(factors.items, other.items)


@pytest.mark.parametrize("model", RANKINGS)
class TestEvery:
    def test_is_served_as_mf(self, model: str) -> None:
        trained = train(ratings(), settings_of(model))
        manifest = trained.manifest
        assert (manifest.model, manifest.width) == ("mf", 4)
        assert manifest.training_digest == settings_of(model).digest(ratings())
        assert PRESETS[model] is PRESETS["mf"]

    def test_is_reproducible_and_its_seed_counts(self, model: str) -> None:
        first, again, other = (
            train(ratings(), settings_of(model, seed=seed)).shared_parameters["item_embedding"]
            for seed in (0, 0, 1)
        )
        assert np.array_equal(first, again)
        assert not np.allclose(first, other)

    def test_predicts_ratings(self, model: str) -> None:
        trained = train(ratings(), settings_of(model))
        users, items = trained.user_parameters, trained.shared_parameters
        tables = users["user_embedding"], items["item_embedding"]
        assert scale(*tables, ratings()) == pytest.approx(1, rel=1e-4)

    def test_learns_who_rated_what(self, model: str) -> None:
        longer = {"epochs": 60} if model != "ials" else {"regularization": 0.1}
        ranking = SHORT[model].model_copy(update=longer)
        trained = train(ratings(), settings_of(model, width=16, ranking=ranking))
        users = trained.user_parameters["user_embedding"]
        predicted = users @ trained.shared_parameters["item_embedding"].T
        rated = ratings().dense() > 0
        assert predicted[rated].mean() > 2 * predicted[~rated].mean() + 0.1

    def test_progress_is_told(self, model: str) -> None:
        told: list[tuple[int, int]] = []
        train(ratings(), settings_of(model), progress=lambda *done: told.append(done))
        assert told == [(0, 3), (1, 3), (2, 3), (3, 3)]

    def test_the_digest_changes_with_its_settings(self, model: str) -> None:
        settings, default = settings_of(model), RANKINGS[model]()
        digests = {settings.digest(ratings()), settings.digest(replace_levels(ratings()))}
        for name, value in default:
            if name != "method":
                changed = SHORT[model].model_copy(update={name: value * 2})
                digests.add(settings_of(model, ranking=changed).digest(ratings()))
        assert len(digests) == len(RANKINGS[model].model_fields) + 1

    def test_its_settings_come_with_its_name(self, model: str) -> None:
        assert TrainingSettings(model=model).ranking == RANKINGS[model]()

    def test_what_it_cannot_do_is_refused(self, model: str) -> None:
        with pytest.raises(InputError, match=f"{model} has no warm start"):
            train(ratings(), settings_of(model), start=Start("0" * 64, {}))
        robust = settings_of(model, robust={"method": "unrated"})
        with pytest.raises(InputError, match=f"trains mf only, not {model}"):
            train(ratings(), robust)
        with pytest.raises(ValueError, match=f"{model} is no training of mf"):
            TrainingSettings(ranking=RANKINGS[model]())
        with pytest.raises(ValueError, match=f"None is no training of {model}"):
            TrainingSettings(model=model, ranking=None)


def replace_levels(observed: RatingMatrix) -> RatingMatrix:
    return replace(observed, levels=(observed.levels + 1) % 5)


def test_what_came_before_keeps_its_digest() -> None:
    """A version's name follows from it; this one is of before there were rankings."""
    text = TrainingSettings().model_dump_json(exclude={"ranking"})
    assert "ranking" not in text
    assert TrainingSettings().digest(ratings()) == DIGEST


DIGEST = "0339dcb09c1fdf24be13dcbb0e132eb9507aa774e31c0cf1b8f8cbb10a37e7c9"
