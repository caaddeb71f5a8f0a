"""Imported models: matched, scaled, kept, and served for their ratings and for others."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from common.errors import InputError
from common.ratings import RatingMatrix, RatingScale
from common.vicinal.settings import VicinalSettings
from server.data.synthetic import synthetic
from server.importing.factors import Factors
from server.importing.fit import fit_of
from server.importing.fold_in import FoldIn, chosen, fold_in
from server.importing.imported import (
    Imported,
    ImportedModel,
    bring_in,
    imported_model,
    imported_names,
    keep,
    read_import,
)
from server.importing.matching import ids_of, matched
from server.model_store import ModelStore
from server.preparing import trained
from server.recommending.recommender import Recommender
from server.training.train import TrainingSettings, train

USERS, ITEMS = 60, 90


def named(ratings: RatingMatrix) -> RatingMatrix:
    """The same with ids."""
    return RatingMatrix(
        ratings.indptr,
        ratings.items,
        ratings.levels,
        ratings.item_count,
        ratings.scale,
        tuple(f"u{user}" for user in range(ratings.user_count)),
        tuple(f"i{item}" for item in range(ratings.item_count)),
    )


@pytest.fixture(scope="module")
def plain() -> RatingMatrix:
    return synthetic(USERS, ITEMS, 1500, seed=1)


@pytest.fixture(scope="module")
def ratings(plain: RatingMatrix) -> RatingMatrix:
    return named(plain)


@pytest.fixture(scope="module")
def tables(ratings: RatingMatrix) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Factors of a model of the ratings, on a scale of their own."""
    model = train(ratings, TrainingSettings(width=8, epochs=40))
    users, items = (
        model.user_parameters["user_embedding"],
        model.shared_parameters["item_embedding"],
    )
    return users * 7, items * 3


def factors(
    tables: Any, ratings: RatingMatrix, *, reverse: bool = False
) -> tuple[Factors, Factors]:
    kinds = ("user", "item")
    step = -1 if reverse else 1
    users, items = (
        Factors(kind, table[::step].copy(), ids_of(ratings, kind)[::step])
        for kind, table in zip(kinds, tables, strict=True)
    )
    return users, items


def recommender(name: str, ratings: RatingMatrix, store: ModelStore, users: int) -> Recommender:
    return Recommender(ImportedModel(name).version(ratings, store), ratings, users)


def test_rankings_are_those_of_the_factors_whatever_the_order_of_their_rows(
    tmp_path: Path, ratings: RatingMatrix, tables: Any
) -> None:
    scores = tables[0] @ tables[1].T
    with ModelStore(tmp_path) as store:
        found, *_ = bring_in("a", *factors(tables, ratings, reverse=True), ratings, real=USERS)
        keep(found, store)
        served = recommender("a", ratings, store, USERS)
        for user in range(USERS):
            unrated = np.setdiff1d(np.arange(ITEMS), ratings.items_of(user))
            best = unrated[np.argsort(-scores[user, unrated], kind="stable")]
            np.testing.assert_array_equal(served.recommend_undefended(user, 20), best[:20])


def test_predictions_are_near_the_ratings_on_the_scale_of_fractions(
    ratings: RatingMatrix, tables: Any
) -> None:
    found, *_ = bring_in("a", *factors(tables, ratings), ratings, real=USERS)
    predicted = np.einsum("nd,nd->n", found.users[ratings.users], found.items[ratings.items])
    before = np.einsum("nd,nd->n", tables[0][ratings.users], tables[1][ratings.items])
    assert float(before.mean()) > 5
    assert 0 < float(predicted.mean()) < 1


