"""What a server prepares with a book, fetched by a device: the lists of one process."""

from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest

from client.disclosure import Disclosure
from client.link.connection import Connection
from client.session import Session
from client.stores.ratings import LocalRatings
from client.stores.versions import VersionStore
from common.errors import InputError
from common.versions.encodings import ENCODINGS
from common.vicinal.settings import PRESETS
from server.data.synthetic import synthetic
from server.front.service import OffloadService
from server.metrics import Metrics
from server.model_store import ModelStore
from server.preparing import Source, prepare
from server.recommending.book import BookRecommender, BookSettings
from server.reports.tally import Tally
from server.training.train import TrainingSettings
from server.versions.books import KEY_FILE, noise_key
from server.versions.catalog import Catalog
from tests.support.serving import Endpoint

USERS, FAKES = 60, 6
RATINGS = synthetic(USERS + FAKES, 40, seed=1)


class Nobody:
    """Who has a book asks for nothing that takes a worker."""

    async def ask(self, *_call: object) -> NoReturn:
        raise AssertionError


@pytest.mark.parametrize("name", ["mf", "nsvd", "autorec", "cdae"])
def test_a_device_s_lists_are_those_of_an_evaluation(tmp_path: Path, name: str) -> None:
    how = replace(PRESETS[name]["vicinal"], assumed_fakes=0.1)
    folder, local = tmp_path / "serving", LocalRatings(
        RATINGS.rows(np.arange(USERS)), np.full(USERS, -1, dtype=np.int32), np.zeros(USERS, bool)
    )  # fmt: skip
    with ModelStore(tmp_path / "store") as store:
        recommender = prepare(
            folder,
            store,
            Source(RATINGS, USERS, (3,)),
            TrainingSettings(model=name, epochs=2),
            {"vicinal": how},
            list_length=10,
            release="book",
        )
    secret = (tmp_path / "store" / KEY_FILE).read_bytes()
    key = noise_key(secret, BookSettings.of(how.tolerated_fakes(USERS + FAKES)))
    answering = BookRecommender(recommender, how, key)
    catalog = Catalog(folder)
    description = catalog.current.description
    with Tally(users=USERS, eligible=(USERS,)) as tally:
        service = OffloadService(catalog, tally, Nobody(), Metrics(description))
        with Endpoint(service) as endpoint, Connection(endpoint.address) as connection:
            for encoding in ENCODINGS:
                session = Session(
                    connection,
                    VersionStore(tmp_path / "device"),
                    local.with_keys(bytes(32)),
                    preset="vicinal",
                    encoding=encoding,
                    disclosure=Disclosure(least_users=1),
                )
                (answered, *more) = session.answer(range(USERS))
                for batch in more:
                    answered += batch
                lists = [list(one.items) for one in answered]
                expected = [answering.recommend(user, how, 10).tolist() for user in range(USERS)]
                listed = set(answering.book.items.tolist())
                if encoding == "float32":
                    assert lists == expected
                # Rounding may move what is nearly equal, and puts nothing unlisted first.
                same = [len(set(a) & set(b)) for a, b in zip(lists, expected, strict=True)]
                assert np.mean(same) > 9
                for user, found in enumerate(lists):
                    left = len(listed - set(RATINGS.items_of(user).tolist()))
                    assert set(found[: min(left, 10)]) <= listed


@pytest.mark.parametrize(
    ("name", "presets", "line"),
    [
        ("ease", ["vicinal"], "solved on rows of others"),
        ("mf", ["paper"], "preset vicinal"),
        ("mf", ["vicinal", "paper"], "leave out --presets"),
    ],
)
def test_what_has_no_book_is_refused(
    tmp_path: Path, name: str, presets: list[str], line: str
) -> None:
    wanted = {preset: PRESETS[name][preset] for preset in presets}
    with ModelStore(tmp_path / "store") as store, pytest.raises(InputError, match=line):
        prepare(
            tmp_path / "serving",
            store,
            Source(RATINGS, USERS),
            TrainingSettings(model=name, epochs=1),
            wanted,
            release="book",
        )
    assert not (tmp_path / "serving").exists()
