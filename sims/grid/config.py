"""What a grid's TOML file holds, and the cells that it asks for."""

import hashlib
import os
import tomllib
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import chain, product
from pathlib import Path
from typing import Annotated, Final, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from common.errors import InputError
from common.models import architecture
from common.names import unknown
from common.vicinal.book import RELEASES, Release
from common.vicinal.settings import PRESETS, SPACES, Space, preset
from server.data.datasets import KNOWN
from server.data.reading_options import ReadingOptions, placed
from server.training.methods import ASSUMED_FAKES
from sims.attacks import ATTACKS, attack_named
from sims.attacks.options import resolve
from sims.evaluation.asked import asked_users
from sims.evaluation.baselines import USUAL, baselines_named
from sims.evaluation.cell import Cell
from sims.evaluation.defenses import NO_FINE_TUNE, defense_named, own_defense
from sims.evaluation.experiment import FILE_PREFIX, NAMED, NO_ATTACK, Experiment
from sims.evaluation.own_model import OWN_PRESET, OwnModel, model_in_file
from sims.evaluation.study import require_book
from sims.functions import is_function, label, resolved, stable
from sims.grid.paper_tables import k as paper_k
from sims.grid.results import FORMAT

MAX_BYTES: Final = 1 << 20
MAX_CELLS: Final = 100_000
PAPER: Final = "paper"

Metric = Literal[
    "hit_ratio",
    "hit_ratio_inside",
    "hit_ratio_worst_group",
    "accuracy",
    "accuracy_tail",
    "recall_10",
    "ndcg_10",
    "mrr",
    "coverage",
    "unsupported_share",
    "seconds",
]
Names = Annotated[list[str], Field(min_length=1)]
# What a key's words are called, and those there are.
_LITERALS: Final = {
    "metrics": ("metric", get_args(Metric)),
    "releases": ("release", RELEASES),
    "neighbors_by": ("space of neighbors", SPACES),
}