def test_a_version_is_made_once_and_found_by_the_training(
    tmp_path: Path, ratings: RatingMatrix, tables: Any
) -> None:
    with ModelStore(tmp_path) as store:
        keep(bring_in("a", *factors(tables, ratings), ratings, real=USERS)[0], store)
        training = imported_model("imported:a")
        assert training is not None and imported_model("mf") is None
        first = trained(ratings, training, store)
        files = sorted((tmp_path / "trained").iterdir())
        before = [path.stat().st_mtime_ns for path in files]
        assert trained(ratings, training, store).version.digest == first.version.digest
        assert before == [path.stat().st_mtime_ns for path in files]
        assert files == sorted((tmp_path / "trained").iterdir())
        assert first.version.manifest.model == "mf"
        assert imported_names(store) == ["a"]


def test_users_and_items_without_factors_are_counted_and_filled_in(
    tmp_path: Path, ratings: RatingMatrix, tables: Any
) -> None:
    users, items = factors(tables, ratings)
    few = Factors("user", users.rows[5:], (*users.ids[6:], "stranger"))  # type: ignore[index]
    some = Factors("item", items.rows[:-2], items.ids[:-2])  # type: ignore[index]
    found, of_users, of_items = bring_in("a", few, some, ratings, real=USERS)
    assert (of_users.missing, of_users.left_out) == (6, 1)
    assert (of_items.missing, of_items.left_out) == (2, 0)
    assert not found.known_users[:6].any() and found.known_users[6:].all()
    assert found.users[:6].any(axis=1).all()
    assert not found.items[-2:].any()


def test_a_fold_in_is_the_least_squares_of_its_objective(
    ratings: RatingMatrix, tables: Any
) -> None:
    items, how = tables[1], FoldIn(0.1, 0.5, tables[0].mean(axis=0).astype(np.float64))
    found = fold_in(np.arange(4), ratings, items, how)
    dense = ratings.rows(np.arange(4)).dense().astype(np.float64)
    for row, got in zip(dense, found, strict=True):
        weight = np.sqrt(np.where(row > 0, 1.0, how.unrated_weight))
        left = np.concatenate([weight[:, None] * items, np.sqrt(how.ridge) * np.eye(8)])
        right = np.concatenate([weight * row, np.sqrt(how.ridge) * how.mean])
        np.testing.assert_allclose(got, np.linalg.lstsq(left, right, rcond=None)[0], rtol=1e-3)


def test_a_user_without_ratings_gets_the_mean(tables: Any) -> None:
    empty = RatingMatrix(
        np.zeros(2, np.int64), np.zeros(0, np.int32), np.zeros(0, np.uint8), ITEMS,
        RatingScale(1, 5, 1),
    )  # fmt: skip
    mean = tables[0].mean(axis=0).astype(np.float64)
    found = fold_in(np.array([0]), empty, tables[1], FoldIn(0.1, 0.5, mean))
    np.testing.assert_allclose(found[0], mean, rtol=1e-6)


@pytest.mark.parametrize("alpha", [0.0, 0.1])
def test_the_way_to_fold_in_is_that_of_the_known_users(ratings: RatingMatrix, alpha: float) -> None:
    rng = np.random.default_rng(3)
    items = rng.normal(size=(ITEMS, 4)).astype(np.float32)
    spread = float(np.square(items).sum() / 4)
    truth = FoldIn(alpha, 0.01 * spread, np.zeros(4))
    users = fold_in(np.arange(USERS), ratings, items, truth)
    how = chosen(ratings, np.arange(USERS), users, items)
    assert how.unrated_weight <= max(2 * alpha, 0.01)
    found = fold_in(np.arange(USERS), ratings, items, how)
    assert np.linalg.norm((found - users) @ items.T) < 0.2 * np.linalg.norm(users @ items.T)


