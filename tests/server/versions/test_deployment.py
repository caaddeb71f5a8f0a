"""A deployment read back is the recommender that was written; a damaged one is refused."""

from pathlib import Path

import numpy as np
import pytest

from common.errors import InputError
from common.vicinal.settings import preset
from server.model_store import ModelStore
from server.recommending.recommender import Recommender
from server.versions.deployment import MODEL_FILE, SERVER_FILE, read_deployment, write_deployment
from sims.evaluation.experiment import Experiment, prepare


@pytest.fixture(scope="module")
def recommender(tmp_path_factory: pytest.TempPathFactory) -> Recommender:
    with ModelStore(tmp_path_factory.mktemp("store")) as store:
        return prepare(Experiment(dataset="synthetic:60x40")).train(store, search="borrowed")


def test_it_answers_as_before(recommender: Recommender, tmp_path: Path) -> None:
    write_deployment(tmp_path, recommender)
    again = read_deployment(tmp_path)
    assert again.version.digest == recommender.version.digest
    assert again.user_count == 60 < again.ratings.user_count
    assert again.ratings_digest == recommender.ratings_digest
    assert again.search == recommender.search == "borrowed"
    settings = preset("vicinal", neighbors=20)
    for user in (0, 31, 59):
        before, after = (r.neighborhood(user, settings) for r in (recommender, again))
        assert before.ratings.digest() == after.ratings.digest()
        for name, rows in before.user_parameters.items():
            np.testing.assert_array_equal(rows, after.user_parameters[name])
        assert again.recommend(user, settings, 10).tolist() == (
            recommender.recommend(user, settings, 10).tolist()
        )


@pytest.mark.parametrize("name", [MODEL_FILE, SERVER_FILE])
@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "gone"])
def test_a_damaged_one_is_refused(
    name: str, damage: str, recommender: Recommender, tmp_path: Path
) -> None:
    write_deployment(tmp_path, recommender)
    path = tmp_path / name
    data = bytearray(path.read_bytes())
    if damage == "gone":
        path.unlink()
    elif damage == "flip":
        # The last bytes of the server's file are a table of user parameters.
        data[-3] ^= 0x40
        path.write_bytes(bytes(data))
    else:
        path.write_bytes(bytes(data[: len(data) // 2 if damage == "cut" else 0]))
    with pytest.raises(InputError):
        read_deployment(tmp_path)
