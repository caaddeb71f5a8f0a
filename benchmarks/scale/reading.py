"""Reading tens of millions of ratings: `python -m benchmarks.scale.reading`.

Every reading is a process of its own, by which time and memory are counted.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from benchmarks.report import Section, progress, run, table
from benchmarks.scale.tasks import Cost, cost_of

SHAPE: Final = "synthetic:200948x84432x32000204"
SHORT: Final = "synthetic:2000x1500x200000"
MOST_TIMES: Final = 2.5
MIB: Final = 1 << 20

INTRODUCTION: Final = """\
## Reading tens of millions of ratings

A csv of {ratings:,} ratings of {users:,} users and {items:,} items, {size:.2f} GB: MovieLens 32M's
shape, with half stars and times. *by user* has the lines in MovieLens' own order, *shuffled* in
none. *polars* is what one would write by hand: polars' streaming reader of csv in narrow types,
`numpy.unique` for the ids, scipy's CSR. *vicinal* reads it as every command does: separator,
header, scale, duplicates and what looks wrong in it are found out. Each is a process of its own;
seconds are processor time, and memory is the most that was resident. *made* are the synthetic
ratings alone, `{shape}`.
"""


def section(short: bool) -> Section:
    """The section; a ratio above MOST_TIMES misses it."""
    shape = SHORT if short else SHAPE
    rows, missed, figures = [], [], {}
    progress(f"made: {shape}")
    made = cost_of("make", shape)
    with TemporaryDirectory(prefix="vicinal-") as folder:
        file, size = Path(folder) / "ratings.csv", 0
        for order in ("by user", "shuffled"):
            progress(f"reading: {order}")
            size = cost_of("write", shape, str(file), order).told["bytes"]
            theirs, ours = (cost_of(task, str(file)) for task in ("read_polars", "read_vicinal"))
            if theirs.told["shape"] != ours.told["shape"]:
                raise RuntimeError(f"read {ours.told['shape']}, not {theirs.told['shape']}")
            ratios = ours.seconds / theirs.seconds, ours.peak / theirs.peak
            rows += [_row(order, "polars", theirs, None), _row(order, "vicinal", ours, ratios)]
            figures[order] = {"seconds": ratios[0], "memory": ratios[1]}
            for what, ratio in zip(("seconds", "memory"), ratios, strict=True):
                # Of few ratings, most is the start of the process.
                if ratio > MOST_TIMES and not short:
                    missed.append(f"{order}, {what}: {ratio:.2f} times, not {MOST_TIMES}")
    rows.append(_row("by user", "made", made, None))
    users, items, ratings = made.told["shape"]
    heads = ("lines", "what", "seconds", "memory, MiB", "time ratio", "memory ratio")
    text = INTRODUCTION.format(
        ratings=ratings, users=users, items=items, size=size / 1e9, shape=shape
    )
    return Section(f"{text}\n{table(heads, rows, texts=2)}", figures, missed)


def _row(order: str, what: str, cost: Cost, ratios: tuple[float, float] | None) -> tuple[str, ...]:
    shown = ("", "") if ratios is None else tuple(f"{each:.2f}" for each in ratios)
    return (order, what, f"{cost.seconds:.1f}", f"{cost.peak / MIB:,.0f}", *shown)


if __name__ == "__main__":
    run(section)
