"""The audit: versions of a release are published, their bytes are attacked, the judge counts.

Each split publishes four versions: of all users with an attack's fakes, with a flood's, and with
spies, who ask for packages and promote targets with the same accounts; and of half of the users,
whose membership is guessed. A quarter of the users are shadows, whom the attacker knows, and
another quarter are those who are in no version.

Who sees what:

- a *device* unseals the package of its own user, and nothing else;
- an *observer* has the open part of everybody's packages: who operates a server, or asks one that
  wants no tokens, with what is sealed left closed;
- *spies* are accounts, each of which unseals its own package.

Of a list of items newcomers are guessed, too, from what was published before and after they came.

Shapes: U real users, F fakes, I items.
"""

from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from common.errors import InputError
from common.ratings import RatingMatrix
from server.data.datasets import Dataset
from server.recommending.book import life_mu
from sims.attacks.budget import assemble
from sims.audit.exposure import SHARES, accounts_to, content, exposed, rank_of, sums_of
from sims.audit.guessing import Guessing
from sims.audit.knowledge import Knowledge
from sims.audit.linkage import linked, named
from sims.audit.listing import (
    most_auc,
)
from sims.audit.release import Release, Version
from sims.audit.sampled import Figures, Sampled, share
from sims.audit.seen import Seen, distinct, stacked, together
from sims.evaluation.experiment import Experiment, Prepared, prepare
from sims.evaluation.measuring import EvaluationSetup, Measured, measure_here
from sims.evaluation.metrics import tail_items
from sims.numbers import stream
from sims.processes.workers import HERE, Workers
from sims.progress import Report, counter, quiet

# What splits leave must be enough for shares to mean something.
LEAST_USERS: Final = 40
# Packages whose reader guesses who is a member.
READ_PACKAGES: Final = 20
# Attacks that are aimed at few users, and what their figures are called.
AIMED: Final = {"flood": "flood", "group": "audience"}
# Of a split, each with trainings of its own, and the longest first.
PARTS: Final = ("guessed", "attacked", "spied", *AIMED)


@dataclass(frozen=True)
class Plan:
    """What is audited, beside the release.

    experiment  data set, model, attack, list length; its seed begins those of the splits
    knowledge   what an attacker knows of a person
    splits      how often all is done anew
    accounts    of spies
    queries     people who are asked about: linked, guessed, answered
    """

    experiment: Experiment
    knowledge: Knowledge = field(default_factory=Knowledge)
    splits: int = 3
    accounts: int = 200
    queries: int = 400


@dataclass(frozen=True)
class Sent:
    """All that was sent of a version, as an observer reads it, and whose the lines are.

    everything  lines of the book and of all packages
    owners      of its lines; -1: of several users
    """

    packages: list[Seen]
    each: list[NDArray[np.int64]]
    everything: Seen
    owners: NDArray[np.int64]
    size: float
    book_size: int


def audited(
    plan: Plan,
    release: Release,
    reference: Release,
    dataset: Dataset,
    *,
    workers: Workers = HERE,
    progress: Report = quiet,
) -> list[Figures]:
    """The figures of each split; `reference` is what accuracy is a share of.

    They do not depend on the workers, who get a part of a split each, with its trainings. Raises
    InputError for too few users.
    """
    users = dataset.ratings.user_count
    if users < LEAST_USERS:
        raise InputError(f"{users} users are too few to audit: give {LEAST_USERS} at least")
    # The longest first. In this process a split is prepared once.
    numbers = range(plan.splits)
    calls = [(number, part) for part in PARTS for number in numbers]
    if workers.here:
        calls.sort()
    advance = counter(progress, "attacks", len(calls))
    parts = workers.each(
        _part,
        calls,
        start=partial(_Auditor, progress=progress if workers.here else quiet),
        arguments=(plan, release, reference, dataset),
        arrived=lambda _: advance(1),
    )
    found: list[Figures] = [{} for _ in numbers]
    for (number, _), figures in zip(calls, parts, strict=True):
        found[number] |= figures
    return found


class _Auditor:
    """Made in each worker; what a split begins with is prepared when it is first asked for."""

    def __init__(
        self,
        plan: Plan,
        release: Release,
        reference: Release,
        dataset: Dataset,
        *,
        progress: Report,
    ) -> None:
        self._plan, self._release, self._reference = plan, release, reference
        self._dataset, self._progress = dataset, progress
        self._split: tuple[int, _Split] | None = None

    def figures(self, number: int, part: str) -> Figures:
        if self._split is None or self._split[0] != number:
            plan = self._plan
            seed = plan.experiment.seed + number
            prepared = prepare(replace(plan.experiment, seed=seed), dataset=self._dataset)
            title = f"split {number + 1}"
            split = _Split(plan, self._release, prepared, seed, title, self._progress)
            self._split = number, split
        return self._split[1].figures(part, self._reference)


