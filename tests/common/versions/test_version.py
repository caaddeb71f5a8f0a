"""Model versions: the same bytes for the same model, and nothing but InputError for others."""

import json
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from safetensors.numpy import save

from common.errors import InputError
from common.versions.version import Manifest, decode_version, encode_version, version_digest

MANIFEST = Manifest("mf", 6, 4, 3, 1.0, 5.0, 1.0, "a" * 64, "b" * 64)
TABLE = np.arange(12, dtype=np.float32).reshape(4, 3)
GOOD = encode_version(MANIFEST, {"item_embedding": TABLE})


def decoded(data: bytes) -> None:
    """Read bytes under their own name, as when a stranger chose both."""
    version = decode_version(data, expected_digest=version_digest(data))
    shape = (version.manifest.items, version.manifest.width)
    assert version.parameters["item_embedding"].shape == shape


@given(arrays(np.float32, (4, 3), elements=st.floats(-(2.0**19), 2.0**19, width=32)))
def test_a_version_comes_back_as_it_was(
    table: np.ndarray[tuple[int, int], np.dtype[np.float32]],
) -> None:
    data = encode_version(MANIFEST, {"item_embedding": table})
    assert data == encode_version(MANIFEST, {"item_embedding": np.asfortranarray(table)})
    version = decode_version(data, expected_digest=version_digest(data))
    assert version.manifest == MANIFEST
    assert version.parameters["item_embedding"].tobytes() == table.tobytes()


@given(st.integers(0, len(GOOD) - 1), st.integers(0, 7))
def test_a_flipped_bit_or_a_missing_end_is_seen(place: int, bit: int) -> None:
    damaged = bytearray(GOOD)
    damaged[place] ^= 1 << bit
    for data in (bytes(damaged), GOOD[:place]):
        with pytest.raises(InputError, match="damaged or truncated"):
            decode_version(data, expected_digest=version_digest(GOOD))


@settings(max_examples=300)
@given(st.data())
def test_hostile_changes_under_their_own_name_are_refused_or_sound(data: st.DataObject) -> None:
    octets = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 3))):
        octets[data.draw(st.integers(0, len(octets) - 1))] = data.draw(st.integers(0, 255))
    with suppress(InputError):
        decoded(bytes(octets[: data.draw(st.integers(0, len(octets)) | st.just(len(octets)))]))


@settings(max_examples=200)
@given(st.binary(max_size=80))
def test_hostile_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(InputError):
        decoded(data)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
FIELDS = json.loads(MANIFEST.to_json())


@settings(max_examples=300)
@given(st.sampled_from(sorted(FIELDS)), JSON)
def test_a_hostile_manifest_is_refused_or_sound(name: str, value: object) -> None:
    try:
        manifest = Manifest.from_json(json.dumps({**FIELDS, name: value}))
    except InputError:
        return
    assert manifest.users >= 1 and manifest.items >= 1 and manifest.width >= 1
    assert manifest.scale.level_count <= 256
    assert Manifest.from_json(manifest.to_json()) == manifest


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "format 1"),
        ("{}", "format 1"),
        (json.dumps({**FIELDS, "extra": 1}), "unknown"),
        (json.dumps({**FIELDS, "items": "4"}), "items in the manifest is not a int"),
        (json.dumps({**FIELDS, "items": True}), "items"),
        (json.dumps({**FIELDS, "model": "gpt"}), "unknown model 'gpt'"),
        (json.dumps({**FIELDS, "items": 2**30, "width": 64}), "over the limit"),
        (json.dumps({**FIELDS, "minimum": 9}), "rating scale"),
        (json.dumps({**FIELDS, "dtype": "float64"}), "unknown model"),
    ],
)
def test_a_manifest_that_is_none_is_named(text: str, match: str) -> None:
    with pytest.raises(InputError, match=match):
        Manifest.from_json(text)


@pytest.mark.parametrize(
    ("tensors", "match"),
    [
        ({}, "do not match the manifest"),
        ({"item_embedding": TABLE, "more": TABLE}, "do not match the manifest"),
        ({"item_embedding": TABLE[:3]}, r"\(3, 3\)"),
        ({"item_embedding": TABLE.astype(np.float64)}, "float64"),
        ({"item_embedding": np.full_like(TABLE, np.inf)}, "not finite"),
    ],
)
def test_tensors_that_do_not_match_the_manifest_are_refused(
    tensors: dict[str, np.ndarray[tuple[int, int], np.dtype[np.float32]]], match: str
) -> None:
    data = save(
        {name: np.ascontiguousarray(table) for name, table in tensors.items()},
        metadata={"vicinal": MANIFEST.to_json()},
    )
    with pytest.raises(InputError, match=match):
        decoded(data)
    if tensors:
        with pytest.raises(InputError):
            encode_version(MANIFEST, tensors)


def test_a_file_without_a_manifest_is_refused() -> None:
    with pytest.raises(InputError, match="carries no manifest"):
        decoded(save({"item_embedding": TABLE}))
    other = replace(MANIFEST, items=5)
    with pytest.raises(InputError, match="the manifest says"):
        decoded(save({"item_embedding": TABLE}, metadata={"vicinal": other.to_json()}))
