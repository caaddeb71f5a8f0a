"""How many bytes a request takes.

One package as it is sent, mean over users of synthetic ratings: the neighborhood's ratings before
and after zstd, and its user parameters as float32, float16 and int8, which is sent. *Slim* is the
package of a device that holds no model, so rows of the model are in it. *Slim pays up to* is a
number of requests of one device; with more, fetching the version once takes fewer bytes. *Slim* is
refused where its answer would not be exact.
"""

from dataclasses import replace
from typing import Any, Final

import numpy as np

from benchmarks.cases import (
    MODEL_NAMES,
    WIDTH,
    recommender,
    settings_for,
    shape_named,
    shipped,
    some_users,
)
from benchmarks.report import Section, progress, run, table
from common.errors import InputError
from common.versions.version import encode_version
from common.vicinal.settings import VicinalSettings, preset
from common.vicinal.slim import check_slim, slim_model
from common.wire import offload_pb2 as wire
from common.wire.messages import open_items
from common.wire.packing import encode_varints
from common.wire.slim import slim_to_wire
from server.recommending.recommender import Recommender

# Shape, k and the most bytes of a package; with min support 1, which sends every rating.
BOUNDS: Final = (("ML-1M", 12, 10_000), ("Yelp", 100, 20_000))
HEADS: Final = (
    "shape", "model", "preset", "k", "ratings", "raw", "zstd", "float32", "float16", "int8",
    "package", "slim", "slim pays up to",
)  # fmt: skip


def section(short: bool) -> Section:
    found, missed = [], []
    for shape, k, most in BOUNDS[:1] if short else BOUNDS:
        for model in MODEL_NAMES:
            asked = replace(settings_for(shape_named(shape), model, "paper"), neighbors=k)
            bounded = sizes_of(shape, model, "paper", asked)
            found += [bounded, sizes_of(shape, model, "vicinal", preset("vicinal", model=model))]
            if bounded["package"] > most:
                missed.append(f"{shape}, {model}, k = {k}: {bounded['package']:.0f} bytes")
    rows = [_size_row(one) for one in found]
    text = f"## Packages\n\n{__doc__.strip()}\n\n{table(HEADS, rows, texts=3)}\n"
    return Section(text, {"packages": found}, missed)


def sizes_of(shape: str, model: str, name: str, settings: VicinalSettings) -> dict[str, Any]:
    """Mean bytes of the parts of some packages."""
    progress(f"packages: {shape} {model} {name}")
    server = recommender(shape_named(shape), model)
    version = server.version
    try:
        check_slim(version.served.model, settings)
        slim_possible = True
    except InputError:
        slim_possible = False
    users = some_users(30, server.user_count).tolist()
    parts = [_parts(server, user, settings, slim_possible) for user in users]
    mean = {key: float(np.mean([part[key] for part in parts])) for key in parts[0]}
    whole = len(encode_version(version.manifest, version.parameters))
    vectors = settings.neighbors * len(server.stored.user_parameters)
    found = {"shape": shape, "model": model, "preset": name, "k": settings.neighbors, **mean}
    found |= {"float32": 4 * WIDTH * vectors, "float16": 2 * WIDTH * vectors}
    found |= {"int8": (WIDTH + 1) * vectors, "version": whole}
    if slim_possible:
        found["pays"] = (whole - mean["shared"]) / (mean["slim"] - mean["package"])
    return found


def _parts(server: Recommender, user: int, settings: VicinalSettings, slim: bool) -> dict[str, int]:
    neighborhood = server.neighborhood(user, settings)
    hidden = server.hidden(user, settings, neighborhood)
    ratings, package = neighborhood.ratings, shipped(neighborhood, hidden)
    message = package.neighborhood
    others = ratings.rows(np.arange(1, len(neighborhood))).of_items(~hidden)
    rows = [others.items_of(row) for row in range(others.user_count)]
    gaps = np.concatenate([np.diff(items, prepend=-1) for items in rows])
    lengths = wire.Neighborhood(row_lengths=message.row_lengths).ByteSize()
    raw = lengths + len(encode_varints(gaps.astype(np.int64) - 1)) + len(others)
    packed = lengths + len(message.items) + len(message.levels)
    parts = {"ratings": len(others), "raw": raw, "zstd": packed, "package": package.ByteSize()}
    if slim:
        part = slim_model(server.version.served, ratings)
        seen = open_items(neighborhood, hidden)
        model, own = slim_to_wire(part, ratings, seen, shared=False)
        package = shipped(neighborhood, hidden, own)
        package.model.CopyFrom(model)
        parts["slim"] = package.ByteSize()
        model, _ = slim_to_wire(part, ratings, seen, shared=True)
        package.model.CopyFrom(model)
        parts["shared"] = package.ByteSize() - parts["slim"]
    return parts


def _size_row(found: dict[str, Any]) -> list[str]:
    names = ("ratings", "raw", "zstd", "float32", "float16", "int8", "package")
    slim = ["refused", "–"]
    if "slim" in found:
        slim = [f"{found['slim']:,.0f}", f"{found['pays']:.1f}"]
    return [
        found["shape"], found["model"], found["preset"], str(found["k"]),
        *(f"{found[name]:,.0f}" for name in names), *slim,
    ]  # fmt: skip


if __name__ == "__main__":
    run(section)
