"""The ratings that `vicinal serve` serves: the data set as it is, or an experiment's.

An experiment adds an attack's profiles or withholds a rating of every user.
"""

from dataclasses import replace

from client.stores.ratings import LocalRatings
from common.text import one_line
from server.data.growth import KnownIds, in_known_order
from server.preparing import Source, load_source
from sims.attacks.kept import KeptAttacks
from sims.attacks.profiles import Profiles
from sims.evaluation.experiment import NO_ATTACK, Experiment, load, local_ratings, prepare
from sims.evaluation.splits import nothing_held_out
from sims.functions import label
from sims.progress import Report, quiet
from sims.terminal import notes_wanted


def load_ratings(
    experiment: Experiment,
    *,
    hold_out: bool,
    known: KnownIds | None = None,
    kept: KeptAttacks | None = None,
    progress: Report = quiet,
) -> tuple[Source, LocalRatings]:
    """What the server trains on, and what the users' devices know.

    It is the data set as it is, unless an attack or `hold_out` makes it an experiment. Users and
    items that are `known` keep their indices. An attack is made anew on the ratings as they are,
    unless its fakes are `kept`; a profiles file stays as it is. Raises InputError, OSError.
    """
    if experiment.attack == NO_ATTACK and not hold_out:
        source = load_source(
            experiment.dataset,
            seed=experiment.seed,
            watched=experiment.targets or (),
            reading=experiment.reading,
            known=known,
            progress=notes_wanted(),
        )
        return source, local_ratings(nothing_held_out(source.ratings))
    if experiment.attack == NO_ATTACK:
        experiment = replace(experiment, targets=experiment.targets or ())
    dataset = in_known_order(load(experiment), known)
    prepared = prepare(experiment, dataset=dataset, hold_out=hold_out, kept=kept, progress=progress)
    about = _in_words(experiment, prepared.profiles, hold_out=hold_out)
    source = Source(
        prepared.poisoned,
        prepared.user_count,
        prepared.watched,
        about,
        (*prepared.dataset.notes, *prepared.notes),
        prepared.doubts,
        prepared.dataset.titles,
    )
    return source, prepared.local


def _in_words(experiment: Experiment, profiles: Profiles | None, *, hold_out: bool) -> str:
    parts = []
    if profiles is not None:
        # A path may hold characters that no line does.
        attack = one_line(label(experiment.attack))
        parts.append(f"attack {attack} added {profiles.ratings.user_count} fake users")
    if hold_out:
        parts.append("one rating of every user is withheld")
    return ", ".join(parts)
