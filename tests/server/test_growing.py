"""Ratings that grow and shrink under every model: who is known keeps the answers."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from common.errors import InputError
from common.models import CLOSED_FORM, MODELS
from common.vicinal.settings import PRESETS
from server.data.databases import AwayError
from server.data.growth import KnownIds, ids_file, ids_of, keep_ids, read_ids
from server.model_store import ModelStore
from server.preparing import Source, load_source, prepare, refresh, renew, require_kept
from server.training.train import TrainingSettings
from server.versions.folder import current_version, read_serving
from sims.evaluation.experiment import NO_ATTACK, Experiment
from sims.serving import retraining
from sims.serving.ratings import load_ratings
from sims.serving.retraining import Spec, refreshed, retrain, write_spec

USERS, ITEMS = 40, 25
Triple = tuple[str, str, int]


def first_ratings() -> list[Triple]:
    rng = np.random.default_rng(0)
    return [
        (f"user {user:02}", f"item {item:02}", int(rng.integers(1, 6)))
        for user in range(USERS)
        for item in rng.permutation(ITEMS)[:10]
    ]


def write(path: Path, rows: list[Triple]) -> Path:
    text = "".join(f"{user},{item},{stars}\n" for user, item, stars in rows)
    path.write_text(f"user,item,rating\n{text}")
    return path


def served(folder: Path, model: str) -> tuple[Path, KnownIds]:
    """A folder with a version of first_ratings(), which r.csv has, and the ids of it."""
    source = load_source(str(write(folder / "r.csv", first_ratings())))
    training = TrainingSettings.on("synthetic", model=model).model_copy(update={"epochs": 2})
    presets = {"vicinal": replace(PRESETS[model]["vicinal"], neighbors=8)}
    with ModelStore(folder / "store") as store:
        prepare(folder / "serving", store, source, training, presets, list_length=10)
    known = ids_of(source.ratings)
    assert known is not None
    return folder / "serving", known


def answers(folder: Path, users: range) -> list[list[int]]:
    recommender, description = read_serving(folder, current_version(folder))
    settings = description.preset("vicinal")
    return [recommender.recommend(user, settings, 10).tolist() for user in users]


@pytest.mark.parametrize("model", [*MODELS, *CLOSED_FORM])
def test_every_model_takes_new_users_and_items_and_loses_old_ones(
    tmp_path: Path, model: str
) -> None:
    folder, known = served(tmp_path, model)
    before = answers(folder, range(USERS))
    # They sort before all others; one has rated all that there is, one a single item.
    rows = first_ratings()
    rows += [("a", f"item {item:02}", 5) for item in range(0, 20, 2)] + [("a", "a new one", 5)]
    rows += [("b", f"item {item:02}", 5) for item in range(ITEMS)] + [("c", "item 03", 1)]
    source = load_source(str(write(tmp_path / "r.csv", rows)), known=known)
    require_kept(folder, source)
    assert refresh(folder, source).users == USERS + 3
    assert answers(folder, range(USERS)) == before
    everything, nothing = answers(folder, range(USERS, USERS + 3))[1:]
    assert everything == [] and len(nothing) > 0 and 3 not in nothing
    # A user who is gone, an item that is gone, ratings that are others.
    left = [(u, i, 6 - s) for u, i, s in rows if u != "user 07" and i != "item 05"]
    grown = ids_of(source.ratings)
    source = load_source(str(write(tmp_path / "r.csv", left)), known=grown)
    require_kept(folder, source)
    name = renew(folder, source, dataset=str(tmp_path / "r.csv"), seed=0, publication=1 << 40)
    recommender, description = read_serving(folder, name)
    assert (description.user_count, description.manifest.items) == (USERS + 3, ITEMS + 1)
    rated = {(u, i): s for u, i, s in left}
    found = recommender.ratings
    values = found.scale.values[found.levels]
    assert grown is not None
    assert {
        (grown.users[u], grown.items[i]): int(value)
        for u, i, value in zip(found.users, found.items, values, strict=True)
    } == rated
    gone = recommender.recommend(7, description.preset("vicinal"), 10)
    assert found.items_of(7).size == 0 and len(set(gone.tolist())) == len(gone)


def spec_of(tmp_path: Path, folder: Path) -> Spec:
    experiment = Experiment(
        dataset=str(tmp_path / "r.csv"), attack=NO_ATTACK, targets=(), list_length=10
    )
    spec = Spec(experiment, tmp_path / "store")
    write_spec(folder, spec)
    return spec


@pytest.mark.parametrize("how", ["half-written", "other columns"])
def test_ratings_without_the_served_ones_are_not_taken(tmp_path: Path, how: str) -> None:
    folder, known = served(tmp_path, "mf")
    spec = spec_of(tmp_path, folder)
    ids = ids_file(spec.store, spec.experiment.dataset, spec.experiment.reading)
    keep_ids(ids, load_source(str(tmp_path / "r.csv")).ratings)
    version, rows = current_version(folder), first_ratings()
    if how == "half-written":
        rows = rows[: len(rows) // 3]
    else:
        rows = [(item, user, stars) for user, item, stars in rows]
    write(tmp_path / "r.csv", rows)
    for work in (refreshed, retrain):
        with pytest.raises(InputError, match=r"only \d+ of the 400 ratings that are served are"):
            work(folder)
    assert current_version(folder) == version and read_ids(ids) == known
    # An experiment withholds other ratings each time.
    require_kept(folder, Source(load_source(str(tmp_path / "r.csv")).ratings, 1, (), "withheld"))


def test_a_file_that_is_written_while_it_is_read_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = served(tmp_path, "mf")
    spec_of(tmp_path, folder)
    rows = first_ratings()

    def written_meanwhile(*args: object, **said: object) -> object:
        found = load_ratings(*args, **said)  # type: ignore[arg-type]
        rows.append(("z", f"item {len(rows) % ITEMS:02}", 3))
        write(tmp_path / "r.csv", rows)
        return found

    with monkeypatch.context() as patched:
        patched.setattr(retraining, "load_ratings", written_meanwhile)
        with pytest.raises(AwayError, match="was written while it was read"):
            refreshed(folder)
    refreshed(folder)
    assert read_serving(folder, current_version(folder))[0].user_count == USERS + 1
