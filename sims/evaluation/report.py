"""What an evaluation reports, as JSON and as a table."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.table import Table
from rich.text import Text

from common.ranking import Counts
from common.vicinal.settings import VicinalSettings
from sims.evaluation.experiment import Prepared
from sims.evaluation.measuring import Condition, Measured

TITLES: dict[str, str] = {
    "clean": "clean model",
    "clean_defended": "clean model, defended",
    "undefended": "undefended",
    "defended": "defended",
    "popularity": "popularity ranking",
}


@dataclass(frozen=True)
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
        **fields: Any,
    ) -> "Evaluation":
        """From measurements; without a defense, defended is undefended."""
        counts: dict[str, Counts] = {name: part.counts for name, part in measured.items()}
        counts.setdefault("clean_defended", counts["clean"])
        counts.setdefault("defended", counts["undefended"])
        counts["popularity"] = popularity
        defended = measured.get("defended", measured["undefended"])
        return cls(prepared, counts=counts, per_user_seconds=defended.seconds, **fields)

    def to_json(self) -> dict[str, Any]:
        """The keys that the command line promises, and the settings that gave them."""
        experiment, split = self.prepared.experiment, self.prepared.split
        profiles = self.prepared.profiles
        return {
            "dataset": experiment.dataset,
            "source": self.prepared.source,
            "split": split.kind,
            "model": experiment.model,
            "attack": experiment.attack,
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
            "hit_ratio": {name: counts.hit_ratio for name, counts in self.counts.items()},
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
        # As text: a file's name may hold what rich takes for markup.
        table = Table(
            title=Text(self._title(), style="table.title"),
            title_justify="left",
            caption="\n".join(self.notes) or None,
            caption_justify="left",
        )
        table.add_column("")
        for heading in (f"HR@{length}", f"accuracy@{length}", "of liked items"):
            table.add_column(heading, justify="right")
        for name, title in TITLES.items():
            counts = self.counts[name]
            table.add_row(
                title,
                f"{counts.hit_ratio:.3f}",
                f"{counts.accuracy:.3f}",
                f"{counts.accuracy_thresholded:.3f}",
                style="bold" if name == "defended" else None,
            )
        return table

    def _title(self) -> str:
        experiment = self.prepared.experiment
        return (
            f"{experiment.dataset} · {experiment.model} · attack {experiment.attack} · "
            f"defense {self.defense} ({self.preset}) · seed {experiment.seed} · "
            f"{self.users} users"
        )
