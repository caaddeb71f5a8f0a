"""What a certificate of one user takes, by size: `python -m benchmarks.scale.certifying`."""

import math
import time
from typing import Final

import numpy as np

from benchmarks.report import Section, progress, run, table
from common.vicinal.settings import preset
from server.data.datasets import load_dataset
from server.recommending.certificate import Certificate, Form, beyond

SHAPES: Final = ("synthetic:6040x3706x1000209", "synthetic:69878x10677x10000054")
SHORT: Final = ("synthetic:300x400x9000", "synthetic:600x800x36000")
FORMS: Final[tuple[Form, ...]] = ("any", "pairwise")
USERS: Final = 24
# Before the clock starts: compiled loops are loaded.
WARM: Final = 4
UNPOPULAR: Final = 5

INTRODUCTION: Final = """\
## Certificates by size

`vicinal certify` computes a price for every item, user by user. Milliseconds of processor time for
one user of preset vicinal, mean over {users} random ones. *any* and *pairwise* are the two forms of
the certificate. *Slope* is the power of the number of ratings that time grows with, from the first
shape to the second.
"""


def section(short: bool) -> Section:
    """No floor: nobody waits for it."""
    settings = preset("vicinal", model="mf")
    found: dict[Form, list[float]] = {form: [] for form in FORMS}
    sizes = []
    for shape in SHORT if short else SHAPES:
        progress(f"certify {shape}")
        ratings = load_dataset(shape).ratings
        sizes.append((ratings.user_count, ratings.item_count, len(ratings)))
        drawn = np.random.default_rng(0).permutation(ratings.user_count)[: WARM + USERS]
        rare = ratings.item_counts() < UNPOPULAR
        for form in FORMS:
            certificate = Certificate(ratings, settings, form=form)
            beyond(certificate, drawn[:WARM], [10], rare)
            start = time.process_time()
            beyond(certificate, drawn[WARM:], [10], rare)
            found[form].append((time.process_time() - start) / USERS)
    growth = math.log(sizes[1][2] / sizes[0][2])
    slopes = {form: math.log(times[1] / times[0]) / growth for form, times in found.items()}
    rows = [
        (*(f"{size:,}" for size in sizes[at]), *(f"{1000 * found[form][at]:.2f}" for form in FORMS))
        for at in range(2)
    ]
    heads = ("users", "items", "ratings", *(f"{form}, ms" for form in FORMS))
    told = " and ".join(f"{slopes[form]:.2f} ({form})" for form in FORMS)
    text = f"{INTRODUCTION.format(users=USERS)}\n{table(heads, rows, texts=0)}\n\nSlope: {told}.\n"
    return Section(text, {"seconds": found, "slopes": slopes})


if __name__ == "__main__":
    run(section)