def test_other_ratings_get_the_newest_by_ids(
    tmp_path: Path, ratings: RatingMatrix, tables: Any
) -> None:
    later = named(synthetic(USERS, ITEMS, 1500, seed=2))
    order = np.arange(USERS)[::-1]
    turned = later.rows(order)
    users = ("new", *(later.user_ids or ())[::-1][1:])
    other = RatingMatrix(
        turned.indptr, turned.items, turned.levels, ITEMS, turned.scale, users, later.item_ids
    )
    with ModelStore(tmp_path) as store:
        found = bring_in("a", *factors(tables, ratings), ratings, real=USERS)[0]
        keep(found, store)
        model = ImportedModel("a")
        version = model.version(other, store)
        (note,) = model.notes(other, store)
    np.testing.assert_array_equal(
        version.user_parameters["user_embedding"][1:], found.users[order][1:]
    )
    assert "may have seen what is held out of them: 1 of 60 users are folded in, 0 of 90" in note


def test_fakes_that_it_was_not_trained_on_are_folded_in_and_change_no_item(
    tmp_path: Path, plain: RatingMatrix, tables: Any
) -> None:
    fakes = synthetic(5, ITEMS, 100, seed=4)
    for ratings in (plain, named(plain)):
        poisoned = ratings.stack(fakes)
        with ModelStore(tmp_path / f"{ratings is plain}") as store:
            newest = named(synthetic(USERS, ITEMS, 1500, seed=5)) if ratings is not plain else None
            keep(bring_in("a", *factors(tables, ratings), ratings, real=USERS)[0], store)
            if newest is not None:
                keep(bring_in("a", *factors(tables, newest), newest, real=USERS)[0], store)
            model = ImportedModel("a")
            version, clean = model.version(poisoned, store), model.version(ratings, store)
            assert model.notes(ratings, store) == ()
            (note,) = model.notes(poisoned, store)
        np.testing.assert_array_equal(
            version.version.parameters["item_embedding"],
            clean.version.parameters["item_embedding"],
        )
        assert version.version.manifest.users == USERS + 5
        assert "was not trained on the last 5 of 65 users" in note


def test_fakes_of_one_attack_are_nobody_in_another(
    tmp_path: Path, ratings: RatingMatrix, tables: Any
) -> None:
    first, second = (ratings.stack(synthetic(5, ITEMS, 100, seed=seed)) for seed in (4, 6))
    assert first.user_ids is not None and first.user_ids[-1] == "fake-4"
    grown = np.concatenate([tables[0], np.full((5, 8), 9, np.float32)])
    with ModelStore(tmp_path) as store:
        keep(bring_in("a", *factors((grown, tables[1]), first), first, real=USERS)[0], store)
        (note,) = ImportedModel("a").notes(second, store)
    assert "5 of 65 users are folded in" in note


def test_ids_and_orders_that_do_not_fit_are_one_clear_line(
    ratings: RatingMatrix, plain: RatingMatrix, tables: Any
) -> None:
    users, _ = factors(tables, ratings)
    with pytest.raises(
        InputError, match=r"none of the 60 users of the ratings \('0', '1', '2', …\)"
    ):
        matched(users, plain)
    with pytest.raises(InputError, match="59 rows of user factors, and the ratings have 60 users"):
        matched(Factors("user", tables[0][1:], None), ratings)
    assert matched(Factors("user", tables[0], None), ratings).by_order
    counted = tuple(str(number) for number in range(1, USERS + 1))
    with pytest.raises(InputError, match="run from 1 to 60, but this data set's are zero-based"):
        matched(Factors("user", tables[0], counted), plain)


def test_predictions_below_zero_say_what_may_be_missing(ratings: RatingMatrix, tables: Any) -> None:
    users, items = factors((tables[0], -tables[1]), ratings)
    with pytest.raises(InputError, match="check --user-ids and --item-ids; a model with a mean"):
        bring_in("a", users, items, ratings, real=USERS)


@pytest.mark.parametrize("name", ["", "../a", "a/b", ".a", "a" * 65, "ä"])
def test_a_name_is_that_of_a_folder(name: str, tmp_path: Path, ratings: RatingMatrix) -> None:
    with ModelStore(tmp_path) as store, pytest.raises(InputError, match="take letters"):
        read_import(store, name, ratings)


