"""What an evaluation reports: as JSON, as frames, and as a table."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from common.ids import Names
from common.ranking import Counts
from common.vicinal.book import Release
from common.vicinal.settings import VicinalSettings
from server.baselines import BASELINES
from sims.attacks.budget import Goal
from sims.evaluation.experiment import Prepared
from sims.evaluation.measuring import Condition, Measured
from sims.evaluation.metrics import Population
from sims.evaluation.outcomes import Outcomes
from sims.evaluation.pairing import Pairing, paired
from sims.evaluation.report_table import TITLES, evaluation_table, shown
from sims.evaluation.scores import Scores
from sims.federated.model import fleet_title, fleet_told
from sims.functions import label
from sims.rendering import as_html, as_text

if TYPE_CHECKING:
    import polars as pl

# Of so many the table says what they are called.
NAMED_TARGETS: Final = 10


@dataclass(frozen=True, repr=False)
class Evaluation:
    """One cell: what came of every user under each condition, and how long it took.

    notes     what was measured otherwise than it was asked for
    outcomes  by condition (sims.evaluation.keys.CONDITIONS), and by the name of each baseline; of
              the same users in the same order
    """

    prepared: Prepared
    defense: str
    preset: str
    settings: VicinalSettings
    release: Release
    notes: tuple[str, ...]
    outcomes: Mapping[str, Outcomes]
    fake_neighbor_share: float
    train_seconds: float
    defend_seconds: float
    per_user_seconds: NDArray[np.float64]

    @classmethod
    def of(
        cls,
        prepared: Prepared,
        measured: Mapping[Condition, Measured],
        baselines: Mapping[str, Measured],
        *,
        defense: str,
        preset: str,
        settings: VicinalSettings,
        release: Release,
        notes: tuple[str, ...],
        fake_neighbor_share: float,
        train_seconds: float,
        defend_seconds: float,
    ) -> "Evaluation":
        """From measurements; without a defense, defended is undefended."""
        outcomes: dict[str, Outcomes] = {name: part.outcomes for name, part in measured.items()}
        outcomes.setdefault("clean_defended", outcomes["clean"])
        outcomes.setdefault("defended", outcomes["undefended"])
        outcomes |= {name: part.outcomes for name, part in baselines.items()}
        answered = measured.get("defended", measured["undefended"])
        return cls(
            prepared,
            defense,
            preset,
            settings,
            release,
            notes,
            outcomes,
            fake_neighbor_share,
            train_seconds,
            defend_seconds,
            answered.seconds,
        )

    @property
    def users(self) -> int:
        """How many were asked."""
        return len(self.outcomes["clean"].users)

    @property
    def goal(self) -> Goal:
        """Whether the attack promotes or demotes its targets."""
        profiles = self.prepared.profiles
        return "promote" if profiles is None else profiles.goal

    @cached_property
    def scores(self) -> Scores:
        """Every metric under every condition and of every baseline, with intervals."""
        prepared, profiles = self.prepared, self.prepared.profiles
        population = Population.of(
            self.outcomes["clean"].users,
            prepared.local,
            audience=() if profiles is None else profiles.audience,
            goal=self.goal,
        )
        return Scores(self.outcomes, population, prepared.experiment.seed)

    @property
    def counts(self) -> dict[str, Counts]:
        """Sums over users, by condition."""
        return {name: self.outcomes[name].counts for name in TITLES}

    @cached_property
    def baselines(self) -> dict[str, dict[str, Any]]:
        """The metrics of each baseline on the attacked ratings, by its name.

        Beside them `intervals`, by metric, of those that have one.
        """
        names = [name for name in BASELINES if name in self.outcomes]
        return {name: self.scores.told(name) for name in names}

    def hit_ratio(self, condition: str) -> float | None:
        """Of the target items under a condition; None where there are none."""
        counts = self.outcomes[condition].counts
        return counts.hit_ratio if counts.eligible else None

    def per_user(self) -> "pl.DataFrame":
        """A row for each user and condition: what `--per-user` writes.

        user, condition, rank of the held-out item (0 beyond the first 50 or K, null where none was
        held out), liked, tail, hits (targets in the list), eligible (targets not rated),
        target_ranks, unsupported (items of the list without support), group, inside (the audience),
        and what was asked, the same in every row.
        """
        from sims.evaluation.per_user import frame_of  # noqa: PLC0415 - needs polars

        experiment, split = self.prepared.experiment, self.prepared.split
        hasher = hashlib.sha256(split.train.digest().encode())
        hasher.update(split.held_out.items.tobytes())
        asked = {
            "dataset": experiment.dataset,
            "digest": hasher.hexdigest(),
            "model": label(experiment.model),
            "attack": label(experiment.attack),
            "defense": self.defense,
            "preset": self.preset,
            "seed": experiment.seed,
            "list_length": experiment.list_length,
            "targets": " ".join(map(str, self.prepared.watched)),
            "goal": self.goal,
        }
        ratings = self.prepared.dataset.ratings
        return frame_of(
            self.outcomes,
            self.scores.population,
            asked,
            users=Names(ratings.user_ids),
            targets=self.prepared.dataset.item_names.told(self.prepared.watched),
        )

    def against(self, other: "Evaluation", condition: str = "defended") -> Pairing:
        """Compare with another result of the same users, user by user.

        Raises InputError for results of other ratings, users, targets or lists.
        """
        from sims.evaluation.per_user import results_of  # noqa: PLC0415 - needs polars

        first, second = (results_of(each.per_user(), condition) for each in (self, other))
        return paired(first, second)

    def __repr__(self) -> str:
        ratios = ", ".join(
            f"{TITLES[name]} {shown(self.hit_ratio(name))}"
            for name in ("clean", "undefended", "defended")
        )
        length = self.prepared.experiment.list_length
        return f"Evaluation({self.title()}; HR@{length} {ratios})"

    def __str__(self) -> str:
        return as_text(self.table())

    def _repr_html_(self) -> str:
        return as_html(self.table())

    def frame(self) -> "pl.DataFrame":
        """A row a condition, and one a baseline: what was asked, and every metric.

        `accuracy_low` and `accuracy_high` are the ends of accuracy's interval, and so on.
        """
        import polars as pl  # noqa: PLC0415 - heavy, and for this only

        told = self.to_json()
        named = ("dataset", "model", "attack", "defense", "preset", "seed")
        rows = []
        for condition in self.outcomes:
            row = {key: told[key] for key in named} | {"condition": condition}
            values = self.scores.told(condition)
            intervals = values.pop("intervals")
            for metric, value in values.items():
                row[metric] = value
                if metric in intervals:
                    row[f"{metric}_low"], row[f"{metric}_high"] = intervals[metric] or (None, None)
            rows.append(row)
        return pl.DataFrame(rows, infer_schema_length=None)

    def to_json(self) -> dict[str, Any]:
        """The keys that the command line promises, and the settings that gave them."""
        experiment, split = self.prepared.experiment, self.prepared.split
        profiles = self.prepared.profiles
        return {
            "dataset": experiment.dataset,
            "source": self.prepared.source,
            **self.prepared.read(),
            "split": split.kind,
            "model": label(experiment.model),
            "attack": label(experiment.attack),
            "defense": self.defense,
            "preset": self.preset,
            "release": self.release,
            "seed": experiment.seed,
            "k": self.settings.neighbors,
            "unrated_weight": self.settings.unrated_weight,
            "steps": self.settings.steps,
            "min_support": self.settings.min_support,
            "proximal_weight": self.settings.proximal_weight,
            "neighbors_by": self.settings.neighbors_by,
            "assumed_fakes": self.settings.assumed_fakes,
            "margin": self.settings.margin,
            "candidates": self.settings.candidates,
            "exploration": self.settings.exploration,
            "row_cap": self.settings.row_cap,
            "fold_in": self.settings.fold_in,
            "tolerated_fakes": self.settings.tolerated_fakes(self.prepared.poisoned.user_count),
            "list_length": experiment.list_length,
            **fleet_told(experiment.fleet),
            "users": self.users,
            "goal": self.goal,
            "audience": 0 if profiles is None else len(profiles.audience),
            "notes": list(self.notes),
            "fakes": 0 if profiles is None else profiles.ratings.user_count,
            "targets": list(self.prepared.watched),
            **self.scores.by_metric(TITLES),
            "hit_ratio_per_target": list(self.outcomes["defended"].counts.hit_ratio_per_item),
            **self.scores.harms(),
            "tail_users": self.scores.tail_users,
            "groups": self.scores.group_count,
            "intervals": self.scores.intervals_by_metric(TITLES),
            "baselines": self.baselines,
            "fake_neighbor_share": self.fake_neighbor_share,
            "seconds": {
                "train": self.train_seconds,
                "defend": self.defend_seconds,
                "per_user_p50": float(np.percentile(self.per_user_seconds, 50)),
                "per_user_p99": float(np.percentile(self.per_user_seconds, 99)),
            },
        }

    def table(self) -> Table:
        """What a reader asks first, by condition and baseline, at most 80 columns wide."""
        return evaluation_table(
            self.scores,
            self.baselines,
            title=self.title(),
            list_length=self.prepared.experiment.list_length,
            notes=(
                *self._target_notes(),
                *self.notes,
                *self.prepared.dataset.notes,
                *(f"warning: {doubt.text}" for doubt in self.prepared.doubts),
            ),
        )

    def _target_notes(self) -> tuple[str, ...]:
        """What the targets are called, where that is more than an index; a line each."""
        names, watched = self.prepared.dataset.item_names, self.prepared.watched
        if names.ids is None and names.titles is None:
            return ()
        more = (f"and {len(watched) - NAMED_TARGETS} more",) if len(watched) > NAMED_TARGETS else ()
        return *(f"target {names.shown(each)}" for each in watched[:NAMED_TARGETS]), *more

    def title(self) -> str:
        """What was measured, in a line."""
        experiment, kind = self.prepared.experiment, self.prepared.split.kind
        files = kind in ("published", "given")
        split = f"{kind} split" if files else f"own {kind} split"
        book = ", from a book" if self.release == "book" else ""
        return (
            f"{experiment.dataset} · {label(experiment.model)} · "
            f"{fleet_title(experiment.fleet)}"
            f"attack {label(experiment.attack)} · "
            f"defense {self.defense} ({self.preset}{book}) · {split} · seed {experiment.seed} · "
            f"{self.users} users"
        )
