"""Many users, one process or several, and what is left when it ends badly."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest

from client.run import DeviceRun, answer_users
from client.stores.ratings import read_local_ratings, write_device_files, write_local_ratings
from common.errors import InputError, VicinalError
from tests.support.child_processes import children_of
from tests.support.serving import USERS, Endpoint, Misbehaving, make_scene

ROOT = Path(__file__).resolve().parents[2]


endpoints: dict[str, Endpoint] = {}


@pytest.fixture
def run(tmp_path: Path) -> Iterator[DeviceRun]:
    scene = make_scene(tmp_path)
    write_local_ratings(tmp_path / "ratings", scene.local)
    with Endpoint(scene.service()) as endpoint:
        endpoints[endpoint.address] = endpoint
        yield DeviceRun(
            endpoint.address,
            tmp_path / "ratings",
            tmp_path / "device",
            "vicinal",
            tuple(range(USERS)),
        )


def test_a_device_file_comes_back(tmp_path: Path) -> None:
    local = make_scene(tmp_path).local
    write_local_ratings(tmp_path / "ratings", local)
    read = read_local_ratings(tmp_path / "ratings")
    assert read.train.digest() == local.train.digest()
    assert [read.held_out_of(user) for user in range(USERS)] == [
        local.held_out_of(user) for user in range(USERS)
    ]


@pytest.mark.parametrize("data", [b"", b"junk" * 100, b"\xff" * 8])
def test_what_is_no_device_file_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "ratings").write_bytes(data)
    with pytest.raises(InputError, match="not a device file"):
        read_local_ratings(tmp_path / "ratings")


def test_a_folder_has_a_file_for_each_user(tmp_path: Path) -> None:
    local = make_scene(tmp_path).local
    folder = tmp_path / "devices"
    write_device_files(folder, local)
    written = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert len(written) == USERS
    write_device_files(folder, local)
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == written
    everybody, two = read_local_ratings(folder), read_local_ratings(folder, (31, 7))
    assert everybody.train.digest() == local.train.digest()
    for user in (7, 31):
        assert two.own(user).key == local.own(user).key
        assert two.items_of(user).tolist() == local.items_of(user).tolist()
        assert two.held_out_of(user) == local.held_out_of(user)
    with pytest.raises(InputError, match="not of user 8"):
        two.own(8)
    with pytest.raises(InputError, match="no device file of user 40"):
        read_local_ratings(folder, (7, 40))
    (folder / "8.safetensors").rename(folder / "9.safetensors")
    with pytest.raises(InputError, match="not the device file of user 9"):
        read_local_ratings(folder, (9,))


def test_processes_share_the_users_and_count_the_same(run: DeviceRun) -> None:
    seen: list[tuple[int, int]] = []
    alone = answer_users(run, progress=lambda done, total: seen.append((done, total)))
    together = answer_users(run, processes=2)
    assert seen[-1] == (USERS, USERS)
    assert alone.cold_bytes > 0 and together.cold_bytes == 0
    assert together.counts == alone.counts
    assert [one.user for one in together.answered] == list(range(USERS))
    reports, counts = endpoints[run.server].counted("vicinal")
    assert (reports, counts) == (4, alone.counts + together.counts)


def test_what_is_wrong_is_said_before_any_process_starts(run: DeviceRun) -> None:
    with pytest.raises(InputError, match="not the device file of user 40"):
        answer_users(replace(run, users=(40,)), processes=2)
    with pytest.raises(InputError, match="cannot be read"):
        answer_users(replace(run, ratings=run.store / "none"), processes=2)


def test_the_error_of_a_process_ends_the_run(run: DeviceRun) -> None:
    with pytest.raises(InputError, match="k = 45 neighbors asked of 44 users"):
        answer_users(replace(run, preset="crowd"), processes=2)
    assert children_of(os.getpid(), "spawn_main") == []


COMMAND = """
import sys
from pathlib import Path
from client.run import DeviceRun, answer_users
if __name__ == "__main__":
    run = DeviceRun(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), "paper", tuple(range(40)))
    try:
        answer_users(run, processes=2)
    except KeyboardInterrupt:
        sys.exit(130)
"""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks into /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_is_left_however_the_run_ends(tmp_path: Path, number: signal.Signals) -> None:
    scene = make_scene(tmp_path)
    write_local_ratings(tmp_path / "ratings", scene.local)
    script = tmp_path / "script.py"
    script.write_text(COMMAND)
    begun, released = Event(), Event()

    def hold() -> None:
        begun.set()
        released.wait(30)

    with Endpoint(Misbehaving(scene.service(), before=hold)) as endpoint:
        arguments = [endpoint.address, str(tmp_path / "ratings"), str(tmp_path / "device")]
        with subprocess.Popen(
            [sys.executable, str(script), *arguments],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            start_new_session=True,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                assert begun.wait(120)
                children = children_of(process.pid, "spawn_main")
                assert len(children) == 2
                if number == signal.SIGINT:
                    os.killpg(process.pid, number)  # as Ctrl-C does
                else:
                    process.send_signal(number)
                _, errors = process.communicate(timeout=60)
                deadline = time.monotonic() + 60
                while left := [pid for pid in children if Path(f"/proc/{pid}").exists()]:
                    assert time.monotonic() < deadline, f"{left} are left"
                    time.sleep(0.05)
                expected = 130 if number == signal.SIGINT else -number
                assert process.returncode == expected
                assert "Traceback" not in errors
            finally:
                released.set()
                process.kill()


def test_a_process_that_dies_is_named(run: DeviceRun, tmp_path: Path) -> None:
    scene = make_scene(tmp_path)
    begun, released = Event(), Event()

    def hold() -> None:
        begun.set()
        released.wait(30)

    with Endpoint(Misbehaving(scene.service(), before=hold)) as endpoint:

        def kill_one() -> None:
            assert begun.wait(120)
            os.kill(children_of(os.getpid(), "spawn_main")[0], signal.SIGKILL)

        killer = threading.Thread(target=kill_one)
        killer.start()
        try:
            with pytest.raises(VicinalError, match=r"ended without an answer \(exit code -9\)"):
                answer_users(replace(run, server=endpoint.address), processes=2)
        finally:
            released.set()
            killer.join()
