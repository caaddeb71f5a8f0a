"""The ratings that `vicinal serve` serves: the data set as it is, or an experiment's.

An experiment adds an attack's profiles or withholds a rating of every user.
"""

from dataclasses import dataclass

from client.stores.ratings import LocalRatings
from common.ratings import RatingMatrix
from server.data.datasets import load_dataset
from sims.attacks.profiles import Profiles
from sims.evaluation.experiment import NO_ATTACK, Experiment, local_ratings, prepare
from sims.evaluation.splits import nothing_held_out
from sims.progress import Report, quiet
from sims.terminal import notes_wanted


@dataclass(frozen=True)
class ServedRatings:
    """What a server trains on and whom it serves.

    ratings     the first `users` rows are real users
    watched     items whose hit ratio is measured
    local       what the users' devices know
    experiment  what is not as it is in the data set, in words; empty when all is
    """

    ratings: RatingMatrix
    users: int
    watched: tuple[int, ...]
    local: LocalRatings
    experiment: str = ""


def load_ratings(
    experiment: Experiment, *, hold_out: bool, progress: Report = quiet
) -> ServedRatings:
    """The data set as it is, unless an attack or `hold_out` makes it an experiment.

    Raises InputError.
    """
    if experiment.attack == NO_ATTACK and not hold_out:
        dataset = load_dataset(experiment.dataset, seed=experiment.seed, progress=notes_wanted())
        local = local_ratings(nothing_held_out(dataset))
        ratings = dataset.ratings
        return ServedRatings(ratings, ratings.user_count, experiment.targets or (), local)
    prepared = prepare(experiment, hold_out=hold_out, progress=progress)
    return ServedRatings(
        prepared.poisoned,
        prepared.user_count,
        prepared.watched,
        prepared.local,
        _in_words(experiment, prepared.profiles, hold_out=hold_out),
    )


def _in_words(experiment: Experiment, profiles: Profiles | None, *, hold_out: bool) -> str:
    parts = []
    if profiles is not None:
        # A path may hold characters that no line does.
        attack = "".join(each if each.isprintable() else "?" for each in experiment.attack[:200])
        parts.append(f"attack {attack} added {profiles.ratings.user_count} fake users")
    if hold_out:
        parts.append("one rating of every user is withheld")
    return ", ".join(parts)
