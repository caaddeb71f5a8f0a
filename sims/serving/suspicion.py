"""What the look at a version sees of attacks: `python -m sims.serving.suspicion`.

Prints the table of docs/how-to/monitoring.md. New are the last 3 % of the accounts of the data set,
or as many fakes of an attack. Nothing is trained: neighbors by ratings need no model, and attacks
that need one are left out.
"""

import math
import sys
from typing import Annotated, Final

import numpy as np
import typer

from common.ratings import RatingMatrix
from common.vicinal.settings import PRESETS
from server.data.datasets import load_dataset
from server.gateway.history import Z
from server.recommending.rated_neighbors import RatedNeighborIndex
from server.recommending.survey import SEED, new_share
from sims.attacks.registry import make_profiles

SHARE: Final = 0.03
ASKED: Final = 100
SEEDS: Final = 10
GENUINE: Final = "none: the last 3 % of the accounts"
ATTACKS: Final = (
    *("random", "average", "mixrand", "avgpop", "targets-only"),
    *("vicinity", "hubclones", "covering"),
)


def lifts(ratings: RatingMatrix, old: int, neighbors: int) -> tuple[float, float, float]:
    """The lift of all accounts from `old` on, and its interval, as the live page has it."""
    rng = np.random.default_rng(SEED)
    asked = np.sort(rng.choice(old, min(ASKED, old), replace=False))
    near = RatedNeighborIndex(ratings).neighbors(asked, neighbors)[:, 1:]
    share, error = new_share(near, old, ratings.user_count)
    part = (ratings.user_count - old) / ratings.user_count
    return share / part, max(0.0, share - Z * error) / part, (share + Z * error) / part


def main(
    datasets: Annotated[
        str, typer.Option(help="Names, with commas between.")
    ] = "ml-100k,filmtrust",
    seeds: Annotated[int, typer.Option(min=1, help="Of the attacks.")] = SEEDS,
) -> None:
    """Print the table."""
    write = sys.stdout.write
    write("| ratings | attack | lift, median | least | most | suspicious |\n")
    write("|---|---|---:|---:|---:|---:|\n")
    for name in datasets.split(","):
        ratings = load_dataset(name.strip()).ratings
        neighbors = PRESETS["mf"]["vicinal"].neighbors
        old = ratings.user_count - math.ceil(SHARE * ratings.user_count)
        for attack in (GENUINE, *ATTACKS):
            found = []
            for seed in range(1 if attack == GENUINE else seeds):
                if attack == GENUINE:
                    found.append(lifts(ratings, old, neighbors))
                    continue
                fakes = make_profiles(attack, ratings, seed=seed, attack_size=SHARE).ratings
                found.append(lifts(ratings.stack(fakes), ratings.user_count, neighbors))
            values = [value for value, _, _ in found]
            seen = sum(low > 2 for _, low, _ in found)
            write(
                f"| {name.strip()} | {attack} | {np.median(values):.2f} | {min(values):.2f} | "
                f"{max(values):.2f} | {seen} of {len(found)} |\n"
            )
            sys.stdout.flush()


if __name__ == "__main__":
    typer.run(main)
