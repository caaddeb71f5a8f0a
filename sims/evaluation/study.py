"""A study: names → load → split → attack → train → measure → report.

`vicinal evaluate`, `simulate`, `serve` and `import vicinal` start from the same Study, so that
they speak of the same ratings, targets and model versions when their options agree.
"""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from common.errors import InputError
from common.models import SERVED_AS, architecture, model_named
from common.vicinal.book import check_book, release_named
from common.vicinal.settings import VicinalSettings, preset, space_named
from server.baselines import UNDEFENDED
from server.data.datasets import Dataset
from server.data.reading_options import ReadingOptions
from server.model_store import ModelStore
from server.training.methods import ASSUMED_FAKES
from sims.attacks.budget import ATTACK_SIZE, Attack
from sims.attacks.kept import KeptAttacks
from sims.attacks.options import Value
from sims.attacks.profiles import Profiles
from sims.evaluation.asked import AskedUsers, asked_users
from sims.evaluation.baselines import USUAL, baselines_named
from sims.evaluation.cell import Cell, Measurer, evaluate_cell
from sims.evaluation.defenses import NO_FINE_TUNE, RVD, Defense, defense_named, own_defense
from sims.evaluation.experiment import FILE_PREFIX, Experiment, check, load, prepare, require_named
from sims.evaluation.measuring import measure, measure_here
from sims.evaluation.own_model import OWN_PRESET, OwnModel, model_in_file
from sims.evaluation.report import Evaluation
from sims.federated.model import FleetTraining
from sims.functions import is_function, resolved
from sims.numbers import seed_of, share, whole
from sims.processes.workers import workers
from sims.progress import Report, quiet


@dataclass(frozen=True)
class Study:
    """What is studied, by the names that the command line and `import vicinal` take.

    dataset         a name or a file (server.data.datasets)
    model           mf, nsvd, autorec, cdae; ials, bpr, lightgcn; a baseline (server.baselines);
                    `imported:NAME` of the store (server.importing); or
                    `PATH.py:FUNCTION` (sims.evaluation.own_model)
    attack          a name of sims.attacks, `none`, `file:PATH` of a profiles file, or
                    `PATH.py:FUNCTION`
    attack_options  of the attack, by name (sims.attacks.options)
    attack_size     fakes as a share of real users; None is the paper's 3 %
    targets         zero-based item indices, or ids as `id:B104729`; None draws five unpopular
                    items from the seed
    defense         none, rvd, a robust training, a detector (pca), or these together:
                    `pca+rmf+rvd`
    preset          paper or vicinal; the next eight change it, None keeps what it says
    k               neighbors, capped at the users there are
    steps           of fine-tuning
    unrated_weight  α
    min_support     m, neighbors who must have rated an item
    neighbors_by    ratings, embedding or random: the space in which users are near each other
    assume_fakes    φ, share of all accounts that may be fakes; 0 admits every item
    row_cap         ratings of a neighbor that a device is sent, at most
    fold_in         no vectors of users are sent: devices make them of the rows
    release         rows or book: what devices are given where rvd defends
    list_length     K, items in a recommendation
    seed            of split, targets, attack and training; each draws from a stream of its own
    users           size of a random sample that is asked, or users by index and as `id:ALICE`; None
                    asks everybody
    baselines       that are measured beside it, by name (sims.evaluation.baselines)
    reading         how a file is read (server.data.reading_options), and which split is taken
    fleet           how clients train mf together (sims.federated.model); None: in one place
    """

    dataset: str = "ml-100k"
    model: str = "mf"
    attack: str = "mixrand"
    attack_options: Mapping[str, Value] = field(default_factory=dict)
    attack_size: float | None = None
    targets: tuple[int | str, ...] | None = None
    defense: str = RVD
    preset: str = "vicinal"
    k: int | None = None
    steps: int | None = None
    unrated_weight: float | None = None
    min_support: int | None = None
    neighbors_by: str | None = None
    assume_fakes: float | None = None
    row_cap: int | None = None
    fold_in: bool = False
    release: str = "rows"
    list_length: int = 50
    seed: int = 0
    users: AskedUsers = None
    baselines: tuple[str, ...] = USUAL
    reading: ReadingOptions = field(default_factory=ReadingOptions)
    fleet: FleetTraining | None = None

    def __post_init__(self) -> None:
        """Raises InputError for what is no whole number, or too small a one."""
        least = {"k": 1, "steps": 0, "min_support": 1, "list_length": 1, "row_cap": 1}
        for name, bound in least.items():
            value, shown = getattr(self, name), name.replace("_", " ")
            if value is not None:
                object.__setattr__(self, name, whole(shown, value, least=bound))
        object.__setattr__(self, "seed", seed_of(self.seed))
        object.__setattr__(self, "users", asked_users(self.users))
        for name in ("attack_size", "unrated_weight", "assume_fakes"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, share(name.replace("_", " "), getattr(self, name)))
        object.__setattr__(self, "baselines", baselines_named(self.baselines))
        for name in ("defense", "preset"):
            if not isinstance(getattr(self, name), str):
                raise InputError(f"{name} {getattr(self, name)!r:.40}: give a name")

    def cell(self, own: OwnModel | None = None, *, made: bool = False) -> Cell:
        """What the names mean. Raises InputError, before anything is loaded.

        own   a model of one's own, instead of the one that `model` names; it has no presets
        made  whether a function or profiles stand for the attack, and `attack` is but their name
        """
        if not made and self.attack.startswith(FILE_PREFIX) and self.attack_size is not None:
            raise InputError("attack size: these profiles are made; leave it out")
        if own is None:
            if not is_function(self.model):
                require_named(self.model)
            assumed = ASSUMED_FAKES if self.assume_fakes is None else self.assume_fakes
            # A preset's training is of one place.
            base = self.preset if self.fleet is None else ""
            defense = defense_named(
                self.defense, model=self.model, preset=base, assume_fakes=assumed
            )
            if self.fleet is not None and defense.robust is not None:
                raise InputError(
                    f"defense {self.defense}: a fleet has robust aggregation (--aggregate) instead "
                    "of robust training; choose none or rvd"
                )
            settings = self._settings()
        else:
            defense = own_defense(self.defense)
            settings = own.changed(
                neighbors=self.k,
                steps=self.steps,
                unrated_weight=self.unrated_weight,
                min_support=self.min_support,
                neighbors_by=self.neighbors_by,
                assume_fakes=self.assume_fakes,
            )
            if self.row_cap is not None or self.fold_in:
                raise InputError("a model of your own sends no rows: leave out row cap and fold-in")
        experiment = Experiment(
            dataset=self.dataset,
            model=resolved(self.model) if own is None else self.model,
            attack=self.attack if made else resolved(self.attack),
            seed=self.seed,
            targets=self.targets,
            attack_size=ATTACK_SIZE if self.attack_size is None else self.attack_size,
            list_length=self.list_length,
            attack_options=self.attack_options,
            reading=self.reading,
            fleet=self.fleet,
        )
        name = self.preset if own is None else OWN_PRESET
        release = release_named(self.release)
        if release == "book":
            require_book(self.model if own is None else None, defense, settings)
        return Cell(experiment, defense, name, settings, self.users, self.baselines, release)

    def _settings(self) -> VicinalSettings:
        """Of a built-in model. Raises InputError."""
        changes = (
            self.k,
            self.steps,
            self.unrated_weight,
            self.min_support,
            self.neighbors_by,
            self.assume_fakes,
            self.row_cap,
            self.fold_in or None,
        )
        if self.model in UNDEFENDED:
            if any(value is not None for value in changes):
                raise InputError(
                    f"{self.model} is not fine-tuned: leave out k, steps, unrated weight, min "
                    "support, neighbors by, assumed fakes, row cap and fold-in"
                )
            return NO_FINE_TUNE
        return preset(
            self.preset,
            model=architecture(self.model),
            neighbors=self.k,
            steps=self.steps,
            unrated_weight=self.unrated_weight,
            min_support=self.min_support,
            neighbors_by=None if self.neighbors_by is None else space_named(self.neighbors_by),
            assumed_fakes=self.assume_fakes,
            row_cap=self.row_cap,
            fold_in=self.fold_in,
        )


