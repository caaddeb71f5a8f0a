"""A device killed before each change that it makes on its disk, and started again."""

import signal
import subprocess
from pathlib import Path

import pytest

from client.stores.ratings import write_local_ratings
from client.stores.versions import VersionStore
from common.ranking import Counts
from tests.faults.support.kill_point import PRESET, USERS
from tests.faults.support.ledger import counts_of, read_ledger
from tests.support.modules import ENVIRONMENT, ROOT, command
from tests.support.serving import Endpoint, Misbehaving, make_scene

MOST_POINTS = 60


def run(address: str, ratings: Path, folder: Path, point: int) -> int:
    return subprocess.run(
        command("tests.faults.support.kill_point", address, str(ratings), str(folder), str(point)),
        cwd=ROOT,
        env=ENVIRONMENT,
        timeout=120,
        check=False,
    ).returncode


@pytest.mark.slow
def test_a_device_killed_at_any_change_of_its_disk_is_whole_afterwards(tmp_path: Path) -> None:
    scene = make_scene(tmp_path)
    ratings = tmp_path / "ratings"
    write_local_ratings(ratings, scene.local)
    server = Misbehaving(scene.service())
    made: dict[str, Counts] = {}
    kept: set[str] = set()
    with Endpoint(server) as endpoint:
        for point in range(1, MOST_POINTS):
            folder = tmp_path / str(point)
            folder.mkdir()
            code = run(endpoint.address, ratings, folder, point)
            assert code in (0, -signal.SIGKILL)
            assert run(endpoint.address, ratings, folder, 0) == 0
            entries = read_ledger(folder / "ledger")
            made |= {one["key"]: counts_of(one["counts"]) for one in entries if "counts" in one}
            kept |= {one["key"] for one in entries if one["what"] == "kept"}
            store = VersionStore(folder / "store")
            (digest,) = store.digests()
            assert store.read(digest) == scene.data
            assert list((folder / "store").glob("reports/*/*.report")) == []
            if code == 0:
                break
        reports, total = endpoint.counted(PRESET)
    # At the least: a version, two packages and a report, each opened and renamed; one deleted.
    assert code == 0 and point > 2 * (2 + len(USERS)) + 1
    # A key that was made and not kept was never sent: its device was killed while it wrote.
    counted = {request.key for request in server.reports}
    assert kept <= counted <= made.keys()
    expected = Counts.none(len(total.hits))
    for key in counted:
        expected += made[key]
    assert reports == len(counted) and total == expected
