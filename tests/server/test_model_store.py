"""The model store: what it returns is what was saved, whatever happened to the disk since."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load, save

from common.errors import InputError
from common.files import write_file
from server.data.synthetic import synthetic
from server.model_store import ModelStore, StoredModel, TrainedModel, tables_digest
from server.training.train import TrainingSettings, train


@cache
def trained() -> TrainedModel:
    settings = TrainingSettings(width=4, epochs=1, batch=64)
    return train(synthetic(20, 30, seed=0), settings)


@pytest.fixture
def stored(tmp_path: Path) -> StoredModel:
    with ModelStore(tmp_path) as store:
        return store.save(trained())


def users_file(stored: StoredModel) -> Path:
    return stored.path.parent / "users.safetensors"


def pointer(folder: Path) -> Path:
    return folder / "trained" / trained().manifest.training_digest


def files_in(folder: Path) -> set[str]:
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {path.as_posix() for path in paths}


def test_what_is_saved_is_found(tmp_path: Path, stored: StoredModel) -> None:
    with ModelStore(tmp_path) as store:
        found = store.find(trained().manifest.training_digest)
        assert store.find("0" * 64) is None
    assert found is not None
    assert found.version.digest == stored.version.digest
    assert found.version.manifest == trained().manifest
    for read, made in (
        (found.version.parameters, trained().shared_parameters),
        (found.user_parameters, trained().user_parameters),
    ):
        assert set(read) == set(made)
        for name, table in made.items():
            np.testing.assert_array_equal(read[name], table)


def test_a_version_is_in_three_files_and_saved_twice_is_one(
    tmp_path: Path, stored: StoredModel
) -> None:
    digest = stored.version.digest
    expected = {
        "lock",
        f"versions/{digest}/model.safetensors",
        f"versions/{digest}/users.safetensors",
        f"trained/{trained().manifest.training_digest}",
    }
    assert files_in(tmp_path) == expected
    with ModelStore(tmp_path) as store:
        store.save(trained())
    assert files_in(tmp_path) == expected


def test_users_are_not_in_what_devices_fetch(stored: StoredModel) -> None:
    assert set(load(stored.path.read_bytes())) == {"item_embedding"}
    rows = trained().user_parameters["user_embedding"]
    assert rows[0].tobytes() in users_file(stored).read_bytes()
    assert rows[0].tobytes() not in stored.path.read_bytes()


@pytest.mark.parametrize("where", [0, 100, -1])
@pytest.mark.parametrize("which", ["model", "users"])
def test_a_flipped_bit_is_noticed(
    tmp_path: Path, stored: StoredModel, which: str, where: int
) -> None:
    path = stored.path if which == "model" else users_file(stored)
    data = bytearray(path.read_bytes())
    data[where] ^= 1
    path.write_bytes(data)
    assert_refused(tmp_path)


@pytest.mark.parametrize("which", ["model", "users"])
@pytest.mark.parametrize("length", [0, 7, 8, -1])
def test_a_truncated_file_is_noticed(
    tmp_path: Path, stored: StoredModel, which: str, length: int
) -> None:
    path = stored.path if which == "model" else users_file(stored)
    path.write_bytes(path.read_bytes()[:length])
    assert_refused(tmp_path)


@pytest.mark.parametrize("which", ["model", "users"])
def test_a_missing_file_is_noticed(tmp_path: Path, stored: StoredModel, which: str) -> None:
    (stored.path if which == "model" else users_file(stored)).unlink()
    assert_refused(tmp_path, "is missing")


@pytest.mark.parametrize("text", ["", "0" * 63, "../../../etc/passwd", "\xff", "0" * 64])
def test_a_damaged_pointer_is_noticed(tmp_path: Path, stored: StoredModel, text: str) -> None:
    del stored
    pointer(tmp_path).write_text(text, encoding="latin-1")
    assert_refused(tmp_path)


def assert_refused(folder: Path, message: str | None = None) -> None:
    """Refused in one line that says what to delete, after which training anew works."""
    with ModelStore(folder) as store:
        with pytest.raises(InputError, match=message) as caught:
            store.find(trained().manifest.training_digest)
        line = str(caught.value)
        assert "\n" not in line
        assert line.endswith(f"delete {pointer(folder)} to train again")
        pointer(folder).unlink()
        assert store.find(trained().manifest.training_digest) is None
        store.save(trained())
        assert store.find(trained().manifest.training_digest) is not None


def test_a_huge_file_is_not_read(tmp_path: Path, stored: StoredModel) -> None:
    with stored.path.open("r+b") as opened:
        opened.truncate(6 << 30)
    assert_refused(tmp_path, "larger than")


def test_other_users_than_the_manifest_names_are_refused(
    tmp_path: Path, stored: StoredModel
) -> None:
    rows = trained().user_parameters["user_embedding"]
    users_file(stored).write_bytes(save({"user_embedding": rows + 1}))
    assert_refused(tmp_path, "do not match")


def test_user_tables_of_another_shape_are_refused_although_their_digest_fits(
    tmp_path: Path,
) -> None:
    few = {"user_embedding": np.zeros((3, 4), dtype=np.float32)}
    manifest = replace(trained().manifest, user_digest=tables_digest(few))
    with ModelStore(tmp_path) as store, pytest.raises(InputError, match="do not match"):
        store.save(replace(trained(), manifest=manifest, user_parameters=few))


def test_parameters_that_do_not_fit_the_manifest_are_not_saved(tmp_path: Path) -> None:
    wrong = {"item_embedding": np.zeros((3, 4), dtype=np.float32)}
    with ModelStore(tmp_path) as store, pytest.raises(InputError, match="the manifest says"):
        store.save(replace(trained(), shared_parameters=wrong))
    assert files_in(tmp_path) == {"lock"}


def test_two_uses_of_one_store_at_once_are_refused(tmp_path: Path) -> None:
    message = rf"in use by process {os.getpid()}: stop it or choose another --store"
    with ModelStore(tmp_path), pytest.raises(InputError, match=message):
        ModelStore(tmp_path).__enter__()
    with ModelStore(tmp_path):
        pass


HOLDER = """
import sys, time
from pathlib import Path
from server.model_store import ModelStore
with ModelStore(Path(sys.argv[1])):
    print("up", flush=True)
    time.sleep(60)