def require_book(model: str | None, defense: Defense, settings: VicinalSettings) -> None:
    """Raises InputError where no device could answer from a book; None is a model of one's own."""
    if model is None or not defense.rvd:
        raise InputError("release book: it takes rvd, and a model of this project")
    check_book(model_named(architecture(SERVED_AS.get(model, model))), settings)


def evaluate(
    study: Study,
    store: Path,
    *,
    dataset: Dataset | None = None,
    attack: Attack | None = None,
    profiles: Profiles | None = None,
    model: OwnModel | None = None,
    processes: int | None = None,
    ray: str | None = None,
    progress: Report = quiet,
) -> Evaluation:
    """Load, split, attack, train, measure, report.

    store      folder of trained models and of attacks' fakes: taken from it where they are there,
               and kept in it
    dataset    ratings at hand, instead of those that study.dataset names
    attack     a function, instead of the attack that study.attack names
    profiles   made before, instead of an attack
    model      of one's own, instead of the one that study.model names
    processes  that answer users; the counts do not depend on it. None: as many as there are cores.
               1 is this process, and so it is for a model of one's own, which torch shares out
    ray        address of a Ray cluster whose cores answer users instead

    Raises InputError for what does not fit, VicinalError when training diverges or a process dies,
    OSError.
    """
    if processes is not None:
        processes = whole("processes", processes, least=1)
    own = model
    if own is None and is_function(study.model):
        own = model_in_file(resolved(study.model))
    cell = study.cell(own, made=attack is not None or profiles is not None)
    experiment, own_model = cell.experiment, own is not None
    check(experiment, attack=attack, profiles=profiles, own_model=own_model)
    if ray is not None and own is not None:
        raise InputError("--ray shares users out: a model of one's own stays on this machine")
    with ExitStack() as stack:
        # Connected first: what is not there is told before an attack takes hours.
        found = stack.enter_context(workers(processes, ray))
        measurer: Measurer = partial(measure, workers=found, progress=progress)
        if own is not None or processes == 1:
            measurer = partial(measure_here, progress=progress)
        dataset = load(experiment) if dataset is None else dataset
        # Another process may have a store that is there.
        opened = stack.enter_context(ModelStore(store)) if store.is_dir() else None
        prepared = prepare(
            experiment,
            profiles,
            dataset=dataset,
            attack=attack,
            own_model=own_model,
            kept=KeptAttacks(store),
            progress=progress,
        )
        opened = opened or stack.enter_context(ModelStore(store))
        return evaluate_cell(cell, prepared, opened, measurer, own=own, progress=progress)