def test_ratings_that_it_is_not_of_are_refused(
    tmp_path: Path, ratings: RatingMatrix, plain: RatingMatrix, tables: Any
) -> None:
    with ModelStore(tmp_path) as store:
        keep(bring_in("a", *factors(tables, ratings), ratings, real=USERS)[0], store)
        keep(bring_in("b", *factors(tables, plain), plain, real=USERS)[0], store)
        other = synthetic(USERS, ITEMS, 1400, seed=9)
        with pytest.raises(InputError, match="only one of its ratings and these has ids of users"):
            ImportedModel("a").version(other, store)
        with pytest.raises(
            InputError, match="is of 60 users without ids, and these ratings have 50"
        ):
            ImportedModel("b").version(synthetic(50, ITEMS, 1400, seed=9), store)
        with pytest.raises(
            InputError, match="is of 90 items without ids, and these ratings have 95"
        ):
            ImportedModel("b").version(synthetic(USERS, 95, 1400, seed=9), store)
        halves = RatingMatrix(
            other.indptr, other.items, other.levels, ITEMS, RatingScale(0.5, 5, 0.5)
        )
        with pytest.raises(InputError, match=r"ratings 1–5 in steps of 1, and these are 0\.5–5"):
            ImportedModel("b").version(halves, store)
        with pytest.raises(InputError, match=r"no imported model 'c' \(it has a, b\)"):
            ImportedModel("c").version(ratings, store)


def test_a_damaged_import_is_one_clear_line(
    tmp_path: Path, ratings: RatingMatrix, tables: Any
) -> None:
    with ModelStore(tmp_path) as store:
        found = bring_in("a", *factors(tables, ratings), ratings, real=USERS)[0]
        keep(found, store)
        path = tmp_path / "imported" / "a" / f"{ratings.digest()}.safetensors"
        whole = path.read_bytes()
        for data in (whole[:-1], b"", whole.replace(b'"real"', b'"reel"')):
            path.write_bytes(data)
            with pytest.raises(InputError, match=r"damaged|not a safetensors file"):
                read_import(store, "a", ratings)
        changes: list[dict[str, Any]] = [
            {"real": -1},
            {"real": USERS + 1},
            {"users": found.users[:, 0], "items": found.items[:, 0]},
            {"known_users": found.known_users[:, None]},
        ]
        for change in changes:
            keep(replace(found, **change), store)
            with pytest.raises(InputError, match="damaged"):
                read_import(store, "a", ratings)
        (path.parent / "newest").write_text("../../x")
        path.unlink()
        with pytest.raises(InputError, match="damaged"):
            read_import(store, "a", ratings)


def test_what_is_kept_is_read_again(tmp_path: Path, ratings: RatingMatrix, tables: Any) -> None:
    found = bring_in("a", *factors(tables, ratings), ratings, real=USERS)[0]
    with ModelStore(tmp_path) as store:
        keep(found, store)
        again = read_import(store, "a", ratings)
    for name in Imported.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(again, name), getattr(found, name))


def test_rows_in_another_order_are_seen(ratings: RatingMatrix, tables: Any) -> None:
    own, turned = fit_of(tables[0], tables[1], ratings), fit_of(tables[0][::-1], tables[1], ratings)
    assert not own.doubtful
    assert turned.doubtful


def test_the_defense_answers_with_an_imported_version(
    tmp_path: Path, ratings: RatingMatrix, tables: Any
) -> None:
    with ModelStore(tmp_path) as store:
        keep(bring_in("a", *factors(tables, ratings), ratings, real=USERS)[0], store)
        served = recommender("a", ratings, store, USERS)
        items = served.recommend(3, VicinalSettings(20, 0.4, 4, min_support=2), 10)
    assert len(set(items.tolist()) - set(ratings.items_of(3).tolist())) == 10
