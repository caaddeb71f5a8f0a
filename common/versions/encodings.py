"""The encodings of a model version: what a device can fetch instead of its float32 bytes.

    float32   the version's own bytes, whose SHA-256 is its name
    float16   tables and biases rounded to half precision
    int8      tables row by row: int8 [rows, d] and a float32 scale a row, the largest entry of
              the row ÷ 127; biases stay float32

A form is safetensors, its metadata the version's manifest, its name and the encoding; its own
SHA-256 is the form's digest. The same version gives the same bytes. A form is decoded into a
version of the same name and manifest whose parameters are float32 again, near the originals.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from common.errors import InputError
from common.names import unknown
from common.tables import read_tables
from common.versions.version import (
    Manifest,
    ModelVersion,
    check_digest,
    check_tables,
    decode_version,
    encode_version,
    file_metadata,
    version_digest,
)

Encoding = Literal["float32", "float16", "int8"]
ENCODINGS: Final[tuple[Encoding, ...]] = get_args(Encoding)
# What a form's file may hold beside its tensors: the safetensors header.
MAX_HEADER_BYTES: Final = 1 << 20
# One key: safetensors writes several in no fixed order.
_METADATA_KEY: Final = "vicinal-form"
_SCALE: Final = ".scale"
_MOST: Final = 127

Tables = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Form:
    """The bytes in which a version can be fetched.

    digest  their SHA-256; the version's name for float32
    size    their number
    """

    encoding: Encoding
    digest: str
    size: int


def encoding_named(name: str) -> Encoding:
    """Raises InputError for a name that is not in ENCODINGS."""
    for encoding in ENCODINGS:
        if name == encoding:
            return encoding
    raise unknown("encoding", name, ENCODINGS)


def tensor_bytes(manifest: Manifest, encoding: Encoding) -> int:
    """Bytes of all tensors of a form, without its header."""
    layout = _layout(manifest.shared_shapes(), encoding)
    return sum(dtype.itemsize * prod(shape) for dtype, shape in layout.values())


def encode_form(version: ModelVersion, encoding: Encoding) -> bytes:
    """The bytes of a form; `version` has its original float32 parameters."""
    if encoding == "float32":
        return encode_version(version.manifest, version.parameters)
    tables: dict[str, NDArray[Any]] = {}
    for name, table in version.parameters.items():
        tables |= _ENCODERS[encoding](name, np.asarray(table))
    header = [encoding, version.digest, version.manifest.to_json()]
    return save(tables, metadata={_METADATA_KEY: json.dumps(header)})


def form_of(data: bytes, encoding: Encoding) -> Form:
    return Form(encoding, version_digest(data), len(data))


def decode_form(data: bytes, form: Form, *, version: str) -> ModelVersion:
    """Verify bytes from a disk or a network, and read them as the version of that name.

    Raises InputError when they are not the form's, when they are of another version or
    encoding, and when manifest and tensors do not fit or are not finite.
    """
    if form.encoding == "float32":
        if form.digest != version:
            raise InputError("model version: a float32 form has the version's name")
        return decode_version(data, expected_digest=version)
    check_digest(data, form.digest)
    manifest = _manifest(data, form.encoding, version)
    shapes = manifest.shared_shapes()
    tables = read_tables(data, "model version")
    _check_layout(tables, _layout(shapes, form.encoding))
    decode = _DECODERS[form.encoding]
    parameters = {name: decode(name, tables) for name in shapes}
    check_tables(parameters, shapes)
    return ModelVersion(version, manifest, parameters)


def _manifest(data: bytes, encoding: Encoding, version: str) -> Manifest:
    try:
        header = json.loads(file_metadata(data).get(_METADATA_KEY, ""))
    except (ValueError, RecursionError) as error:
        raise InputError("model version: the file is no form of a version") from error
    if not isinstance(header, list) or len(header) != 3 or header[:2] != [encoding, version]:
        raise InputError("model version: a form of another version or encoding")
    if not isinstance(header[2], str):
        raise InputError("model version: the form carries no manifest")
    return Manifest.from_json(header[2])


def _layout(
    shapes: Mapping[str, tuple[int, ...]], encoding: Encoding
) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
    """Dtype and shape of every tensor in a form."""
    half, single, octet = np.dtype(np.float16), np.dtype(np.float32), np.dtype(np.int8)
    layout: dict[str, tuple[np.dtype[Any], tuple[int, ...]]] = {}
    for name, shape in shapes.items():
        if encoding == "int8" and len(shape) > 1:
            layout |= {name: (octet, shape), name + _SCALE: (single, shape[:1])}
        else:
            layout[name] = (half if encoding == "float16" else single, shape)
    return layout


def _check_layout(
    tables: Tables, layout: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]]
) -> None:
    found = {name: (table.dtype, table.shape) for name, table in tables.items()}
    if found != dict(layout):
        raise InputError("model version: the form's tensors do not match its manifest")


def _to_half(name: str, table: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
    # What half precision cannot hold becomes the nearest number that it can.
    most = np.finfo(np.float16).max
    return {name: np.clip(table, -most, most).astype(np.float16)}


def _from_half(name: str, tables: Tables) -> NDArray[np.float32]:
    return tables[name].astype(np.float32)


def _to_rows(name: str, table: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
    if table.ndim == 1:
        return {name: np.ascontiguousarray(table)}
    scale = (np.abs(table).max(axis=1) / _MOST).astype(np.float32)
    # A row of zeros, or of numbers so small that their scale is none, stays 0.
    steps = np.divide(table, scale[:, None], out=np.zeros_like(table), where=scale[:, None] > 0)
    rounded = np.clip(np.rint(steps), -_MOST, _MOST).astype(np.int8)
    return {name: rounded, name + _SCALE: scale}


def _from_rows(name: str, tables: Tables) -> NDArray[np.float32]:
    table: NDArray[Any] = tables[name]
    if table.ndim == 1:
        return table
    with np.errstate(over="ignore", invalid="ignore"):  # checked afterwards, by check_tables
        rows: NDArray[np.float32] = table * tables[name + _SCALE][:, None]
    return rows


_ENCODERS: Final[dict[Encoding, Callable[[str, NDArray[np.float32]], dict[str, NDArray[Any]]]]] = {
    "float16": _to_half,
    "int8": _to_rows,
}
_DECODERS: Final[dict[Encoding, Callable[[str, Tables], NDArray[np.float32]]]] = {
    "float16": _from_half,
    "int8": _from_rows,
}
