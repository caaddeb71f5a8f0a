"""Training on ten million ratings: `python -m benchmarks.scale.training`.

Each model is trained in a process of its own, with implicit's ALS beside it.
"""

from typing import Final

from benchmarks.report import Section, progress, run, table
from benchmarks.scale.tasks import cost_of

SHAPE: Final = "synthetic:71567x10681x10000054"
SHORT: Final = "synthetic:2000x1500x100000"
MOST_TIMES: Final = 3.0
MOST_SECONDS: Final = 8.0
# One epoch of mf, and its whole training as `--defense rvd` with preset vicinal asks for it.
CASES: Final = (("mf", 1), ("ials", 0))
NAMES: Final = {("mf", 1): "mf, one epoch", ("ials", 0): "ials, all 15 rounds"}

INTRODUCTION: Final = """\
## Training on ten million ratings

Ratings of MovieLens 10M's shape, `{shape}`. *ials* is what preset vicinal trains for mf: the exact
solver of alternating least squares, d = 64. *mf* is one epoch of the published regime, Adagrad on
a batch's rows, of which there are 25. Beside each, in the same process and after it, stands the
ALS of the library implicit at its defaults: d = 100, 15 rounds of three steps of conjugate
gradients. BLAS has one thread. Seconds are processor time of all threads.
"""


def section(short: bool) -> Section:
    """The section; a ratio above MOST_TIMES, or a slower epoch, misses it."""
    shape = SHORT if short else SHAPE
    rows, missed, figures = [], [], {}
    for case in CASES:
        model, epochs = case
        progress(f"training: {NAMES[case]}")
        told = cost_of("trainings", shape, model, str(epochs))
        ours, theirs = told.told["ours"], told.told["implicit"]
        rows.append(
            (
                NAMES[case],
                f"{ours:.1f}",
                f"{theirs:.1f}",
                f"{ours / theirs:.2f}",
                f"{told.peak / (1 << 20):,.0f}",
            )
        )
        figures[NAMES[case]] = {"ours": ours, "implicit": theirs}
        if not short and epochs and ours > MOST_SECONDS:
            missed.append(f"{NAMES[case]}: {ours:.1f} s, not {MOST_SECONDS}")
        if not short and ours > MOST_TIMES * theirs:
            missed.append(f"{NAMES[case]}: {ours / theirs:.2f} times implicit, not {MOST_TIMES}")
    heads = ("training", "seconds", "implicit, seconds", "ratio", "memory, MiB")
    return Section(f"{INTRODUCTION.format(shape=shape)}\n{table(heads, rows)}", figures, missed)


if __name__ == "__main__":
    run(section)
