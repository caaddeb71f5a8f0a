"""What requests share, made at start or within the first.

`python -m benchmarks.tuning.first_request`.

Prints a Markdown section. The model is random and the ratings synthetic: neither changes how long
anything takes.

Shapes: I items, k neighbors, d = 64.
"""

import time
from typing import Annotated, Final

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console

from common.models import MODELS, Model
from common.threads import limit_threads
from common.vicinal.neighborhood import Neighborhood
from common.vicinal.settings import preset
from common.vicinal.tuning import ServedModel, tuned_scores
from server.data.synthetic import synthetic

Table = NDArray[np.float32]

ITEMS: Final = 3706
WIDTH: Final = 64
USERS: Final = 300
HEADS: Final = ("model", "preset", "warm, ms", "first after it", "first without it", "later")


def served(model: Model, rng: np.random.Generator) -> ServedModel:
    """A random model, fresh: nothing of it has been computed."""
    return ServedModel(model, tables(model.shared_shapes(ITEMS, WIDTH), rng))


def neighborhood(model: Model, count: int, rng: np.random.Generator) -> Neighborhood:
    """The first users of a synthetic data set, with random user parameters."""
    ratings = synthetic(USERS, ITEMS, seed=0).rows(np.arange(count))
    return Neighborhood(ratings, tables(model.user_shapes(count, WIDTH), rng))


def tables(shapes: dict[str, tuple[int, ...]], rng: np.random.Generator) -> dict[str, Table]:
    """Random parameters, small enough that no sigmoid is flat."""
    scale = np.float32(1 / 8)
    return {
        name: scale * rng.standard_normal(shape, dtype=np.float32) for name, shape in shapes.items()
    }


def measure(name: str, preset_name: str, repeats: int) -> list[float]:
    """Median milliseconds of processor time of warming, and of requests; see HEADS."""
    model, rng = MODELS[name], np.random.default_rng(0)
    settings = preset(preset_name, model=name)
    rows = neighborhood(model, settings.neighbors, rng)

    def request(fresh: ServedModel) -> float:
        start = time.thread_time()
        tuned_scores(fresh, rows, settings)
        return time.thread_time() - start

    request(served(model, rng))  # what a process does once is not what a version does once
    seconds = []
    for _ in range(repeats):
        warmed, cold = served(model, rng), served(model, rng)
        start = time.thread_time()
        warmed.warm()
        warming = time.thread_time() - start
        seconds.append((warming, request(warmed), request(cold), request(cold)))
    return [1e3 * float(part) for part in np.median(seconds, axis=0)]


def main(
    short: Annotated[bool, typer.Option("--short", help="Fewer repetitions.")] = False,
) -> None:
    """Measure every model and preset and print a Markdown section."""
    limit_threads()
    console = Console(highlight=False, soft_wrap=True)
    console.print("## The first request of a model version\n")
    console.print(f"{ITEMS} items, d = {WIDTH}; median milliseconds of processor time.\n")
    console.print(f"| {' | '.join(HEADS)} |\n|---|---|{'---:|' * 4}")
    for name in MODELS:
        for preset_name in ("paper", "vicinal"):
            parts = measure(name, preset_name, 3 if short else 30)
            values = " | ".join(f"{part:.2f}" for part in parts)
            console.print(f"| {name} | {preset_name} | {values} |")


if __name__ == "__main__":
    typer.run(main)
