"""Tables of numbers in strangers' files."""

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from common.errors import InputError
from server.importing import arrays
from server.importing.arrays import read_npy, read_npz, read_safetensors, refuse_pickles

TABLE = np.arange(12, dtype=np.float32).reshape(4, 3)


def npy_bytes(array: Any, **options: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


@pytest.mark.parametrize("array", [TABLE, TABLE.T, TABLE.astype(">f8"), TABLE[:0], TABLE[0]])
def test_what_numpy_saves_is_read(tmp_path: Path, array: Any) -> None:
    np.save(tmp_path / "a.npy", array)
    found = read_npy(tmp_path / "a.npy")
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_one_of_several_arrays_is_found_by_a_usual_name(tmp_path: Path, save: Any) -> None:
    path = tmp_path / "als.npz"
    save(path, item_factors=TABLE, user_factors=TABLE + 1, factors=3)
    np.testing.assert_array_equal(read_npz(path, None, ("user_factors",)), TABLE + 1)
    np.testing.assert_array_equal(read_npz(path, "item_factors", ()), TABLE)
    with pytest.raises(InputError, match=r"holds no 'p'; it holds item_factors, user_factors"):
        read_npz(path, "p", ())
    with pytest.raises(InputError, match=r"write which one, as als.npz:NAME"):
        read_npz(path, None, ("rows",))


def test_safetensors_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"users": TABLE, "items": TABLE + 1}, path)
    np.testing.assert_array_equal(read_safetensors(path, None, ("items",)), TABLE + 1)
    save_file({"only": TABLE}, path)
    np.testing.assert_array_equal(read_safetensors(path, None, ()), TABLE)


def test_bfloat16_is_refused_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    header = b'{"a":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}'
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    with pytest.raises(InputError, match="a is BF16: store it as float32"):
        read_safetensors(path, None, ())


class Dangerous:
    def __reduce__(self) -> Any:
        return (Path("/tmp/never").write_text, ("ran",))


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    hidden = np.array([Dangerous()], dtype=object)
    (tmp_path / "a.npy").write_bytes(npy_bytes(hidden, allow_pickle=True))
    with pytest.raises(InputError, match="holds Python objects, which can run code"):
        read_npy(tmp_path / "a.npy")
    np.savez(tmp_path / "a.npz", a=hidden)
    with pytest.raises(InputError, match="holds Python objects, which can run code"):
        read_npz(tmp_path / "a.npz", None, ())
    (tmp_path / "b.npy").write_bytes(pickle.dumps(Dangerous()))
    with pytest.raises(InputError, match="not an npy file"):
        read_npy(tmp_path / "b.npy")
    assert not Path("/tmp/never").exists()


@pytest.mark.parametrize("end", arrays.PICKLES)
def test_files_of_torch_are_refused_with_how_to_export(end: str) -> None:
    with pytest.raises(InputError, match=r"can run code and are not read\. Export the table"):
        refuse_pickles(Path(f"model{end.upper()}"))


def header(text: str, version: bytes = b"\x01\x00") -> bytes:
    data = text.encode()
    return b"\x93NUMPY" + version + len(data).to_bytes(2, "little") + data


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not an npy file"),
        (b"\x93NUMPY", "not an npy file"),
        (npy_bytes(TABLE)[:-1], "its header claims 48 bytes, and 47 are there"),
        (npy_bytes(TABLE) + b"x", "its header claims 48 bytes, and 49 are there"),
        (
            header("{'descr': '<f4', 'fortran_order': False, 'shape': (9999999999999, 9999999)}\n"),
            "its header claims 399999",
        ),
        (
            header("{'descr': '<f4', 'fortran_order': False, 'shape': (-2, -2)}\n") + bytes(16),
            "its header claims 16 bytes",
        ),
        (header("{'descr': '<f4', 'fortran_order': False, 'shape': 'x'}\n"), "not an npy file"),
        (header("(" * 9000), "not an npy file"),
        (header("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}\n"), "Python objects"),
        (header("{}", b"\x03\x00"), "of version 3 are not read"),
    ],
)
def test_a_header_that_lies_is_refused(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "a.npy").write_bytes(data)
    with pytest.raises(InputError, match=message):
        read_npy(tmp_path / "a.npy")


def test_an_array_that_unpacks_to_more_than_is_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez_compressed(tmp_path / "a.npz", a=np.zeros((1000, 1000)))
    monkeypatch.setattr(arrays, "MAX_BYTES", 1 << 20)
    with pytest.raises(InputError, match="is larger than"):
        read_npz(tmp_path / "a.npz", None, ())


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"no zip"])
def test_no_zip_and_no_safetensors(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(InputError, match="not an npz file"):
        read_npz(tmp_path / "a", None, ())
    with pytest.raises(InputError, match="not a safetensors file"):
        read_safetensors(tmp_path / "a", None, ())


def test_a_zip_without_arrays_holds_none(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("data.pkl", b"")
    with pytest.raises(InputError, match="holds no arrays"):
        read_npz(tmp_path / "a.npz", None, ())


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_npy(tmp_path / "a.npy")


@given(at=st.integers(0, 175), value=st.integers(0, 255))
def test_a_changed_byte_gives_a_table_or_one_clear_error(
    tmp_path_factory: pytest.TempPathFactory, at: int, value: int
) -> None:
    data = bytearray(npy_bytes(TABLE))
    data[at] = value
    path = tmp_path_factory.getbasetemp() / "fuzzed.npy"
    path.write_bytes(data)
    try:
        assert read_npy(path).nbytes == TABLE.nbytes
    except InputError as error:
        assert str(path) in str(error)
