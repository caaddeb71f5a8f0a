"""Encodings of a version: near what they encode, always the same bytes, hostile ones refused."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.numpy import load, save

from common.errors import InputError
from common.versions.encodings import (
    ENCODINGS,
    Encoding,
    decode_form,
    encode_form,
    encoding_named,
    form_of,
    tensor_bytes,
)
from common.versions.version import Manifest, ModelVersion, file_metadata, version_digest

SMALL: tuple[Encoding, ...] = ("float16", "int8")


def version_of(model: str, tables: dict[str, NDArray[np.float32]]) -> ModelVersion:
    items, width = tables["item_embedding"].shape
    manifest = Manifest(model, 9, items, width, 1.0, 5.0, 1.0, "a" * 64, "b" * 64)
    bare = ModelVersion("", manifest, tables)
    return replace(bare, digest=version_digest(encode_form(bare, "float32")))


def random_version(model: str = "cdae", *, seed: int = 0, spread: float = 1.0) -> ModelVersion:
    rng = np.random.default_rng(seed)
    shapes = {"item_embedding": (30, 16)}
    if model != "mf":
        shapes |= {"input_embedding": (30, 16)}
        shapes |= {"hidden_bias": (16,), "item_bias": (30,)}  # type: ignore[dict-item]
    return version_of(
        model,
        {
            name: (spread * rng.standard_normal(shape)).astype(np.float32)
            for name, shape in shapes.items()
        },
    )


@given(
    st.sampled_from(ENCODINGS),
    st.integers(0, 1000),
    st.floats(-30, 17).map(lambda power: 2.0**power),
)
def test_a_form_decodes_to_the_version_nearly(encoding: Encoding, seed: int, spread: float) -> None:
    version = random_version(seed=seed, spread=spread)
    data = encode_form(version, encoding)
    assert data == encode_form(version, encoding)
    form = form_of(data, encoding)
    assert 0 < form.size - tensor_bytes(version.manifest, encoding) < 2048
    decoded = decode_form(data, form, version=version.digest)
    assert (decoded.digest, decoded.manifest) == (version.digest, version.manifest)
    for name, table in version.parameters.items():
        found = decoded.parameters[name]
        assert found.dtype == np.float32 and found.shape == table.shape
        if encoding == "float16" and np.abs(table).max() < 65504:
            assert np.allclose(found, table, rtol=2**-11, atol=2**-24)
        elif encoding == "int8" and table.ndim == 2:
            step = np.abs(table).max(axis=1, keepdims=True) / 127
            assert (np.abs(found - table) <= 0.501 * step).all()
        elif encoding != "float16":
            assert np.array_equal(found, table)


def test_rows_of_zeros_and_of_the_smallest_numbers_survive() -> None:
    table = np.zeros((3, 4), dtype=np.float32)
    table[1] = np.float32(1e-45)
    version = version_of("mf", {"item_embedding": table})
    for encoding in SMALL:
        data = encode_form(version, encoding)
        decoded = decode_form(data, form_of(data, encoding), version=version.digest)
        assert np.abs(decoded.parameters["item_embedding"]).max() <= 1e-44


def test_int8_is_less_than_a_third_of_float32() -> None:
    version = version_of("mf", {"item_embedding": np.ones((2000, 64), dtype=np.float32)})
    whole, rows = (len(encode_form(version, encoding)) for encoding in ("float32", "int8"))
    assert rows <= 0.30 * whole


def test_a_form_is_of_one_version_and_one_encoding() -> None:
    version, other = random_version(seed=1), random_version(seed=2)
    data = encode_form(version, "int8")
    form = form_of(data, "int8")
    with pytest.raises(InputError, match="of another version or encoding"):
        decode_form(data, form, version=other.digest)
    with pytest.raises(InputError, match="of another version or encoding"):
        decode_form(data, replace(form, encoding="float16"), version=version.digest)
    with pytest.raises(InputError, match="damaged or truncated"):
        decode_form(data[:-1], form, version=version.digest)
    with pytest.raises(InputError, match="has the version's name"):
        decode_form(data, replace(form, encoding="float32"), version=version.digest)
    with pytest.raises(InputError, match="unknown encoding 'int4': did you mean int8"):
        encoding_named("int4")


def test_tensors_that_do_not_fit_the_manifest_are_refused() -> None:
    version = random_version()
    data = encode_form(version, "int8")
    tables, metadata = load(data), file_metadata(data)
    scale = tables["item_embedding.scale"]
    changes = {
        "do not match": [
            {"item_embedding": tables["item_embedding"].astype(np.int16)},
            {"item_embedding": tables["item_embedding"][:-1]},
            {"item_embedding.scale": scale[:-1]},
            {"item_embedding.scale": scale.astype(np.float64)},
            {"more": scale},
        ],
        "not finite": [
            {"item_embedding.scale": np.full_like(scale, np.nan)},
            {"item_embedding.scale": np.full_like(scale, 3e38)},
            {"item_bias": np.full_like(tables["item_bias"], np.inf)},
        ],
    }
    for text, cases in changes.items():
        for change in cases:
            hostile = save({**tables, **change}, metadata=metadata)
            with pytest.raises(InputError, match=text):
                decode_form(hostile, form_of(hostile, "int8"), version=version.digest)


@given(st.data(), st.sampled_from(SMALL))
def test_hostile_bytes_are_refused_or_sound(data: st.DataObject, encoding: Encoding) -> None:
    version = random_version("mf")
    octets = bytearray(encode_form(version, encoding))
    for _ in range(data.draw(st.integers(1, 3))):
        octets[data.draw(st.integers(0, len(octets) - 1))] = data.draw(st.integers(0, 255))
    del octets[data.draw(st.integers(len(octets) - 40, len(octets))) :]
    hostile = bytes(octets)
    try:
        decoded = decode_form(hostile, form_of(hostile, encoding), version=version.digest)
    except InputError:
        return
    for name, shape in decoded.manifest.shared_shapes().items():
        assert decoded.parameters[name].shape == shape
        assert np.isfinite(decoded.parameters[name]).all()
