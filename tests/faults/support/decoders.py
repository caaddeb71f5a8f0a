"""Everything that reads bytes from a network or a disk, each with valid bytes to begin with.

Where a digest would refuse every change, it is made anew: what is behind it is what is tried.
"""

import asyncio
import bz2
import gzip
import io
import lzma
import struct
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from backports import zstd
from google.protobuf.message import DecodeError

from client.link.replies import checked_items, checked_receipts
from client.stores.books import _HEADER as _BOOK_HEADER
from client.stores.books import BookStore, checked_book
from client.stores.packages import _HEADER, _digest, _read
from client.stores.ratings import read_local_ratings, write_local_ratings
from client.stores.reports import PendingReports
from common.errors import InputError
from common.ranking import Counts
from common.versions.encodings import ENCODINGS, Encoding, decode_form, encode_form, form_of
from common.versions.transfers import pack as pack_transfer
from common.versions.transfers import unpack as unpack_transfer
from common.versions.version import Manifest, decode_version, version_digest
from common.vicinal.slim import slim_model
from common.wire import offload_pb2 as wire
from common.wire.description import Description, description_from_wire, description_to_wire
from common.wire.fleet import parse
from common.wire.messages import (
    counts_from_wire,
    counts_to_wire,
    neighborhood_from_wire,
    neighborhood_to_wire,
    open_items,
    own_to_wire,
)
from common.wire.packing import decode_varints, pack, unpack
from common.wire.slim import slim_from_wire, slim_to_wire
from server.data.formats import parse as parse_ratings
from server.data.formats import read_ratings
from server.data.layouts import with_layout
from server.data.reading_options import ReadingOptions
from server.reports.tally import Tally
from server.reports.tally_file import tally_file
from server.trust.tokens import TokenKeys, TokenRefusedError
from server.workers.frames import Status, WorkerLostError, WorkerResult, read_result
from sims.attacks.profiles import read_profiles
from tests.support.scenes import PRESETS, SCALE, Scene, make_scene

# The errors of a decoder, and of protobuf where that parses first.
DECLARED: Final = (InputError, DecodeError)


@dataclass(frozen=True)
class Decoder:
    """One way in.

    valid     inputs that are accepted, to begin with
    decode    raises one of `declared` for what it does not take, and nothing else
    expensive it takes a file system or the like: tried fewer times
    """

    name: str
    valid: Sequence[bytes]
    decode: Callable[[bytes], object]
    declared: tuple[type[Exception], ...] = DECLARED
    expensive: bool = False


def decoders(folder: Path) -> Iterator[Decoder]:
    """All of them; `folder` is for files."""
    scene, other = make_scene(folder), make_scene(folder, seed=1, items=45)
    said = scene.description()
    yield from _versions(scene, other)
    yield from _messages(scene, other, said)
    yield from _packages(scene, said)
    yield from _books(make_scene(folder, seed=2, release="book"), folder)
    yield from _texts(folder)
    yield from _files(folder, scene, said)


def _versions(scene: Scene, other: Scene) -> Iterator[Decoder]:
    yield Decoder(
        "model version",
        [scene.data, other.data],
        lambda data: decode_version(data, expected_digest=version_digest(data)),
    )
    for encoding in ENCODINGS:
        forms = [encode_form(one.recommender.version, encoding) for one in (scene, other)]
        digest = scene.recommender.version.digest
        if encoding != "float32":
            yield Decoder(
                f"form {encoding}",
                forms,
                lambda data, encoding=encoding, digest=digest: decode_form(  # type: ignore[misc]
                    data, form_of(data, encoding), version=digest
                ),
            )
        yield from _transfers(encoding, forms[0])


def _transfers(encoding: Encoding, form: bytes) -> Iterator[Decoder]:
    """As they come, and with what zstandard's own checks would keep from us."""
    alone, delta = pack_transfer(form, encoding), pack_transfer(form, encoding, form)
    for base in (None, form):
        packed = alone if base is None else delta
        name = f"transfer {encoding}{'' if base is None else ', delta'}"
        yield Decoder(
            name,
            [packed, alone, delta],
            lambda data, base=base: unpack_transfer(data, encoding, len(form), base),  # type: ignore[misc]
        )
        yield Decoder(
            f"{name}, inside",
            [zstd.decompress(packed)],
            lambda data, base=base: unpack_transfer(  # type: ignore[misc]
                zstd.compress(data, 1), encoding, max(0, len(data) - 8), base
            ),
        )