"""


def test_a_killed_process_leaves_the_store_free(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"up\n"
        with pytest.raises(InputError, match=f"in use by process {process.pid}"):
            ModelStore(tmp_path).__enter__()
        process.send_signal(signal.SIGKILL)
        process.wait()
    with ModelStore(tmp_path):
        pass


# Copies the store argv[1] to argv[2] under a limit of argv[3] bytes a file, as on a full disk.
FULL = """
import resource, signal, sys
from pathlib import Path
from server.model_store import ModelStore, TrainedModel
with ModelStore(Path(sys.argv[1])) as store:
    found = store.find(sys.argv[4])
trained = TrainedModel(found.version.manifest, found.version.parameters, found.user_parameters)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with ModelStore(Path(sys.argv[2])) as store:
    limit = int(sys.argv[3])
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        store.save(trained)
    except OSError as error:
        print("refused", error.errno)
"""


# Users take 400 bytes, the version 1 KB: the first limit stops the one, the second the other.
@pytest.mark.parametrize("limit", [200, 600])
def test_a_full_disk_leaves_nothing_that_looks_finished(
    tmp_path: Path, stored: StoredModel, limit: int
) -> None:
    full = tmp_path / "full"
    training = stored.version.manifest.training_digest
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path), str(full), str(limit), training],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("refused"), done.stdout + done.stderr
    left = files_in(full)
    assert (
        left == {"lock", ".vicinal"}
        if limit == 200
        else any("users.safetensors" in name for name in left)
    )
    assert not any("model" in name or "trained" in name or "/." in name for name in left)
    with ModelStore(full) as store:
        assert store.find(trained().manifest.training_digest) is None
        store.save(trained())
        assert store.find(trained().manifest.training_digest) is not None


def test_the_digest_of_tables_tells_names_shapes_and_values_apart() -> None:
    table = np.arange(6, dtype=np.float32)
    digests = {
        tables_digest(tables)
        for tables in (
            {"a": table},
            {"b": table},
            {"a": table.reshape(2, 3)},
            {"a": table.reshape(3, 2)},
            {"a": table[::-1]},
            {"a": table, "b": table},
        )
    }
    assert len(digests) == 6
    assert tables_digest({"a": table, "b": table[:2]}) == tables_digest(
        {"b": table[:2].copy(), "a": table}
    )


def test_a_store_in_the_place_of_a_file_is_an_error(tmp_path: Path) -> None:
    write_file(tmp_path / "file", b"")
    with pytest.raises(OSError, match="exists"):
        ModelStore(tmp_path / "file").__enter__()
