"""What a release must not give away, and what it must be worth: bounds on an audit's figures."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from common.errors import InputError
from sims.audit.sampled import Figures, Sampled


@dataclass(frozen=True)
class Estimate:
    """A mean over splits and its standard error; of one split, where its people leave one.

    Both None where something could not be measured in every split.
    """

    mean: float | None
    error: float | None


def estimates(splits: list[Figures]) -> dict[str, Estimate]:
    """Of each figure over the splits."""
    return {name: _estimate([split[name] for split in splits]) for name in splits[0]}


def _estimate(values: list[float | None]) -> Estimate:
    """The error is the larger of two: between splits, and what the people of each leave.

    Splits share their users, so that few of them agree by luck.
    """
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return Estimate(None, None)
    root = np.sqrt(len(known))
    errors = [float(np.std(known, ddof=1) / root)] if len(known) > 1 else []
    sampled = [value.error for value in known if isinstance(value, Sampled)]
    if len(sampled) == len(known):
        errors.append(float(np.sqrt(np.mean(np.square(sampled))) / root))
    return Estimate(float(np.mean(known)), max(errors, default=None))


@dataclass(frozen=True)
class Goals:
    """Bounds; a figure that was not measured, as there is no such artifact, misses none.

    linkage   most people who are found by a few known ratings, or named by nothing at all
    auc       of a guess who is a member, from what is sent beside the model
    exposed   most users of whom one package has a line, as a share of all
    hr        hit ratio under the attack, and of a flood and a group in their audiences
    accuracy  least share of the accuracy that rows have without an attack, under preset vicinal
    """

    linkage: float = 0.01
    auc: float = 0.55
    exposed: float = 0.01
    hr: float = 0.05
    accuracy: float = 0.9

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 <= value <= 1:
                raise InputError(f"goal {name} {value}: give a share in 0–1")

    def missed(self, found: Mapping[str, Estimate]) -> list[str]:
        """A line for each goal that is missed, with its worst figure."""
        return list(self._missed(found))

    def _missed(self, found: Mapping[str, Estimate]) -> Iterator[str]:
        guesses = [
            name
            for name in found
            if name.startswith(("membership.", "joined.")) and ".model." not in name
        ]
        bounds = (
            ("--max-linkage", self.linkage, ["linkage.recall", "naming.recall", "spies.linked"]),
            ("--max-auc", self.auc, guesses),
            ("--max-exposed", self.exposed, ["content.users"]),
            ("--max-hr", self.hr, ["hit_ratio.attack", "hit_ratio.flood", "hit_ratio.audience"]),
        )
        for option, bound, names in bounds:
            worst = max(names, key=lambda name: found[name].mean or 0.0)
            value = found[worst].mean or 0.0
            if value > bound:
                yield f"missed {option} {bound:g}: {worst} is {value:.3f}"
        kept = found["accuracy.kept"].mean
        if kept is not None and kept < self.accuracy:
            yield f"missed --min-accuracy {self.accuracy:g}: accuracy.kept is {kept:.3f}"
