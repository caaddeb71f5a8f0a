"""A study: names → load → split → attack → train → measure → report.

`vicinal evaluate`, `simulate`, `serve` and `import vicinal` start from the same Study, so that
they speak of the same ratings, targets and model versions when their options agree.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from common.vicinal.settings import preset
from server.data.datasets import Dataset
from server.model_store import ModelStore
from sims.attacks.budget import ATTACK_SIZE
from sims.attacks.options import Value
from sims.attacks.registry import Attack
from sims.evaluation.cell import Cell, evaluate_cell
from sims.evaluation.defenses import RVD, defense_named
from sims.evaluation.experiment import Experiment, prepare
from sims.evaluation.measuring import measure
from sims.evaluation.report import Evaluation
from sims.progress import Report, quiet


@dataclass(frozen=True)
class Study:
    """What is studied, by the names that the command line and `import vicinal` take.

    dataset         a name or a file (server.data.datasets)
    model           mf, nsvd, autorec or cdae
    attack          a name of sims.attacks, `none`, `file:PATH` of a profiles file, or
                    `PATH.py:FUNCTION`
    attack_options  of the attack, by name (sims.attacks.options)
    attack_size     fakes as a share of real users
    targets         zero-based item indices; None draws five unpopular items from the seed
    defense         none, rvd, a robust training, or one with rvd: `rmf+rvd`
    preset          paper or vicinal; the next four change it, None keeps what it says
    k               neighbors, capped at the users there are
    steps           of fine-tuning
    unrated_weight  α
    min_support     m, neighbors who must have rated an item
    list_length     K, items in a recommendation
    seed            of split, targets, attack and training; each draws from a stream of its own
    users           size of a random sample that is asked; None asks everybody
    """

    dataset: str = "ml-100k"
    model: str = "mf"
    attack: str = "mixrand"
    attack_options: Mapping[str, Value] = field(default_factory=dict)
    attack_size: float = ATTACK_SIZE
    targets: tuple[int, ...] | None = None
    defense: str = RVD
    preset: str = "vicinal"
    k: int | None = None
    steps: int | None = None
    unrated_weight: float | None = None
    min_support: int | None = None
    list_length: int = 50
    seed: int = 0
    users: int | None = None

    def cell(self) -> Cell:
        """What the names mean. Raises InputError, before anything is loaded."""
        defense = defense_named(self.defense, model=self.model)
        settings = preset(
            self.preset,
            model=self.model,
            neighbors=self.k,
            steps=self.steps,
            unrated_weight=self.unrated_weight,
            min_support=self.min_support,
        )
        experiment = Experiment(
            dataset=self.dataset,
            model=self.model,
            attack=self.attack,
            seed=self.seed,
            targets=self.targets,
            attack_size=self.attack_size,
            list_length=self.list_length,
            attack_options=self.attack_options,
        )
        return Cell(experiment, defense, self.preset, settings, self.users)


def evaluate(
    study: Study,
    store: Path,
    *,
    dataset: Dataset | None = None,
    attack: Attack | None = None,
    processes: int | None = None,
    progress: Report = quiet,
) -> Evaluation:
    """Load, split, attack, train, measure, report.

    store      folder of trained models: taken from it where they are there, and kept in it
    dataset    ratings at hand, instead of those that study.dataset names
    attack     a function, instead of the attack that study.attack names
    processes  that answer users; the counts do not depend on it. None: as many as there are cores

    Raises InputError for what does not fit, VicinalError when training diverges or a process dies,
    OSError.
    """
    cell = study.cell()
    prepared = prepare(cell.experiment, dataset=dataset, attack=attack, progress=progress)
    measurer = partial(measure, processes=processes, progress=progress)
    with ModelStore(store) as opened:
        return evaluate_cell(cell, prepared, opened, measurer, progress=progress)
