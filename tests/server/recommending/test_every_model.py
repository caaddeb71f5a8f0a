"""Every model goes the whole way: trained, stored, shipped, answered by device and server alike."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from client.device import answer
from common.models import MODELS, model_named
from common.vicinal.settings import PRESETS, VicinalSettings, preset
from server.data.synthetic import synthetic
from server.model_store import ModelStore
from server.recommending.recommender import USERS_PER_CHUNK, Recommender, embeddings
from server.training.train import TrainingSettings, train
from server.versions.deployment import read_deployment, write_deployment
from tests.support.crossing import crossed

USERS = USERS_PER_CHUNK + 10


@cache
def recommender(model: str, folder: Path) -> Recommender:
    ratings = synthetic(USERS, 70, seed=0)
    settings = TrainingSettings.model_validate({"model": model, "width": 6, "epochs": 3})
    with ModelStore(folder / model) as store:
        return Recommender(store.save(train(ratings, settings)), ratings, USERS)


@pytest.fixture(params=MODELS)
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Recommender:
    return recommender(request.param, tmp_path_factory.getbasetemp())


def settings_of(model: str) -> list[VicinalSettings]:
    return [preset(name, model=model, neighbors=9) for name in PRESETS[model]]


def test_a_device_answers_what_the_server_would(served: Recommender) -> None:
    version = served.version
    for settings in settings_of(version.manifest.model):
        for user in (0, USERS - 1):
            own, sent = served.ratings.rows([user]), served.neighborhood(user, settings)
            hidden = served.hidden(user, settings, sent)
            found = answer(
                version,
                crossed(sent, version.manifest, settings, own, hidden),
                settings,
                rated=served.ratings.items_of(user),
                held_out=None,
                watched=(),
                list_length=10,
            )
            assert found.items.tolist() == served.recommend(user, settings, 10).tolist()


def test_a_deployment_answers_the_same(served: Recommender, tmp_path: Path) -> None:
    write_deployment(tmp_path, served, bytes(32))
    deployed = read_deployment(tmp_path)
    for settings in settings_of(served.version.manifest.model):
        assert deployed.recommend(5, settings, 10).tolist() == (
            served.recommend(5, settings, 10).tolist()
        )


def test_users_are_encoded_in_chunks_as_they_would_be_at_once(served: Recommender) -> None:
    stored = served.stored
    model = model_named(stored.version.manifest.model)
    parameters = {**stored.version.parameters, **stored.user_parameters}
    whole = model.encode(parameters, served.ratings.dense())
    np.testing.assert_allclose(embeddings(stored, served.ratings), whole, rtol=1e-5, atol=1e-6)


def test_the_undefended_answer_is_the_forward_pass(served: Recommender) -> None:
    stored = served.stored
    model = model_named(stored.version.manifest.model)
    parameters = {**stored.version.parameters, **stored.user_parameters}
    scores = model.decode(parameters, model.encode(parameters, served.ratings.dense()))[4]
    scores[served.ratings.items_of(4)] = -np.inf
    best = served.recommend_undefended(4, 10)
    np.testing.assert_allclose(scores[best], np.sort(scores)[::-1][:10], rtol=1e-5)
