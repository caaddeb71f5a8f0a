"""What a device takes on its disk, in memory, and until the first answer.

A fresh environment gets `vicinal[device]`, in the versions of requirements.lock, and nothing else.
A process is started in it again and again and asks a server on this machine. The model is in its
store, except in the very first run. Times are elapsed time, which says little on a busy machine;
processor time of the same work says more. A MB is 10⁶ bytes.
"""

import asyncio
import json
import multiprocessing
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np

from benchmarks.cases import LIST_LENGTH, Shape, recommender, shape_named
from benchmarks.device.environment import installed_bytes, make_environment
from benchmarks.report import Section, progress, run, table
from client.stores.ratings import LocalRatings, write_local_ratings
from common.errors import VicinalError
from common.files import SECRET_BYTES
from common.threads import limit_threads
from common.versions.version import encode_version
from common.vicinal.settings import preset
from server.front.run import FrontOptions, serve_front
from server.model_store import StoredModel
from server.recommending.recommender import Recommender
from server.reports.tally import Tally
from server.versions.folder import describe, eligible_users, written_serving

# Six of them are pynacl and cffi (docs/decisions/0028-own-row.md).
MOST_BYTES: Final = 125_000_000
MOST_SECONDS: Final = 1.5
NEIGHBORS: Final = 12
SCRIPT: Final = Path(__file__).with_name("process.py")
SMALL: Final = Shape("small", "ml-100k", 200, 300, 5_000)


def section(short: bool) -> Section:
    shape = SMALL if short else shape_named("ML-1M")
    with TemporaryDirectory(prefix="vicinal-install-") as name:
        folder = Path(name)
        progress("device_install: a fresh environment")
        python = make_environment(folder)
        sizes = installed_bytes(python)
        progress("device_install: a server")
        with server(folder, shape) as address:
            starts = [started(python, folder, address) for _ in range(4 if short else 12)]
    size = sum(sizes.values())
    missed = [f"{size / 1e6:.1f} MB are installed"] if size > MOST_BYTES else []
    cold, warm = starts[0], starts[1:]
    figures = {"installed": sizes, "bytes": size, "cold": cold, "warm": warm}
    parts = ("interpreter", "imports", "first_answer", "total", "processor")
    rows = [
        [label, *(f"{median(one[part] for one in found):.2f}" for part in parts)]
        for label, found in (("model fetched", [cold]), ("model there", warm))
    ]
    largest = [f"{name} {count / 1e6:.1f}" for name, count in list(sizes.items())[:8]]
    heads = ("first answer, s", "interpreter", "imports", "answer", "together", "processor")
    text = (
        f"## A device's install\n\n{__doc__.strip()}\n\n"
        f"Installed: {size / 1e6:.1f} MB (goal: at most {MOST_BYTES / 1e6:.0f}), of which "
        f"{', '.join(largest)}.\n\n"
        f"{shape.name} shape, mf, k = {NEIGHBORS}, preset paper:\n\n{table(heads, rows)}\n\n"
        f"Goal for the model there, together: at most {MOST_SECONDS:g} s. "
        f"Later answers of the same process, p50 with the network: "
        f"{1000 * median(one['later'] for one in warm):.1f} ms. "
        f"Memory, at most: {max(one['rss'] for one in starts) / 1e6:.0f} MB."
    )
    return Section(text, {"device_install": figures}, missed)


def started(python: Path, folder: Path, address: str) -> dict[str, Any]:
    """What a device process says of itself. Raises VicinalError."""
    arguments = [address, str(folder / "ratings"), str(folder / "device"), str(time.time())]
    # -I: nothing of this checkout is found, only what was installed.
    done = subprocess.run(
        [str(python), "-I", str(SCRIPT), *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise VicinalError(f"the device process failed: {done.stderr.strip()[-300:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@contextmanager
def server(folder: Path, shape: Shape) -> Iterator[str]:
    """A server process of a model of a shape; its address. Writes folder/ratings for devices."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_serve, args=(folder, shape, theirs))
    process.start()
    theirs.close()
    try:
        try:
            port = ours.recv()
        except EOFError:
            raise VicinalError("the server did not start; its last lines say why") from None
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.join()


def _serve(folder: Path, shape: Shape, pipe: Pipe) -> None:
    limit_threads()
    trained = recommender(shape, "mf")
    path = folder / "version"
    version = trained.version
    path.write_bytes(encode_version(version.manifest, version.parameters))
    stored = StoredModel(version, dict(trained.stored.user_parameters), path)
    served = Recommender(stored, trained.ratings, trained.user_count)
    nobody = np.full(shape.users, -1, dtype=np.int32)
    secret = bytes(SECRET_BYTES)
    known = LocalRatings(trained.ratings, nobody, np.zeros(shape.users, dtype=bool))
    write_local_ratings(folder / "ratings", known.with_keys(secret))
    how = {"paper": replace(preset("paper", model="mf"), neighbors=NEIGHBORS)}
    description = describe(served, presets=how, watched=(), list_length=LIST_LENGTH)
    tally = Tally(users=shape.users, eligible=eligible_users(served, ()))
    with written_serving(folder / "serving", served, description, secret) as serving:
        asyncio.run(
            serve_front(
                serving,
                tally,
                FrontOptions(workers=1),
                listening=lambda port, _metrics: pipe.send(port),
            )
        )


if __name__ == "__main__":
    run(section)