class GridConfig(BaseModel):
    """Every data set with every model, attack, defense, preset and seed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str = Field(default="", description="heading of tables.md")
    datasets: Names = Field(description="names or files, as --dataset takes them")
    models: Names = Field(
        default=["mf"], description="names of recommenders, or `PATH.py:FUNCTION`"
    )
    attacks: Names = Field(
        description="names of attacks, `none`, `file:PATH` or `PATH.py:FUNCTION`"
    )
    defenses: Names = Field(
        default=["none", "rvd"],
        description="names; presets, k and α make a difference to those with rvd only",
    )
    model_defenses: dict[str, Names] = Field(
        default={}, description="defenses of a model instead, since robust trainings are of mf only"
    )
    presets: Names = Field(
        default=["paper", "vicinal"], description="settings of the vicinal defense, by name"
    )
    seeds: Annotated[list[Annotated[int, Field(ge=0, lt=2**63)]], Field(min_length=1)] = Field(
        default=[0], description="of split, targets, attack and training; tables have their mean"
    )
    neighbors: list[Annotated[int, Field(ge=1)]] = Field(
        default=[], description="k one after the other, for an ablation; empty: as presets say"
    )
    unrated_weights: list[Annotated[float, Field(ge=0, le=1)]] = Field(
        default=[], description="α one after the other; empty: as presets say"
    )
    neighbors_by: list[Space] = Field(
        default=[], description="spaces one after the other, for an ablation; empty: as presets say"
    )
    assume_fakes: list[Annotated[float, Field(ge=0, le=0.5)]] = Field(
        default=[], description="φ one after the other; empty: as presets say"
    )
    releases: Annotated[list[Release], Field(min_length=1)] = Field(
        default=["rows"],
        description="what devices are given with rvd: `rows`, `book`, or one after the other",
    )
    k: dict[str, dict[str, dict[str, Annotated[int, Field(ge=1)]]]] = Field(
        default={},
        description="k by preset, data set and model; preset paper has the paper's Table 2",
    )
    reading: dict[str, dict[str, bool | int | float | str | list[str]]] = Field(
        default={},
        description="how the file of a data set is read: options as on the command line, as "
        '`[reading."ratings.csv"]` with `scale = "0.5:4:0.5"` and `implicit = true`',
    )
    targets: dict[str, Annotated[list[int | str], Field(min_length=1)]] = Field(
        default={},
        description='target items of a data set, by index or as `"id:B104729"`; without, five '
        "unpopular ones by seed",
    )
    list_length: dict[str, Annotated[int, Field(ge=1)]] = Field(
        default={}, description="K of a data set; without, 50"
    )
    attack_options: dict[str, dict[str, int | float | str]] = Field(
        default={},
        description="options of an attack, as `[attack_options.vicinity]` with `hubs = 4`",
    )
    attack_size: float = Field(
        default=0.03, gt=0, le=0.5, description="fakes as a share of real users"
    )
    attack_sizes: list[Annotated[float, Field(gt=0, le=0.5)]] = Field(
        default=[], description="several shares one after the other, instead"
    )
    users: Annotated[int, Field(ge=1)] | str | list[int | str] | None = Field(
        default=None,
        description='size of a sample of users, or users by index or `"id:ALICE"`; without, all',
    )
    baselines: list[str] = Field(
        default=[*USUAL],
        description="recommenders beside every cell: popularity, userknn, itemknn or ease",
    )
    metrics: list[Metric] = Field(
        default=["hit_ratio", "accuracy"],
        description="a table for each; " + ", ".join(get_args(Metric)),
    )

    def digest(self) -> str:
        """Names the results' folder: what was asked for, without title and tables."""
        named = {
            "models": [stable(name) for name in self.models],
            "attacks": [stable(name) for name in self.attacks],
            "model_defenses": {stable(key): value for key, value in self.model_defenses.items()},
            "attack_options": {stable(key): value for key, value in self.attack_options.items()},
        }
        # A folder outlives options that are not used.
        unused = set() if self.reading else {"reading"}
        if self.releases == ["rows"]:
            unused.add("releases")
        asked = self.model_copy(update=named).model_dump_json(exclude={"title", "metrics", *unused})
        # The format, too: results of another one do not go on in the same folder.
        text = f"{FORMAT} {asked}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def cells(self) -> list[Cell]:
        """Every cell once. Raises InputError for settings that do not fit, and for too many."""
        sizes = [*self.attack_sizes] or [self.attack_size]
        axes = product(self.datasets, self.models, self.attacks, self.seeds, sizes)
        cells = (
            cell
            for dataset, model, attack, seed, size in axes
            for defense in self.model_defenses.get(model, self.defenses)
            for cell in self._variants(
                self._experiment(dataset, model, attack, seed, size), defense
            )
        )
        found: dict[str, Cell] = {}
        # As many again may be asked for twice; a small file can ask for billions.
        for count, cell in enumerate(cells):
            found[repr(cell)] = cell
            if count >= 2 * MAX_CELLS or len(found) > MAX_CELLS:
                raise InputError(f"more than {MAX_CELLS} cells: split the grid")
        return list(found.values())

    @property
    def _beside(self) -> tuple[str, ...]:
        return baselines_named(self.baselines)

    @property
    def _weights(self) -> list[float | None]:
        return [*self.unrated_weights] or [None]

    def _experiment(
        self, dataset: str, model: str, attack: str, seed: int, size: float
    ) -> Experiment:
        targets = self.targets.get(dataset)
        return Experiment(
            dataset,
            model,
            attack,
            seed,
            None if targets is None else tuple(targets),
            size,
            self.list_length.get(dataset, 50),
            self.attack_options.get(attack, {}),
            self._reading(dataset),
        )

    def _reading(self, dataset: str) -> ReadingOptions:
        words = {
            key.replace("-", "_"): value for key, value in self.reading.get(dataset, {}).items()
        }
        return ReadingOptions.of(**words)

    def _variants(self, experiment: Experiment, defense: str) -> Iterator[Cell]:
        own = _own_model(experiment.model) if is_function(experiment.model) else None
        model = experiment.model
        named = own_defense(defense) if own else defense_named(defense, model=model)
        if not named.rvd:
            # No preset in it, so that its result outlives a change of one.
            yield Cell(experiment, named, "", NO_FINE_TUNE, asked_users(self.users), self._beside)
            return
        if own is not None:
            if "book" in self.releases:
                require_book(None, named, own.settings)
            counts: list[int | None] = [*self.neighbors] or [None]
            for neighbors, weight in product(counts, self._weights):
                settings = own.changed(neighbors=neighbors, unrated_weight=weight)
                yield Cell(
                    experiment, named, OWN_PRESET, settings, asked_users(self.users), self._beside
                )
            return
        presets = PRESETS[architecture(model)]
        for name in (each for each in self.presets if each in presets):
            k = self.k.get(name, {}).get(experiment.dataset, {}).get(experiment.model)
            if k is None and name == PAPER:
                k = paper_k(experiment.dataset, experiment.model)
            ks: list[int | None] = [*self.neighbors] or [k]
            spaces: list[Space | None] = [*self.neighbors_by] or [None]
            shares: list[float | None] = [*self.assume_fakes] or [None]
            for neighbors, weight, space, share, release in product(
                ks, self._weights, spaces, shares, self.releases
            ):
                settings = preset(
                    name,
                    model=model,
                    neighbors=neighbors,
                    unrated_weight=weight,
                    neighbors_by=space,
                    assumed_fakes=share,
                )
                named = defense_named(
                    defense,
                    model=model,
                    preset=name,
                    assume_fakes=ASSUMED_FAKES if share is None else share,
                )
                if release == "book":
                    require_book(model, named, settings)
                users = asked_users(self.users)
                yield Cell(experiment, named, name, settings, users, self._beside, release)


