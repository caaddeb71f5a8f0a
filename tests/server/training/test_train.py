"""Training: the loss is masked, the result reproducible, and its digest tells what made it."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from pydantic import ValidationError

from common.errors import InputError, VicinalError
from common.models import MODELS, model_named
from common.ratings import RatingMatrix, RatingScale
from common.versions.version import encode_version
from server.data.synthetic import synthetic
from server.model_store import TrainedModel, tables_digest
from server.training.train import Start, TrainingSettings, train


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@cache
def ratings() -> RatingMatrix:
    return synthetic(40, 60, seed=0)


def settings_of(model: str, **changes: float | str) -> TrainingSettings:
    values: dict[str, float | str] = {"width": 8, "batch": 128, "epochs": 3, **changes}
    return TrainingSettings.model_validate({"model": model, **values})


def masked_loss(trained: TrainedModel, ratings: RatingMatrix) -> float:
    """Mean squared error over observed pairs, from the whole table of predictions."""
    model = model_named(trained.manifest.model)
    parameters = {**trained.shared_parameters, **trained.user_parameters}
    scores = model.decode(parameters, model.encode(parameters, ratings.dense()))
    gap = scores[ratings.users, ratings.items] - ratings.ratings
    return float((gap**2).mean())


def bytes_of(trained: TrainedModel) -> bytes:
    return encode_version(trained.manifest, trained.shared_parameters)


def start_of(trained: TrainedModel, users: int) -> Start:
    own = {name: table[:users] for name, table in trained.user_parameters.items()}
    return Start("a" * 64, {**trained.shared_parameters, **own})


def test_a_warm_start_goes_on_from_where_it_is_told(model: str) -> None:
    cold = train(ratings(), settings_of(model))
    start = start_of(cold, 30)
    still = settings_of(model, learning_rate=1e-30, weight_decay=0.0)
    warm, again = (train(ratings(), still, start=start) for _ in range(2))
    assert bytes_of(warm) == bytes_of(again)
    for name, table in cold.shared_parameters.items():
        assert np.array_equal(warm.shared_parameters[name], table)
    for name, table in cold.user_parameters.items():
        assert np.array_equal(warm.user_parameters[name][:30], table[:30])
        assert not np.array_equal(warm.user_parameters[name][30:], table[30:])
    assert warm.manifest.training_digest == still.digest(ratings(), start)
    assert warm.manifest.training_digest != still.digest(ratings())


def test_a_warm_start_of_another_model_is_refused() -> None:
    cold = train(ratings(), settings_of("mf"))
    with pytest.raises(InputError, match="of another model or of other users"):
        train(ratings(), settings_of("cdae"), start=start_of(cold, 40))
    with pytest.raises(InputError, match="of another model or of other users"):
        train(ratings(), settings_of("mf", width=4), start=start_of(cold, 40))


def test_the_same_input_gives_the_same_bytes(model: str) -> None:
    first, again = (train(ratings(), settings_of(model)) for _ in range(2))
    assert bytes_of(first) == bytes_of(again)
    other = train(ratings(), settings_of(model, seed=1))
    assert bytes_of(other) != bytes_of(first)


def test_training_lowers_the_loss_on_what_is_observed(model: str) -> None:
    # A rate so small that nothing moves shows where training starts.
    start = train(ratings(), settings_of(model, learning_rate=1e-9))
    done = train(
        ratings(), settings_of(model, optimizer="adam", learning_rate=0.05, batch=32, epochs=60)
    )
    assert masked_loss(done, ratings()) < 0.2 * masked_loss(start, ratings())


def test_zeros_are_not_ratings(model: str) -> None:
    """Ones are observed only: a model that minded the zeros would not predict ones everywhere."""
    users, items = np.meshgrid(np.arange(20), np.arange(10), indexing="ij")
    seen = (users + items) % 3 == 0
    ones = RatingMatrix.from_triples(
        users[seen],
        items[seen],
        np.full(seen.sum(), 4),
        user_count=20,
        item_count=10,
        scale=RatingScale(1, 5, 1),
    )
    trained = train(
        ones, settings_of(model, width=1, optimizer="adam", learning_rate=0.02, epochs=300)
    )
    parameters = {**trained.shared_parameters, **trained.user_parameters}
    chosen = model_named(model)
    scores = chosen.decode(parameters, chosen.encode(parameters, ones.dense()))
    # A model that minded the zeros would come to ⅓. Components of the graph of ratings are tied
    # to each other by nothing: one may have another sign, or another scale.
    np.testing.assert_allclose(np.abs(scores), 1, atol=0.4)


def test_one_step_by_hand() -> None:
    """One rating, one user, one item: gradient 2 (p·q − r) q, Adagrad's step from 0.1."""
    one = RatingMatrix.from_triples(
        [0], [0], [3], user_count=1, item_count=1, scale=RatingScale(1, 5, 1)
    )
    still = train(one, settings_of("mf", width=2, epochs=1, learning_rate=1e-12))
    moved = train(one, settings_of("mf", width=2, epochs=1, learning_rate=0.5))
    user = still.user_parameters["user_embedding"].astype(np.float64)
    item = still.shared_parameters["item_embedding"].astype(np.float64)
    residual = (user * item).sum() - 0.8
    for before, other, after in (
        (user, item, moved.user_parameters["user_embedding"]),
        (item, user, moved.shared_parameters["item_embedding"]),
    ):
        gradient = 2 * residual * other
        expected = before - 0.5 * gradient / np.sqrt(0.1 + gradient**2)
        np.testing.assert_allclose(after, expected, rtol=1e-5)


