"""Ratings → model → what is served, by the server alone."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from common.errors import InputError
from common.vicinal.settings import PRESETS, preset
from server.data.datasets import load_dataset
from server.model_store import ModelStore
from server.preparing import Source, load_source, prepare, renew
from server.training.train import TrainingSettings
from server.versions.deployment import deployed_secret
from server.versions.folder import current_version, read_serving
from tests.support.modules import ENVIRONMENT, ROOT

DATASET = "synthetic:80x120"


def test_what_is_served_is_the_ratings_as_they_are(tmp_path: Path) -> None:
    begun = int(time.time())
    ratings = load_dataset(DATASET).ratings
    training = TrainingSettings.on(DATASET, model="mf")
    with ModelStore(tmp_path / "store") as store:
        source = load_source(DATASET, watched=(3,))
        prepare(
            tmp_path / "serving",
            store,
            source,
            training,
            {"vicinal": preset("vicinal", neighbors=90)},
        )
    recommender, description = read_serving(
        tmp_path / "serving", current_version(tmp_path / "serving")
    )
    assert recommender.ratings.digest() == ratings.digest()
    assert description.publication >= begun
    assert (description.user_count, description.watched) == (80, (3,))
    # 90 are asked for, 80 are there.
    assert description.presets["vicinal"].neighbors == 80
    assert description.experiment == ""


def test_a_renewed_version_keeps_what_may_be_asked_and_fits_the_new_ratings(
    tmp_path: Path,
) -> None:
    ratings, other = (load_dataset(DATASET, seed=seed).ratings for seed in (0, 1))
    folder = tmp_path / "serving"
    training = TrainingSettings.on(DATASET, model="mf")
    source = Source(ratings, 70, (3,), "an experiment")
    with ModelStore(tmp_path / "store") as store:
        prepare(folder, store, source, training, PRESETS["mf"], list_length=20)
    old = current_version(folder)
    changed = Source(other, 70, experiment="another one")
    name = renew(folder, changed, dataset=DATASET, seed=0, publication=1 << 40)
    assert current_version(folder) == old != name
    (_, before), (recommender, after) = read_serving(folder, old), read_serving(folder, name)
    assert recommender.ratings.digest() == other.digest()
    assert (after.presets, after.watched, after.list_length) == (
        (before.presets, before.watched, before.list_length)
    )
    assert before.publication < after.publication == 1 << 40
    assert deployed_secret(folder / old) == deployed_secret(folder / name)
    assert (before.experiment, after.experiment) == ("an experiment", "another one")
    with pytest.raises(InputError, match="retraining: 69 users × 120 items"):
        renew(folder, Source(other, 69), dataset=DATASET, seed=0, publication=1 << 41)


def test_a_watched_item_must_be_one() -> None:
    with pytest.raises(InputError, match="target 120 is not an item"):
        load_source(DATASET, watched=(120,))


def test_a_watched_item_must_be_new_to_somebody(tmp_path: Path) -> None:
    rows = "".join(f"{user},1,4\n{user},{user + 2},3\n" for user in range(5))
    (tmp_path / "ratings.csv").write_text("user,item,rating\n" + rows)
    with pytest.raises(InputError, match="every user has rated target 0"):
        load_source(str(tmp_path / "ratings.csv"), watched=(0,))


def test_a_server_prepares_itself_without_sims() -> None:
    code = "import server.preparing, sys; sys.exit('sims' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=ENVIRONMENT, check=False)
    assert done.returncode == 0
