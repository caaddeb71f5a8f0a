"""What lies on disks: who can read it, what is deleted, where links lead, what a kill leaves."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from client.stores.ratings import write_device_files, write_local_ratings
from common.errors import InputError
from common.files import MARK, open_lock, read_number, read_secret
from common.ranking import Counts
from server.model_store import ModelStore
from server.reports.tally import Tally
from server.trust.tokens import add_token_key, read_token_keys
from sims.processes.children import Children
from sims.serving.process import ServeProcess
from tests.support.modules import ENVIRONMENT, ROOT
from tests.support.serving import Endpoint, Scene, make_scene

SERVE = ("--dataset", "synthetic:120x200", "--k", "20", "--workers", "1")


# Under umask 022, and as on a full disk: EFBIG in place of ENOSPC. Not by a preexec_fn: that forks,
# and a fork of gRPC's threads may die.
LIMITED = """
import os, resource, signal, sys, vicinal
os.umask(0o022)
if (limit := int(sys.argv.pop(1))) >= 0:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
vicinal.main()
"""


def run(*arguments: object, limit: int = -1) -> subprocess.CompletedProcess[str]:
    """`vicinal …`; no file of it may be larger than `limit`, unless that is negative."""
    return subprocess.run(
        [sys.executable, "-c", LIMITED, str(limit), "--quiet", *map(str, arguments)],
        cwd=ROOT,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def line(done: subprocess.CompletedProcess[str], code: int) -> str:
    """What it ended with: one line, and nothing else."""
    assert done.returncode == code and not done.stdout, done
    [only] = done.stderr.splitlines()
    return only


def readable(folder: Path) -> list[str]:
    """What others may look into, the folder itself included."""
    return [str(path) for path in (folder, *folder.rglob("*")) if path.stat().st_mode & 0o077]


@pytest.fixture
def open_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.mark.slow
def test_ratings_and_reports_are_for_their_owner_and_a_kill_leaves_nothing(
    tmp_path: Path, open_umask: None
) -> None:
    folder = tmp_path / "server"
    folder.mkdir()
    process = ServeProcess(Children(folder), folder, SERVE)
    process.start()
    process.wait()
    try:
        device = tmp_path / "device"
        own = ("--ratings", process.ratings, "--store", device)
        done = run("device", "--users", "1-6", "--server", process.address, *own)
        assert done.returncode == 0, done.stderr
        assert (process.store / "serving" / MARK).exists()
        assert (process.store / "tally.sqlite-wal").exists()
        assert readable(process.store) == [] and readable(device) == []
        assert process.ratings.stat().st_mode & 0o077 == 0
    finally:
        process.kill()
    assert (process.store / "serving" / "current").exists()
    (process.store / ".lock.0123abcd.vicinal-part").write_text("half")
    with ModelStore(process.store):
        left = {path.name for path in process.store.iterdir()}
    assert (
        "serving" not in left
        and ".lock.0123abcd.vicinal-part" not in left
        and "tally.sqlite" in left
    )


def test_a_folder_called_serving_that_is_not_ours_stays(tmp_path: Path) -> None:
    thesis = tmp_path / "serving" / "thesis.tex"
    thesis.parent.mkdir()
    thesis.write_text("years of work")
    told = line(run("serve", "--open", "--store", tmp_path, *SERVE), 2)
    assert "serving is there, and vicinal did not make it: move it away" in told
    assert thesis.read_text() == "years of work"


def test_a_link_at_the_lock_is_not_written_through(tmp_path: Path) -> None:
    target = tmp_path / "mine"
    target.write_text("years of work")
    (tmp_path / "store").mkdir(mode=0o700)
    (tmp_path / "store" / "lock").symlink_to(target)
    assert "lock" in line(run("serve", "--open", "--store", tmp_path / "store", *SERVE), 1)
    assert target.read_text() == "years of work"


def test_secrets_that_everybody_can_read_are_refused(tmp_path: Path) -> None:
    secret, certs = tmp_path / "secret", tmp_path / "certs"
    add_token_key(secret)
    assert run("certs", "-o", certs).returncode == 0
    store = ("serve", "--store", tmp_path / "store", *SERVE)
    key = certs / "server.key"
    tls = ("--tls-certificate", certs / "server.pem", "--tls-key", key)
    for path, options in ((secret, ("--token-secret", secret)), (key, tls)):
        path.chmod(0o666)
        told = line(run(*store, *options), 2)
        assert told.endswith(f"(mode 0666): chmod 600 {path}")
        path.chmod(0o600)
    token = tmp_path / "token"
    assert run("token", "--secret", secret, "--user", 3, "-o", token).returncode == 0
    assert token.stat().st_mode & 0o777 == 0o600
    assert read_token_keys(secret).users(token.read_text().strip()) == range(3, 4)
    token.chmod(0o644)
    device = ("device", "--users", "3", "--ratings", secret, "--token", token)
    write_local_ratings(tmp_path / "ratings", make_scene(tmp_path).local)
    device = (*device[:4], tmp_path / "ratings", *device[5:])
    assert f"chmod 600 {token}" in line(run(*device), 2)
    # It holds the device's key.
    token.chmod(0o600)
    (tmp_path / "ratings").chmod(0o644)
    assert f"chmod 600 {tmp_path / 'ratings'}" in line(run(*device), 2)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return make_scene(tmp_path)


def test_a_full_disk_of_a_device_withholds_no_answer(scene: Scene, tmp_path: Path) -> None:
    write_local_ratings(tmp_path / "ratings", scene.local)
    with Endpoint(scene.service()) as endpoint:
        common = ("--server", endpoint.address, "--ratings", tmp_path / "ratings")
        device = ("device", "--users", "1-6", *common, "--store", tmp_path / "store")
        assert run(*device).returncode == 0
        done = run(*device, limit=0)
    assert done.returncode == 0, done.stderr
    assert "users answered" in done.stdout
    [told] = done.stderr.splitlines()
    assert "cannot write a report" in told and told.endswith("this report is not kept")


def test_nothing_of_somebody_else_in_a_store_is_taken_for_a_part_of_ours(tmp_path: Path) -> None:
    # A date has eight digits, as the parts of files had that a kill leaves.
    theirs = [tmp_path / name for name in (".notes.20261126", ".film.20261126.part")]
    for path in theirs:
        path.write_text("mine")
    with ModelStore(tmp_path):
        pass
    assert all(path.exists() for path in theirs)


def test_no_link_is_followed_and_no_pipe_waited_for_where_the_name_is_ours(tmp_path: Path) -> None:
    target, pipe, link = tmp_path / "target", tmp_path / "pipe", tmp_path / "link"
    target.write_text("7")
    os.mkfifo(pipe)
    link.symlink_to(target)
    for path in (pipe, link):
        assert read_number(path) == 0
        with pytest.raises(InputError, match="cannot be read"):
            read_secret(path)
    devices = tmp_path / "devices"
    devices.mkdir()
    local = make_scene(tmp_path).local
    for name, path in (("0", pipe), ("1", link)):
        (devices / f"{name}.safetensors").symlink_to(path)
        with pytest.raises(OSError, match="link"):
            write_device_files(devices, local.of([int(name)]))
    theirs = devices / "3.safetensors"
    theirs.write_bytes(b"a model")
    with pytest.raises(InputError, match="no device file"):
        write_device_files(devices, local.of([3]))
    assert theirs.read_bytes() == b"a model"
    (tmp_path / "hard").hardlink_to(target)
    with pytest.raises(OSError, match="another name"):
        open_lock(tmp_path / "hard")
    own = devices / "2.safetensors"
    write_device_files(devices, local.of([2]))
    own.chmod(0o644)
    write_device_files(devices, local.of([2]))
    assert own.stat().st_mode & 0o777 == 0o600
    assert target.read_text() == "7"


def test_a_tally_behind_a_link_is_made_where_it_was_asked_for_alone(
    tmp_path: Path, open_umask: None
) -> None:
    chosen, target = tmp_path / "chosen", tmp_path / "elsewhere" / "tally"
    target.parent.mkdir(mode=0o700)
    chosen.symlink_to(target)
    with Tally(users=10, eligible=(5,), path=chosen) as tally:
        tally.add("v", "vicinal", "key", Counts((1,), (0,), 1, on_device=1))
        assert len(list(target.parent.iterdir())) == 3
        assert readable(target.parent) == []


@pytest.mark.slow
def test_a_link_in_the_store_is_no_tally(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir(mode=0o700)
    (tmp_path / "store" / "tally.sqlite").symlink_to(tmp_path / "target")
    done = run("serve", *SERVE, "--open", "--port", "0", "--store", tmp_path / "store")
    assert done.returncode == 2 and "is a link" in done.stderr.splitlines()[-1]
    assert not (tmp_path / "target").exists()