def _messages(scene: Scene, other: Scene, said: Description) -> Iterator[Decoder]:
    messages = [description_to_wire(one.description()) for one in (scene, other)]
    yield Decoder(
        "Description",
        [message.SerializeToString() for message in messages],
        lambda data: description_from_wire(wire.Description.FromString(data)),
    )
    yield Decoder(
        "manifest", [said.manifest.to_json().encode()], lambda data: Manifest.from_json(_text(data))
    )
    counts = Counts((3, 2), (2, 0), 3, 2, 1, 1, 1, 1, 1)
    report = wire.ReportRequest(version=said.version, key="k", counts=counts_to_wire(counts))
    yield Decoder(
        "ReportRequest",
        [report.SerializeToString()],
        lambda data: counts_from_wire(wire.ReportRequest.FromString(data).counts),
    )
    items = wire.Recommendation(version=said.version, items=[3, 1, 7])
    yield Decoder(
        "Recommendation",
        [items.SerializeToString()],
        lambda data: checked_items(wire.Recommendation.FromString(data), said),
    )
    yield Decoder(
        "fleet message",
        [report.SerializeToString(), messages[0].SerializeToString()],
        lambda data: parse(wire.ReportRequest, data),
    )
    yield Decoder(
        "frame of a worker's result", [_framed_result()], _read_result, (WorkerLostError,)
    )


def _packages(scene: Scene, said: Description) -> Iterator[Decoder]:
    preset = "vicinal"
    rows = [scene.recommender.neighborhood(user, PRESETS[preset]) for user in (0, 7)]
    slims = [slim_model(scene.recommender.version.served, one.ratings) for one in rows]
    slim_parts = [
        slim_to_wire(slim, one.ratings, open_items(one), shared=True)
        for slim, one in zip(slims, rows, strict=True)
    ]
    hidden = np.arange(said.manifest.items) % 3 == 0
    sent = [neighborhood_to_wire(one, hidden) for one in rows]
    owned = [own_to_wire(one, hidden) for one in rows]
    yield Decoder(
        "Neighborhood",
        [message.SerializeToString() for message in sent],
        lambda data: _put_together(scene, said, wire.Neighborhood.FromString(data), owned[0]),
    )
    yield Decoder(
        "Own",
        [own.SerializeToString() for own in owned],
        lambda data: _put_together(scene, said, sent[0], wire.Own.FromString(data)),
    )
    opened = scene.local.own(0)
    yield Decoder(
        "sealed part",
        [opened.seal(own, said.version) for own in owned],
        lambda data: opened.unseal(data, said.version),
    )
    for name in ("items", "levels"):
        yield Decoder(
            f"Neighborhood, inside {name}",
            [unpack(getattr(message, name), most=1 << 20) for message in sent],
            lambda data, name=name: _put_together(  # type: ignore[misc]
                scene, said, _with(sent[0], name, pack(data)), owned[0]
            ),
        )
    yield Decoder(
        "slim model",
        [message.SerializeToString() for message, _ in slim_parts],
        lambda data: slim_from_wire(
            wire.SlimModel.FromString(data),
            slim_parts[0][1],
            said.manifest,
            rows[0].ratings,
            open_items(rows[0]),
            shared=None,
        ),
    )
    yield Decoder("packed part", [pack(bytes(range(200)))], lambda data: unpack(data, most=200))
    yield Decoder(
        "varints", [b"\x01\xac\x02" * 9], lambda data: decode_varints(data, min(18, len(data)))
    )
    kept = description_to_wire(said).SerializeToString()
    package = wire.OffloadPackage(version=said.version, neighborhood=sent[0]).SerializeToString()
    whole = struct.pack("<I", len(kept)) + kept + package
    yield Decoder("kept package", [whole], _kept)


def _books(scene: Scene, folder: Path) -> Iterator[Decoder]:
    """As they come, each with the digest that was described; and as they are kept."""
    said, book = scene.description(), scene.book
    assert book is not None and said.book is not None
    form, store = said.book, BookStore(folder, "server")

    def described(data: bytes) -> object:
        digest = version_digest(data)
        return checked_book(replace(said, book=replace(form, digest=digest)), data)

    def kept(data: bytes) -> object:
        length = int.from_bytes(data[:4], "little")
        return store._read(_BOOK_HEADER.pack(store._digest(length, data[4:]), length) + data[4:])

    yield Decoder("book", [book.data], described)
    message = description_to_wire(said).SerializeToString()
    yield Decoder(
        "Description with a book",
        [message],
        lambda data: description_from_wire(wire.Description.FromString(data)),
    )
    yield Decoder("kept book", [struct.pack("<I", len(message)) + message + book.data], kept)
    receipts = wire.ReceiptsReply(receipts=[bytes(32), bytes(32)])
    yield Decoder(
        "receipts",
        [receipts.SerializeToString()],
        lambda data: checked_receipts(wire.ReceiptsReply.FromString(data), 2),
    )


def _put_together(
    scene: Scene, said: Description, message: wire.Neighborhood, own: wire.Own
) -> object:
    ratings = scene.local.own(0).ratings
    return neighborhood_from_wire(message, said.manifest, own, ratings, PRESETS["vicinal"])