@cache
def _own_model(name: str) -> OwnModel:
    """Loaded once for all cells; the name has the digest of the file."""
    return model_in_file(name)


def read_config(path: Path) -> GridConfig:
    """Raises InputError for a file that is none, and for a name that is not known."""
    try:
        with path.open("rb") as opened:
            data = opened.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise InputError(f"{path}: larger than a grid's configuration can be")
        config = GridConfig.model_validate(tomllib.loads(data.decode()))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{path}: not TOML: {error}") from None
    except ValidationError as error:
        raise InputError(f"{path}: {_told(error)}") from None
    try:
        config = _resolved(config, path.parent)
        _check_names(config)
        if not config.cells():
            raise InputError("asks for no cell")
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    return config


def _resolved(config: GridConfig, folder: Path) -> GridConfig:
    """With functions in files named so that every process finds them. Raises InputError."""

    def named(name: str) -> str:
        return resolved(name, folder)

    def file(name: str) -> str:
        return _dataset(name, folder)

    by_dataset = {
        key: {file(name): value for name, value in getattr(config, key).items()}
        for key in ("targets", "list_length")
    }
    reading = {
        file(name): {
            **value,
            **{key: _dataset(str(value[key]), folder) for key in ("test", "items") if key in value},
        }
        for name, value in config.reading.items()
    }
    return config.model_copy(
        update={
            "datasets": list(dict.fromkeys(map(file, config.datasets))),
            **by_dataset,
            "reading": reading,
            "k": {
                preset: {file(name): value for name, value in table.items()}
                for preset, table in config.k.items()
            },
            "models": list(map(named, config.models)),
            "attacks": list(map(named, config.attacks)),
            "model_defenses": {named(key): value for key, value in config.model_defenses.items()},
            "attack_options": {named(key): value for key, value in config.attack_options.items()},
        }
    )


def _dataset(name: str, folder: Path) -> str:
    """A file beside the configuration, or in the home folder, as the current folder names it.

    Other names are as they are.
    """
    if name in KNOWN or name.startswith("synthetic"):
        return name
    path = placed(name, folder)
    try:
        return name if path == Path(name) else os.path.relpath(path)
    except ValueError:
        return str(path)


def _check_names(config: GridConfig) -> None:
    _check("model", config.model_defenses, config.models, where="model_defenses")
    for defense in chain(config.defenses, *config.model_defenses.values()):
        defense_named(defense)
    attacks = [name for name in config.attacks if not name.startswith(FILE_PREFIX)]
    registered = [name for name in attacks if not is_function(name)]
    _check("attack", registered, [*ATTACKS, NO_ATTACK], where="attacks")
    for name in attacks:
        if is_function(name):
            attack_named(name)
    _check("attack", config.attack_options, attacks, where="attack_options")
    for name, options in config.attack_options.items():
        resolve(label(name), attack_named(name), options)
    baselines_named(config.baselines)
    asked_users(config.users)
    built_in = [name for name in config.models if not is_function(name)]
    _check("model", built_in, NAMED, where="models")
    for model in built_in:
        # Another model of the grid may have the others.
        presets = PRESETS.get(architecture(model), {})
        if presets and not any(name in presets for name in config.presets):
            _check("preset", config.presets, presets, where="presets")
    known = {name for presets in PRESETS.values() for name in presets}
    _check("preset", config.presets, sorted(known), where="presets")
    _check("preset", config.k, config.presets, where="k")
    for name in ("targets", "list_length", "reading"):
        _check("data set", getattr(config, name), config.datasets, where=name)
    for name, datasets in config.k.items():
        _check("data set", datasets, config.datasets, where=f"k.{name}")
        for dataset, models in datasets.items():
            _check("model", models, config.models, where=f"k.{name}.{dataset}")


def _check(kind: str, names: Iterable[str], known: Iterable[str], *, where: str) -> None:
    for name in names:
        if name not in known:
            raise unknown(kind, name, known, where=where)


def _told(error: ValidationError) -> str:
    """The first thing that is wrong, in one line."""
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return str(unknown("key", where, GridConfig.model_fields))
    if first["type"] == "literal_error":
        kind, known = _LITERALS[str(first["loc"][0])]
        return str(unknown(kind, str(first["input"]), known, where=where))
    return f"{where}: {first['msg'][:1].lower()}{first['msg'][1:]}"
