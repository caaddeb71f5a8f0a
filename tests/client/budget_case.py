"""One answer in a process of its own, measured: `python -m tests.client.budget_case JSON`.

Prints the bytes that the process came to have beyond what it had, and processor seconds.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from client.device import answer, ranked
from common.models import model_named
from common.ratings import RatingMatrix, RatingScale
from common.threads import limit_threads
from common.versions.version import Manifest, ModelVersion
from common.vicinal.entries import touched_items
from common.vicinal.neighborhood import Neighborhood
from common.vicinal.settings import VicinalSettings
from common.vicinal.slim import slim_model, slim_scores
from common.vicinal.tuning import ServedModel
from common.wire import offload_pb2 as wire
from common.wire.messages import neighborhood_from_wire, neighborhood_to_wire, own_to_wire
from tests.support.crossing import crossed


def manifest_of(case: dict[str, Any]) -> Manifest:
    sizes = (case["k"], case["items"], case["width"])
    return Manifest(case["model"], *sizes, 1.0, 5.0, 1.0, "0" * 64, "0" * 64)


def neighborhood_of(case: dict[str, Any], touched: int) -> Neighborhood:
    """k rows of N ratings in all, of T items spread over all there are."""
    rng = np.random.default_rng(0)
    k, each = case["k"], case["ratings"] // case["k"]
    spread = np.linspace(0, case["items"] - 1, touched).astype(np.int64)
    # Every item is touched by somebody: rows begin one after another.
    rows = [np.sort((np.arange(each) + row * each) % touched) for row in range(k)]
    columns = spread[np.concatenate(rows)]
    ratings = RatingMatrix(
        np.arange(k + 1, dtype=np.int64) * each,
        columns.astype(np.int32),
        rng.integers(0, 5, k * each).astype(np.uint8),
        case["items"],
        RatingScale(1, 5, 1),
    )
    shapes = model_named(case["model"]).user_shapes(k, case["width"])
    tables = {name: small(rng, shape) for name, shape in shapes.items()}
    return Neighborhood(ratings, tables)


def small(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    return 0.1 * rng.standard_normal(shape, dtype=np.float32)


def peak() -> int:
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def resident() -> int:
    """And from now on the peak is what comes."""
    Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("VmRSS:")[2].split()[0])


def main() -> None:
    limit_threads()
    case = json.loads(sys.argv[1])
    model, manifest = model_named(case["model"]), manifest_of(case)
    neighborhood = neighborhood_of(case, case["touched"])
    rng = np.random.default_rng(1)
    tables = {name: small(rng, shape) for name, shape in manifest.shared_shapes().items()}
    settings = VicinalSettings(case["k"], **case["settings"])
    options: dict[str, Any] = {
        "rated": neighborhood.ratings.items_of(0),
        "held_out": None,
        "watched": (),
        "list_length": case["list_length"],
    }
    version = ModelVersion("0" * 64, manifest, tables)
    message = neighborhood_to_wire(neighborhood).SerializeToString()
    own = neighborhood.ratings.rows([0])
    slim = None
    if case["slim"]:
        slim = slim_model(ServedModel(model, tables), neighborhood.ratings)
    # Libraries load what they need at first use.
    np.linalg.eigh(np.eye(4, dtype=np.float32))
    np.linalg.inv(np.eye(4))
    touched_items(neighborhood.ratings)
    if case["what"] == "unpack":
        small_one = neighborhood_of({**case, "ratings": case["k"]}, case["k"])
        crossed(small_one, manifest, settings)
        parsed = wire.Neighborhood.FromString(message)
        before, begun = resident(), time.process_time()
        neighborhood_from_wire(parsed, manifest, own_to_wire(neighborhood), own, settings)
    elif slim is not None:
        before, begun = resident(), time.process_time()
        ranked(slim_scores(model, slim, neighborhood, settings), **options)
    else:
        before, begun = resident(), time.process_time()
        answer(version, neighborhood, settings, **options)
    sys.stdout.write(f"{json.dumps([peak() - before, time.process_time() - begun])}\n")


if __name__ == "__main__":
    main()