def _texts(folder: Path) -> Iterator[Decoder]:
    keys = TokenKeys({"first": "s" * 64}, clock=lambda: 1.8e9)
    tokens = [keys.token(range(7, end), days=1).encode() for end in (8, 100)]
    yield Decoder(
        "token", tokens, lambda data: keys.users(data.decode("latin1")), (TokenRefusedError,)
    )
    lines = {
        ".csv": b"user,item,rating\n1,2,3\n1,3,4.5\n2,2,1\n",
        ".tsv": b"1\t2\t3\t881250949\n1\t3\t4\t881250950\n",
        ".dat": b"1::2::3::978300760\n2::2::5::978300761\n",
        ".inter": b"user_id:token\titem_id:token\trating:float\n1\t2\t3\n2\t3\t4\n",
        ".txt": b'sep=;\n"user";"item";"rating"\n"1\n";"2;";"3,5"\n4;5;"1,0"\n',
        ".jsonl": b'{"user": 1, "item": "x", "rating": 3, "time": "2018-07-07"}\n',
        ".json": b"{'user': 1, 'item': 'x', 'rating': 3.0}\n",
    }
    for suffix, text in lines.items():
        yield _ratings(suffix, suffix, text)
    yield _ratings("of Netflix", ".txt", b"1:\n7,3,2005-09-06\n8,4,2005-09-07\n", format="netflix")
    yield _ratings("of Jester", ".csv", b"2,99,1.5,-3.2,99\n1,99,99,99,7\n", format="jester")
    yield _ratings(
        "again", ".csv", b"1,2,0\n1,2,3\n1,2,4\n2,2,5\n1,3,4\n2,3,4\n", duplicates="mean",
        drop_ratings="0", min_ratings=2, scale="0:5",
    )  # fmt: skip


def _ratings(name: str, suffix: str, text: bytes, **said: Any) -> Decoder:
    options = with_layout(ReadingOptions.of(**said))
    return Decoder(
        f"rating file {name}",
        [text, text.decode().encode("utf-16")],
        lambda data: parse_ratings(data, "file", suffix, options).indexed(),
    )


def _files(folder: Path, scene: Scene, said: Description) -> Iterator[Decoder]:
    def from_file(read: Callable[[Path], object], name: str) -> Callable[[bytes], object]:
        path = folder / name

        def decode(data: bytes) -> object:
            for left in folder.glob(f"{name}-*"):
                left.unlink()
            # Of a device file: nobody else may read it.
            path.touch(mode=0o600)
            path.write_bytes(data)
            return read(path)

        return decode

    write_local_ratings(folder / "ratings", scene.local)
    local = (folder / "ratings").read_bytes()
    yield Decoder("device file", [local], from_file(read_local_ratings, "local"), expensive=True)
    with Tally(users=9, eligible=(9, 9), path=folder / "kept.sqlite") as tally:
        tally.add("v", "p", "k", Counts((4, 3), (2, 0)))
    database = (folder / "kept.sqlite").read_bytes()
    text = b"1,2,3\n2,2,1\n3,1,5\n"
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("ratings.csv", text)
    for end, packed in {
        "gz": gzip.compress(text),
        "bz2": bz2.compress(text),
        "xz": lzma.compress(text),
        "zst": zstd.compress(text),
        "zip": zipped.getvalue(),
    }.items():
        yield Decoder(
            f"rating file .{end}", [packed], from_file(read_ratings, f"r.csv.{end}"), expensive=True
        )
    yield Decoder(
        "tally file",
        [database],
        from_file(lambda path: tally_file(path).close(), "tally.sqlite"),
        expensive=True,
    )
    counts = wire.Counts(eligible=[1], hits=[1], users=1)
    report = wire.ReportRequest(version=said.version, key="owed", counts=counts)
    yield Decoder(
        "report that is owed",
        [report.SerializeToString()],
        from_file(lambda path: list(PendingReports(path.parent)), "owed.report"),
        expensive=True,
    )
    profiles = b"# vicinal profiles 1\n# targets: 3\nuser,item,rating\n0,3,5\n0,4,1\n1,3,5\n"
    yield Decoder(
        "profiles file",
        [profiles],
        from_file(lambda path: read_profiles(path, 60, SCALE), "profiles.csv"),
        expensive=True,
    )


def _kept(data: bytes) -> object:
    """A kept package whose digest is right, whatever it holds."""
    length = int.from_bytes(data[:4], "little")
    body, whose = data[4:], b"whose"
    header = _HEADER.pack(_digest(whose, 1.0, length, body), 1.0, length)
    return _read(header + body, whose)


def _with(message: wire.Neighborhood, name: str, value: bytes) -> wire.Neighborhood:
    changed = wire.Neighborhood()
    changed.CopyFrom(message)
    setattr(changed, name, value)
    return changed


def _text(data: bytes) -> str:
    """What protobuf would let through as a string."""
    return data.decode(errors="replace")


def _framed_result() -> bytes:
    return struct.pack("<B3dII", Status.ANSWERED, 1.0, 2.0, 3.0, 4, 4) + bytes(8)


def _read_result(data: bytes) -> WorkerResult:
    async def read() -> WorkerResult:
        reader = asyncio.StreamReader()
        reader.feed_data(data)
        reader.feed_eof()
        return await read_result(reader)

    return asyncio.run(read())