def _part(auditor: _Auditor, number: int, part: str) -> Figures:
    return auditor.figures(number, part)


class _Split:
    """One repetition, from a seed of its own."""

    def __init__(
        self,
        plan: Plan,
        release: Release,
        prepared: Prepared,
        seed: int,
        title: str,
        progress: Report,
    ) -> None:
        self._plan, self._release, self._prepared = plan, release, prepared
        self._seed, self._title, self._progress = seed, title, progress
        self._train = prepared.split.train
        self._users = self._train.user_count

    def figures(self, part: str, reference: Release) -> Figures:
        """What is measured in one part."""
        if part == "attacked":
            return self._attacked(reference)
        if part in AIMED:
            return self._aimed(part, AIMED[part])
        return self._spied() if part == "spied" else self._guessed()

    def _attacked(self, reference: Release) -> Figures:
        """What packages show of all users, and what answers are worth under the attack."""
        version = self._published(self._prepared.poisoned)
        sent = self._sent(version, self._users)
        asked = self._sample("readers")
        opened = [
            version.unseal_package(user, data)
            for user in asked.tolist()
            if (data := version.package(user)) is not None
        ]
        shown = content(opened, self._users)
        counts = exposed(sent.each, self._users) / max(len(sent.packages), 1)
        found: Figures = {
            "bytes.model": float(len(version.model())),
            "bytes.book": float(sent.book_size),
            "bytes.package": sent.size,
            "content.rows": shown.rows,
            "content.users": shown.users,
            "content.single": shown.single,
            "exposure.median": float(np.median(counts)),
            "exposure.p90": float(np.percentile(counts, 90)),
            "exposure.most": float(counts.max()),
            "mu": version.mu,
            "mu.model": version.model_mu,
            "mu.ten": None if version.mu is None else life_mu(version.mu, 10),
            "mu.auc": None if version.mu is None else most_auc(version.mu),
        }
        return {**found, **self._linked(version, sent), **self._answers(version, reference)}

    def _linked(self, version: Version, sent: Sent) -> Figures:
        lines, which = distinct(sent.everything)
        _, first = np.unique(which, return_index=True)
        people = self._sample("people")
        known = self._known(self._train.rows(people), lines.raters.sum(axis=0), "known")
        owners = sent.owners[first]
        precision, recall = linked(lines, known, self._plan.knowledge).judged(owners, people)
        by_name = named(sent.packages, version.settings.neighbors_by, self._train.item_count)
        everybody = np.arange(self._users)
        named_precision, named_recall = by_name.judged(sent.owners, everybody)
        shown = np.unique(owners[(owners >= 0) & (owners < self._users)])
        return {
            "linkage.precision": precision,
            "linkage.recall": share(recall, len(people)),
            "naming.precision": named_precision,
            "naming.recall": share(named_recall, self._users),
            "rank.rows": len(shown) / self._users,
            "rank.sums": rank_of(sums_of([*sent.packages, *self._books(version)], known.item_count))
            / self._users,
        }

    def _answers(self, version: Version, reference: Release) -> Figures:
        users = self._sample("asked")
        attacked = self._measured(version, users)
        clean = self._published(self._train, reference)
        cleanly = self._measured(clean, users)
        return {
            "hit_ratio.clean": _hit_ratio(cleanly),
            "hit_ratio.attack": _hit_ratio(attacked),
            "accuracy.clean": _accuracy(cleanly),
            "accuracy.attack": _accuracy(attacked),
            "accuracy.kept": _kept(attacked, cleanly),
            "accuracy.tail": self._tail(attacked),
            "accuracy.tail_clean": self._tail(cleanly),
        }

    def _aimed(self, attack: str, name: str) -> Figures:
        """All fakes aim at few users: the hit ratio of these, the accuracy of everybody."""
        experiment = replace(self._prepared.experiment, attack=attack, attack_options={})
        prepared = prepare(experiment, dataset=self._prepared.dataset)
        assert prepared.profiles is not None
        version = self._published(prepared.poisoned)
        inside = np.array(prepared.profiles.audience)
        measured = self._measured(version, self._sample("asked"))
        return {
            f"hit_ratio.{name}": _hit_ratio(self._measured(version, inside)),
            f"accuracy.{name}": _accuracy(measured),
        }

    def _spied(self) -> Figures:
        """Accounts that copy what is known of a victim each, and praise a target each."""
        count = min(self._plan.accounts, self._users // 2)
        victims = stream(self._seed, "victims").permutation(self._users)[:count]
        raters = self._train.item_counts()
        known = self._known(self._train.rows(victims), raters, "courted")
        version = self._published(self._train.stack(spies(known, self._prepared.watched)))
        owners, met, right = [], 0, 0
        advance = counter(self._progress, f"{self._title}: spies", count)
        for number, victim in enumerate(victims.tolist()):
            data = version.package(self._users + number)
            if data is not None:
                seen = version.unseal_package(self._users + number, data)
                whose = version.owners(self._users + number, seen)
                owners.append(whose)
                met += int(victim in whose)
                claims = linked(seen, known.rows([number]), self._plan.knowledge)
                right += int(claims.judged(whose, np.array([victim]))[1])
            advance(1)
        needed, reached = accounts_to(owners, self._users, rng=stream(self._seed, "order"))
        return {
            **{f"accounts.to_{share}": needed[share] for share in SHARES},
            "accounts.all": float(count),
            "accounts.reached": reached,
            "spies.met": share(met / max(count, 1), count),
            "spies.linked": share(right / max(count, 1), count),
            "hit_ratio.spies": _hit_ratio(self._measured(version, self._sample("asked"))),
        }

    def _guessed(self) -> Figures:
        """Who is a member, and what a member has beside what is known."""
        guessing = Guessing(
            self._plan.knowledge,
            self._plan.queries,
            self._train,
            self._seed,
            f"{self._title}: newcomers",
            self._progress,
        )
        return guessing.figures(
            self._published, lambda version, users: self._sent(version, users).everything
        )

    def _tail(self, measured: Measured) -> float | None:
        """Accuracy on held-out items of few ratings; None where nobody has one."""
        outcomes, local = measured.outcomes, self._prepared.local
        held = np.maximum(local.held_out[outcomes.users], 0)
        few = outcomes.asked & tail_items(local.train)[held]
        return share(float(outcomes.found()[few].mean()), int(few.sum())) if few.any() else None

    def _published(self, ratings: RatingMatrix, release: Release | None = None) -> Version:
        real = min(self._users, ratings.user_count)
        return (release or self._release).published(
            ratings, real=real, seed=self._seed, progress=self._progress
        )

    def _books(self, version: Version) -> list[Seen]:
        book = version.book()
        return [] if book is None else [version.read_book(book)]

    def _sent(self, version: Version, users: int) -> Sent:
        """What an observer has who asks for everybody."""
        items = version.ratings.item_count
        packages, owners, sizes = [], [], []
        advance = counter(self._progress, f"{self._title}: packages of {users}", users)
        for user in range(users):
            data = version.package(user)
            if data is not None:
                packages.append(version.read_package(data))
                owners.append(version.owners(user, packages[-1]))
                sizes.append(len(data))
            advance(1)
        books = self._books(version)
        everything = together([*packages, *books], items)
        of_books = [np.full(len(seen), -1) for seen in books]
        none = np.zeros(0, dtype=np.int64)
        return Sent(
            packages,
            owners,
            everything,
            np.concatenate([none, *owners, *of_books]),
            float(np.mean(sizes)) if sizes else 0.0,
            len(version.book() or b""),
        )

    def _measured(self, version: Version, users: NDArray[np.int64]) -> Measured:
        experiment = self._prepared.experiment
        setup = EvaluationSetup(
            {"poisoned": version.answering},
            self._prepared.local,
            version.settings,
            self._prepared.watched,
            experiment.list_length,
        )
        return measure_here(setup, ["defended"], users)["defended"]

    def _sample(self, name: str) -> NDArray[np.int64]:
        drawn = stream(self._seed, name).permutation(self._users)[: self._plan.queries]
        return np.sort(drawn)

    def _known(self, people: RatingMatrix, raters: NDArray[np.generic], name: str) -> RatingMatrix:
        rng = stream(self._seed, name)
        return self._plan.knowledge.of(people, np.asarray(raters, dtype=np.int64).ravel(), rng=rng)


def _hit_ratio(measured: Measured) -> Sampled:
    return share(measured.counts.hit_ratio, len(measured.outcomes.users))


def _accuracy(measured: Measured) -> Sampled:
    return share(measured.counts.accuracy, int(measured.outcomes.asked.sum()))


def _kept(attacked: Measured, cleanly: Measured) -> Sampled:
    """Ratio of two accuracies of the same users, with the error of a ratio of paired counts."""
    one, other = attacked.outcomes.found(), cleanly.outcomes.found()
    count = max(int(other.sum()), 1)
    ratio = int(one.sum()) / count
    gaps = one.astype(np.float64) - ratio * other
    return Sampled(ratio, float(np.sqrt((gaps**2).sum()) / count))


def spies(known: RatingMatrix, targets: tuple[int, ...]) -> RatingMatrix:
    """Profiles of what is known of each victim, and of one target each at the maximum, [F, I].

    With all targets they would be each other's neighbors, and see little but themselves.
    """

    def profile(row: int) -> RatingMatrix:
        start, end = known.indptr[row], known.indptr[row + 1]
        items, target = known.items[start:end], targets[row % len(targets)]
        kept = items != target
        values = known.scale.values[known.levels[start:end][kept]]
        return assemble(known, (target,), [(items[kept].astype(np.int64), values)])

    return stacked([profile(row) for row in range(known.user_count)])
