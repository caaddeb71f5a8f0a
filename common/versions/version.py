"""A model version: immutable shared parameters under the name of their SHA-256.

The file is safetensors with the manifest as its metadata, so that one digest covers both.
Only shared parameters are in it; user parameters never leave the server.
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from common.errors import InputError
from common.models import model_named
from common.ratings import RatingScale
from common.tables import map_file, map_tables, read_tables
from common.vicinal.tuning import ServedModel

FORMAT: Final = 1
MAX_BYTES: Final = 4 << 30
MAX_COUNT: Final = 2**31 - 1
# Trained weights lie within a few hundred; far beyond, squares of sums overflow.
MAX_WEIGHT: Final = 1e6
METADATA_KEY: Final = "vicinal"
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Manifest:
    """What a model version is, without its name.

    model, users, items, width   architecture and its sizes (users counts fakes too)
    minimum, maximum, step       the rating scale, in the data set's units
    training_digest              SHA-256 of ratings, settings and seed that gave the version
    user_digest                  SHA-256 of the user parameters that the server keeps
    """

    model: str
    users: int
    items: int
    width: int
    minimum: float
    maximum: float
    step: float
    training_digest: str
    user_digest: str
    dtype: str = "float32"
    format: int = FORMAT

    @cached_property
    def scale(self) -> RatingScale:
        return RatingScale(self.minimum, self.maximum, self.step)

    def shared_shapes(self) -> dict[str, tuple[int, ...]]:
        return model_named(self.model).shared_shapes(self.items, self.width)

    def user_shapes(self, rows: int) -> dict[str, tuple[int, ...]]:
        return model_named(self.model).user_shapes(rows, self.width)

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "Manifest":
        """Raises InputError for anything but a manifest of this format."""
        try:
            fields = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InputError("model version: the manifest is not JSON") from error
        if not isinstance(fields, dict) or fields.get("format") != FORMAT:
            raise InputError(f"model version: the manifest is not of format {FORMAT}")
        if set(fields) != set(cls.__dataclass_fields__):
            raise InputError("model version: the manifest lacks fields or has unknown ones")
        for name, field in cls.__dataclass_fields__.items():
            _require_type(name, fields[name], cast(type, field.type))
        manifest = cls(**fields)
        counts = (manifest.users, manifest.items, manifest.width)
        if min(counts) < 1 or max(counts) > MAX_COUNT or manifest.dtype != "float32":
            raise InputError("model version: the manifest names an empty, huge or unknown model")
        _ = manifest.scale
        size = sum(4 * math.prod(shape) for shape in manifest.shared_shapes().values())
        if size > MAX_BYTES:
            raise InputError(f"model version: {size} bytes are over the limit of {MAX_BYTES}")
        return manifest


def _require_type(name: str, value: object, kind: type) -> None:
    accepted: tuple[type, ...] = (int, float) if kind is float else (kind,)
    if not isinstance(value, accepted) or isinstance(value, bool):
        raise InputError(f"model version: {name} in the manifest is not a {kind.__name__}")


@dataclass(frozen=True)
class ModelVersion:
    """Verified shared parameters, ready to serve."""

    digest: str
    manifest: Manifest
    parameters: Mapping[str, NDArray[np.float32]]

    @cached_property
    def served(self) -> ServedModel:
        return ServedModel(model_named(self.manifest.model), self.parameters)


def encode_version(manifest: Manifest, parameters: Mapping[str, NDArray[np.float32]]) -> bytes:
    """The bytes of a version; the same input gives the same bytes."""
    check_tables(parameters, manifest.shared_shapes())
    contiguous = {name: np.ascontiguousarray(parameters[name]) for name in sorted(parameters)}
    return save(contiguous, metadata={METADATA_KEY: manifest.to_json()})


def version_digest(data: bytes | memoryview) -> str:
    """The name of a version: the SHA-256 of its bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def is_digest(text: str) -> bool:
    """Whether the text can be the name of a version, and so of a file."""
    return _DIGEST.fullmatch(text) is not None


def decode_version(data: bytes, *, expected_digest: str) -> ModelVersion:
    """Verify bytes from a disk or a network and read them.

    Raises InputError when they are not the version of that name, when the manifest is not
    one, or when it does not match the tensors.
    """
    check_digest(data, expected_digest)
    return _checked(data, read_tables(data, "model version"), expected_digest)


def map_version(path: Path, *, expected_digest: str) -> ModelVersion:
    """As decode_version(), of a file that is mapped: its parameters are not copied."""
    data = map_file(path, "model version").data
    check_digest(data, expected_digest)
    return _checked(data, map_tables(path, "model version"), expected_digest)


def check_digest(data: bytes | memoryview, expected: str) -> None:
    """Raises InputError for bytes whose SHA-256 is another."""
    digest = version_digest(data)
    if digest != expected:
        raise InputError(
            f"model version: the bytes are {digest[:12]}…, not {expected[:12]}…: "
            "damaged or truncated"
        )


def _checked(
    data: bytes | memoryview, parameters: Mapping[str, NDArray[np.float32]], digest: str
) -> ModelVersion:
    manifest = Manifest.from_json(file_metadata(data).get(METADATA_KEY, ""))
    check_tables(parameters, manifest.shared_shapes())
    return ModelVersion(digest, manifest, parameters)


def file_metadata(data: bytes | memoryview) -> dict[str, str]:
    """What a safetensors file says of itself. Raises InputError when it says nothing."""
    # safetensors: 8 bytes of little-endian header length, then a JSON header.
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > len(data) - 8:
        raise InputError("model version: not a safetensors file (its header is cut off)")
    try:
        metadata = json.loads(bytes(data[8 : 8 + length]))["__metadata__"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError("model version: the file carries no manifest") from error
    if not isinstance(metadata, dict) or not all(
        isinstance(text, str) for text in metadata.values()
    ):
        raise InputError("model version: the file carries no manifest")
    return metadata


def check_tables(
    parameters: Mapping[str, NDArray[Any]], expected: Mapping[str, tuple[int, ...]]
) -> None:
    """Raises InputError for parameters of other names or shapes, or that are not finite."""
    if set(parameters) != set(expected):
        raise InputError(
            f"model version: tensors {sorted(parameters)} do not match the manifest's "
            f"{sorted(expected)}"
        )
    for name, shape in expected.items():
        tensor = parameters[name]
        if tensor.dtype != np.float32 or tensor.shape != shape:
            raise InputError(
                f"model version: {name} is {tensor.dtype} {tensor.shape}, "
                f"the manifest says float32 {shape}"
            )
        if not sane(tensor):
            raise InputError(
                f"model version: {name} has values that are not finite, or beyond "
                f"±{MAX_WEIGHT:,.0f}"
            )


def sane(table: NDArray[Any], most: float = MAX_WEIGHT) -> bool:
    """Whether all numbers are finite and none is beyond ±most."""
    # Of NaN both are NaN, which is in no order.
    return bool(-most <= table.min(initial=0) and table.max(initial=0) <= most)
