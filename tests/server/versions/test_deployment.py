"""A deployment read back is the recommender that was written; a damaged one is refused."""

from pathlib import Path

import numpy as np
import pytest

from common.errors import InputError
from common.vicinal.settings import preset
from server.model_store import ModelStore
from server.recommending.recommender import Recommender
from server.versions.deployment import deployed_secret, read_deployment, write_deployment
from server.versions.files import DEVICES_FILE, MODEL_FILE, SERVER_FILE
from sims.evaluation.experiment import Experiment, prepare
from tests.support.scenes import SECRET


@pytest.fixture(scope="module")
def recommender(tmp_path_factory: pytest.TempPathFactory) -> Recommender:
    with ModelStore(tmp_path_factory.mktemp("store")) as store:
        return prepare(Experiment(dataset="synthetic:60x40")).train(store, search="borrowed")


def test_it_answers_as_before(recommender: Recommender, tmp_path: Path) -> None:
    write_deployment(tmp_path, recommender, SECRET)
    again = read_deployment(tmp_path)
    assert again.version.digest == recommender.version.digest
    assert again.user_count == 60 < again.ratings.user_count
    assert again.ratings.digest() == recommender.ratings.digest()
    assert deployed_secret(tmp_path) == SECRET
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
    write_deployment(tmp_path, recommender, SECRET)
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


@pytest.mark.parametrize("damage", ["open to others", "short", "a link", "gone"])
def test_a_secret_that_is_none_is_refused(
    damage: str, recommender: Recommender, tmp_path: Path
) -> None:
    write_deployment(tmp_path, recommender, SECRET)
    path = tmp_path / DEVICES_FILE
    assert path.stat().st_mode & 0o777 == 0o600
    if damage == "open to others":
        path.chmod(0o640)
    elif damage == "short":
        path.write_bytes(SECRET[:-1])
    else:
        path.rename(tmp_path / "elsewhere")
    if damage == "a link":
        path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=DEVICES_FILE):
        deployed_secret(tmp_path)
