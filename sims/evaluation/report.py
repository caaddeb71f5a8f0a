"""What an evaluation reports, as JSON and as a table."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.table import Table
from rich.text import Text

from common.ranking import Counts
from common.vicinal.settings import VicinalSettings
from sims.evaluation.experiment import Prepared
from sims.evaluation.measuring import Condition, Measured
from sims.functions import label
from sims.rendering import as_html, as_text

if TYPE_CHECKING:
    import polars as pl

TITLES: dict[str, str] = {
    "clean": "clean model",
    "clean_defended": "clean model, defended",
    "undefended": "undefended",
    "defended": "defended",
    "popularity": "popularity ranking",
}


@dataclass(frozen=True, repr=False)
class Evaluation:
    """One cell: counts per condition (and `popularity`), and how long it took.

    notes  what was measured otherwise than it was asked for
    """

    prepared: Prepared
    defense: str
    preset: str
    settings: VicinalSettings
    users: int
    notes: tuple[str, ...]
    counts: dict[str, Counts]
    fake_neighbor_share: float
    train_seconds: float
    defend_seconds: float
    per_user_seconds: np.ndarray[tuple[int], np.dtype[np.float64]]

    @classmethod
    def of(
        cls,
        prepared: Prepared,
        measured: dict[Condition, Measured],
        popularity: Counts,
        *,
        defense: str,
        preset: str,
        settings: VicinalSettings,
        users: int,
        notes: tuple[str, ...],
        fake_neighbor_share: float,
        train_seconds: float,
        defend_seconds: float,
    ) -> "Evaluation":
        """From measurements; without a defense, defended is undefended."""
        counts: dict[str, Counts] = {name: part.counts for name, part in measured.items()}
        counts.setdefault("clean_defended", counts["clean"])
        counts.setdefault("defended", counts["undefended"])
        counts["popularity"] = popularity
        answered = measured.get("defended", measured["undefended"])
        return cls(
            prepared,
            defense,
            preset,
            settings,
            users,
            notes,
            counts,
            fake_neighbor_share,
            train_seconds,
            defend_seconds,
            answered.seconds,
        )

    def hit_ratio(self, condition: str) -> float | None:
        """Of the target items under a condition; None where there are none."""
        counts = self.counts[condition]
        return counts.hit_ratio if counts.eligible else None

    def __repr__(self) -> str:
        ratios = ", ".join(
            f"{TITLES[name]} {_shown(self.hit_ratio(name))}"
            for name in ("clean", "undefended", "defended")
        )
        length = self.prepared.experiment.list_length
        return f"Evaluation({self._title()}; HR@{length} {ratios})"

    def __str__(self) -> str:
        return as_text(self.table())

    def _repr_html_(self) -> str:
        return as_html(self.table())

    def frame(self) -> "pl.DataFrame":
        """A row a condition: what was asked, hit ratio, accuracy, accuracy of liked items."""
        import polars as pl  # noqa: PLC0415 - heavy, and for this only

        told = self.to_json()
        named = ("dataset", "model", "attack", "defense", "preset", "seed")
        metrics = ("hit_ratio", "accuracy", "accuracy_thresholded")
        return pl.DataFrame(
            [
                {key: told[key] for key in named}
                | {"condition": condition}
                | {metric: told[metric][condition] for metric in metrics}
                for condition in TITLES
            ]
        )

    def to_json(self) -> dict[str, Any]:
        """The keys that the command line promises, and the settings that gave them."""
        experiment, split = self.prepared.experiment, self.prepared.split
        profiles = self.prepared.profiles
        return {
            "dataset": experiment.dataset,
            "source": self.prepared.source,
            "split": split.kind,
            "model": label(experiment.model),
            "attack": label(experiment.attack),
            "defense": self.defense,
            "preset": self.preset,
            "seed": experiment.seed,
            "k": self.settings.neighbors,
            "unrated_weight": self.settings.unrated_weight,
            "steps": self.settings.steps,
            "min_support": self.settings.min_support,
            "list_length": experiment.list_length,
            "users": self.users,
            "notes": list(self.notes),
            "fakes": 0 if profiles is None else profiles.ratings.user_count,
            "targets": list(self.prepared.watched),
            "hit_ratio": {name: self.hit_ratio(name) for name in self.counts},
            "hit_ratio_per_target": list(self.counts["defended"].hit_ratio_per_item),
            "accuracy": {name: counts.accuracy for name, counts in self.counts.items()},
            "accuracy_thresholded": {
                name: counts.accuracy_thresholded for name, counts in self.counts.items()
            },
            "fake_neighbor_share": self.fake_neighbor_share,
            "seconds": {
                "train": self.train_seconds,
                "defend": self.defend_seconds,
                "per_user_p50": float(np.percentile(self.per_user_seconds, 50)),
                "per_user_p99": float(np.percentile(self.per_user_seconds, 99)),
            },
        }

    def table(self) -> Table:
        """Hit ratio and accuracy by condition, at most 80 columns wide."""
        length = self.prepared.experiment.list_length
        # As text: a name or a note may hold what rich takes for markup.
        table = Table(
            title=Text(self._title(), style="table.title"),
            title_justify="left",
            caption=Text("\n".join(self.notes), style="table.caption") or None,
            caption_justify="left",
        )
        table.add_column("")
        for heading in (f"HR@{length}", f"accuracy@{length}", "of liked items"):
            table.add_column(heading, justify="right")
        for name, title in TITLES.items():
            counts = self.counts[name]
            table.add_row(
                title,
                _shown(self.hit_ratio(name)),
                f"{counts.accuracy:.3f}",
                f"{counts.accuracy_thresholded:.3f}",
                style="bold" if name == "defended" else None,
            )
        return table

    def _title(self) -> str:
        experiment = self.prepared.experiment
        return (
            f"{experiment.dataset} · {label(experiment.model)} · "
            f"attack {label(experiment.attack)} · "
            f"defense {self.defense} ({self.preset}) · seed {experiment.seed} · "
            f"{self.users} users"
        )


def _shown(ratio: float | None) -> str:
    return "–" if ratio is None else f"{ratio:.3f}"
