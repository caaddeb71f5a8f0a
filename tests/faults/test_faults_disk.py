"""A disk that is full under a server that runs, and has room again."""

import resource
import signal
import time
from pathlib import Path

import pytest

from client.disclosure import Disclosure
from client.link.connection import Connection
from client.session import Session
from client.stores.ratings import read_local_ratings
from client.stores.reports import PendingReports, reports_folder
from client.stores.versions import VersionStore
from common.ranking import Counts
from server.reports.reading import read_counts
from tests.faults.support.disk import full_disk
from tests.faults.support.served import ServedProcess
from tests.support.child_processes import children_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="needs prlimit"),
    pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="needs SIGHUP"),
]
WAIT_SECONDS = 240
SERVE = ("--dataset", "synthetic:120x200", "--k", "20")


def test_a_report_that_the_servers_disk_does_not_take_is_counted_once_it_does(
    tmp_path: Path,
) -> None:
    with (
        ServedProcess(
            tmp_path / "server", ("--dataset", "synthetic:120x200", "--k", "20")
        ) as server,
        Connection(server.address, patience=60) as connection,
    ):
        store = VersionStore(tmp_path / "device")
        session = Session(
            connection,
            store,
            read_local_ratings(server.ratings),
            preset="vicinal",
            disclosure=Disclosure(least_users=1),
        )
        (first,) = session.answer([1, 2])
        owed = PendingReports(reports_folder(store.folder, server.address))
        with full_disk(server.pid):
            ((unreported,),) = session.answer([3])
            assert len(unreported.items) == session.description.list_length
            assert not unreported.reported
            assert len(list(owed)) == 1
            # All but reports goes on, and a training that cannot be written changes nothing.
            assert len(session.answer_one(4).items) == session.description.list_length
            server.tell(signal.SIGHUP)
            deadline = time.monotonic() + WAIT_SECONDS
            while not children_of(server.pid, "sims.serving.retraining"):
                assert time.monotonic() < deadline
            while children_of(server.pid, "sims.serving.retraining"):
                assert time.monotonic() < deadline
                time.sleep(0.05)
            assert connection.describe() == session.description
        assert session.send_pending() == 1 and list(owed) == []
        (last,) = session.answer([5])
        tally = server.store / "tally.sqlite"
        reports, total = read_counts(tally, session.description.version, "vicinal")
    expected = Counts.none(len(session.description.watched))
    for one in (*first, *last):
        expected += one.counts
    assert reports == 3
    assert total.answered == expected.answered + 1