def test_items_and_users_without_a_rating_stay_as_drawn() -> None:
    hole = RatingMatrix.from_triples(
        [0, 1], [0, 1], [4, 0], user_count=3, item_count=3, scale=RatingScale(1, 5, 1)
    )
    start = train(hole, settings_of("mf", epochs=1, learning_rate=1e-12))
    done = train(hole, settings_of("mf", epochs=5, learning_rate=1))
    for tables in ("user_parameters", "shared_parameters"):
        before, after = (next(iter(getattr(each, tables).values())) for each in (start, done))
        np.testing.assert_array_equal(before[2], after[2])
        assert not np.allclose(before[:2], after[:2])


def test_the_manifest_says_what_was_trained(model: str) -> None:
    trained = train(ratings(), settings_of(model))
    manifest = trained.manifest
    assert (manifest.users, manifest.items, manifest.width) == (40, 60, 8)
    assert manifest.scale == ratings().scale
    assert manifest.training_digest == settings_of(model).digest(ratings())
    assert manifest.user_digest == tables_digest(trained.user_parameters)
    for tables, shapes in (
        (trained.user_parameters, manifest.user_shapes(40)),
        (trained.shared_parameters, manifest.shared_shapes()),
    ):
        assert {name: table.shape for name, table in tables.items()} == shapes


def test_the_digest_changes_with_anything_that_decides_the_result(model: str) -> None:
    settings = settings_of(model)
    other = replace(ratings(), levels=(ratings().levels + 1) % 5)
    digests = {settings.digest(other)}
    for change in (
        {"seed": 1},
        {"width": 9},
        {"learning_rate": 3.0},
        {"initial_accumulator": 0.2},
        {"batch": 64},
        {"epochs": 4},
        {"optimizer": "adagrad" if settings.optimizer == "adam" else "adam"},
        {"weight_decay": 0.5},
        {"input_dropout": 0.25},
    ):
        digests.add(settings_of(model, **change).digest(ratings()))
    assert len(digests) == 10 and settings.digest(ratings()) not in digests
    # Nothing else than its fields decides; a new one is to be added above.
    assert set(TrainingSettings.model_fields) == {
        "model",
        "seed",
        "width",
        "learning_rate",
        "initial_accumulator",
        "optimizer",
        "weight_decay",
        "input_dropout",
        "batch",
        "epochs",
        "robust",
        "ranking",
    }


def test_progress_counts_epochs(model: str) -> None:
    seen: list[tuple[int, int]] = []
    train(ratings(), settings_of(model), progress=lambda done, all_: seen.append((done, all_)))
    assert seen == [(0, 3), (1, 3), (2, 3), (3, 3)]


def test_divergence_is_one_clear_line(model: str) -> None:
    with pytest.raises(VicinalError, match="diverged: lower the learning rate"):
        train(ratings(), settings_of(model, learning_rate=1e30))


def test_an_unknown_model_or_setting_is_refused() -> None:
    with pytest.raises(InputError, match="unknown model"):
        train(ratings(), TrainingSettings(model="none"))
    with pytest.raises(ValidationError, match="epoch"):
        TrainingSettings.model_validate({"epoch": 3})
    with pytest.raises(ValidationError, match="seed"):
        TrainingSettings(seed=2**63)
