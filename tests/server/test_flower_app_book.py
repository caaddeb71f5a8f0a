"""A fleet that answers from a book: it comes with the model, and no neighborhood comes at all."""

import dataclasses
import json
from pathlib import Path

import pytest
from flwr.app import ConfigRecord

from common.errors import InputError
from common.ranking import Counts, count_user
from common.wire import fleet_pb2 as wire
from common.wire.fleet import BOOK
from server.fleet import work
from server.recommending.book import BookRecommender
from server.versions.deployment import BOOK_FILE
from tests.support.fleets import CLIENTS, SETTINGS, Fleet, payload, run, write_files

HOW = SETTINGS["vicinal"]
KEY = b"secret"


@pytest.fixture(scope="module")
def answering(fleet: Fleet) -> BookRecommender:
    return BookRecommender(fleet.recommender, HOW, KEY)


def in_process(fleet: Fleet, answering: BookRecommender) -> Counts:
    """As `vicinal evaluate --release book` counts."""
    local, watched = fleet.prepared.local, fleet.prepared.watched
    counts = Counts.none(len(watched))
    for user in range(48):
        rated = local.train.items_of(user)
        items = answering.recommend(user, HOW, 10)
        counts += count_user(items, rated, watched, local.held_out_of(user))
    return dataclasses.replace(counts, on_device=48)


def test_a_fleet_counts_what_one_process_counts(
    fleet: Fleet, answering: BookRecommender, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "BATCH_USERS", 3)
    grid, result = run(write_files(tmp_path, fleet, book=answering.book))
    expected = in_process(fleet, answering)
    assert 0 < expected.user_hits < 48
    assert result["counts"] == json.loads(json.dumps(dataclasses.asdict(expected)))
    assert (result["release"], result["answered"]) == ("book", 48)
    books = [m for m in grid.sent if m.metadata.message_type == "train.install"]
    assert len(books) == CLIENTS
    assert all(wire.Install.FromString(payload(m)).book for m in books)
    asked = [m for m in grid.sent if m.metadata.message_type == "query.recommend"]
    assert len(asked) == 2 * CLIENTS  # four users each
    for message in asked:
        for each in wire.Work.FromString(payload(message)).users:
            assert not each.HasField("neighborhood")


def test_a_client_that_lost_its_book_gets_it_again(
    fleet: Fleet, answering: BookRecommender, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import client.flower_app  # noqa: PLC0415

    real = client.flower_app._held_book
    lost: list[int] = []

    def forgetful(digest, version, context):  # type: ignore[no-untyped-def]
        if context.node_id not in lost and len(lost) < 3:
            lost.append(context.node_id)
            context.state[BOOK] = ConfigRecord({BOOK: b"of another version"})
        return real(digest, version, context)

    monkeypatch.setattr(client.flower_app, "_held_book", forgetful)
    grid, result = run(write_files(tmp_path, fleet, book=answering.book))
    assert result["answered"] == 48 and len(lost) == 3
    installs = [m for m in grid.sent if m.metadata.message_type == "train.install"]
    assert len(installs) == CLIENTS + 3


def test_files_without_a_book_leave_none_behind(
    fleet: Fleet, answering: BookRecommender, tmp_path: Path
) -> None:
    files = write_files(tmp_path, fleet, book=answering.book)
    assert (files.folder / "deployment" / BOOK_FILE).exists()
    _, result = run(write_files(tmp_path, fleet))
    assert result["release"] == "rows"


def test_a_deployment_with_another_version_s_book_is_refused(
    fleet: Fleet, answering: BookRecommender, tmp_path: Path
) -> None:
    files = write_files(tmp_path, fleet, book=answering.book)
    path = files.folder / "deployment" / BOOK_FILE
    path.write_bytes(
        path.read_bytes().replace(fleet.recommender.version.digest.encode(), b"a" * 64)
    )
    with pytest.raises(InputError, match="another model version"):
        run(files)
