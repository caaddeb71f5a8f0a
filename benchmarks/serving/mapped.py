"""A process that maps a model version from its file and answers, to see what memory it takes.

It loads what a device loads, numpy and common, and no torch.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.models import MODELS
from common.processes import module_command
from common.ratings import RatingMatrix, RatingScale
from common.threads import limit_threads
from common.vicinal.neighborhood import Neighborhood
from common.vicinal.settings import preset
from common.vicinal.tuning import ServedModel, tuned_scores

SCALE = RatingScale(1, 5, 1)


def mapped_tables(path: Path) -> dict[str, NDArray[np.float32]]:
    """Read-only float32 tables by name, of a safetensors file that was verified before."""
    data = np.memmap(path, dtype=np.uint8, mode="r")
    length = int.from_bytes(data[:8].tobytes(), "little")
    header = json.loads(data[8 : 8 + length].tobytes())
    tables = {}
    for name, entry in header.items():
        if name != "__metadata__":
            start, end = (8 + length + offset for offset in entry["data_offsets"])
            tables[name] = data[start:end].view(np.float32).reshape(entry["shape"])
    return tables


def save_place(path: Path, place: Neighborhood) -> None:
    """A neighborhood of ratings 1–5, for `main`."""
    ratings = place.ratings
    tables: dict[str, Any] = {
        f"user:{name}": table for name, table in place.user_parameters.items()
    }
    np.savez(
        path,
        indptr=ratings.indptr,
        items=ratings.items,
        levels=ratings.levels,
        count=np.array(ratings.item_count),
        **tables,
    )


def workers_memory(folder: Path, model: str, count: int) -> list[dict[str, int]]:
    """Bytes of each of `count` processes, once all have answered and while all live."""
    command = module_command("benchmarks.serving.mapped", str(folder), model)
    workers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(count)
    ]
    pipes = [(worker.stdin, worker.stdout) for worker in workers]
    lines = []
    for asked in ("", "measure\n", "end\n"):
        for request, _ in pipes:
            assert request is not None
            request.write(asked)
            request.flush()
        # Each waits for all: a page is shared while its other user lives.
        lines = [answer.readline() for _, answer in pipes if answer is not None]
    for worker in workers:
        worker.communicate()
    return [json.loads(line) for line in lines]


def main(folder: Path, model: str) -> None:
    """Answer every place in the folder; then, when asked on stdin, measure; then say it."""
    limit_threads()
    before = _memory()["Rss"]
    served = ServedModel(MODELS[model], mapped_tables(folder / "model.safetensors"))
    settings = preset("vicinal", model=model)
    for path in sorted(folder.glob("*.npz")):
        with np.load(path) as parts:
            columns = (parts["indptr"], parts["items"], parts["levels"], int(parts["count"]))
            tables = {
                name.removeprefix("user:"): parts[name]
                for name in parts
                if name.startswith("user:")
            }
        tuned_scores(served, Neighborhood(RatingMatrix(*columns, SCALE), tables), settings)
    _say("answered")
    sys.stdin.readline()
    now = _memory()
    _say("measured")
    sys.stdin.readline()
    found = {"resident": now["Rss"], "shared_out": now["Pss"], "grown": now["Rss"] - before}
    _say(json.dumps(found))


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _memory() -> dict[str, int]:
    """Bytes by the names of /proc/self/smaps_rollup."""
    lines = Path("/proc/self/smaps_rollup").read_text(encoding="ascii").splitlines()[1:]
    fields = (line.split() for line in lines)
    return {name.rstrip(":"): 1024 * int(count) for name, count, _ in fields}


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
