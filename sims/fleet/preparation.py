"""What `flwr run` needs where nothing was prepared: ratings, an attack, a model, device files."""

import json
import sys
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from common.report_privacy import ReportPrivacy
from common.vicinal.settings import capped
from server.fleet.run_config import RunConfig
from server.flower_app import PROGRESS_MARK
from server.model_store import ModelStore
from sims.evaluation.cell import Cell
from sims.evaluation.defenses import RVD, defense_named
from sims.evaluation.experiment import Experiment, Prepared, prepare
from sims.evaluation.measuring import EvaluationSetup, measure_here
from sims.fleet.files import require_clients, write_fleet_files
from sims.fleet.history import history_of, write_history
from sims.fleet.log import measures_line, tell
from sims.fleet.rounds import Rounds, prepare_rounds
from sims.fleet.scenario import Scenario
from sims.fleet.tallies import tallies_of

# Of the run config, what rounds decide.
_OF_ROUNDS: Final = (
    *("deployment", "plan", "neighbors", "steps", "unrated-weight", "min-support"),
    *("neighbors-by", "assumed-fakes", "row-cap", "fold-in", "watched-items"),
)


def prepared_files(
    folder: Path,
    experiment: Experiment,
    *,
    config: RunConfig,
    clients: int,
) -> dict[str, bool | float | int | str]:
    """Write a fleet's files; the keys of the run config that name them and what is measured."""
    named = f"{experiment.dataset}, attack {experiment.attack}"
    tell(f"no deployment is named, so one is made: {named}")
    prepared = prepare(experiment)
    require_clients(clients, prepared.user_count, min_replies=config.min_replies)
    asked = config.settings(experiment.model)
    settings = capped(asked, prepared.user_count)
    defense = defense_named(RVD, model=experiment.model, preset=config.preset)
    with ModelStore(folder / "store") as store:
        recommender = prepared.train(store, robust=defense.robust, progress=_report)
        watched = config.watched(prepared.poisoned.item_count) or prepared.watched
        files = write_fleet_files(
            folder,
            recommender,
            prepared.local,
            clients=clients,
            preset=config.preset,
            settings=settings,
            watched=watched,
            list_length=config.list_length,
        )
        # As `vicinal evaluate` has it: the plain training.
        setup = EvaluationSetup(
            {"poisoned": prepared.train(store, progress=_report)},
            prepared.local,
            settings,
            watched,
            config.list_length,
        )
        everybody = np.arange(prepared.user_count)
        plain = measure_here(setup, ["undefended"], everybody)["undefended"].counts
    tell(f"undefended: {measures_line(plain.hit_ratio, plain.accuracy, config.list_length)}")
    return {
        "deployment": str(files.folder / "deployment"),
        "neighbors": settings.neighbors,
        "watched-items": " ".join(map(str, watched)),
    }


@dataclass(frozen=True)
class PreparedRounds:
    """Rounds that were prepared here, and what has to be told of them."""

    prepared: Prepared
    rounds: Rounds
    scenario: Scenario
    config: RunConfig

    @property
    def run_config(self) -> dict[str, Any]:
        """The keys that name the files, and what was chosen."""
        written = tomllib.loads(self.rounds.files.run_config.read_text(encoding="utf-8"))
        return {"fraction": 1.0, **{key: written[key] for key in _OF_ROUNDS}}

    def write_history(self, result: Path) -> None:
        """Beside the result. Raises OSError."""
        history = history_of(
            self.prepared,
            self.rounds,
            tallies_of(json.loads(result.read_bytes())),
            self.scenario,
            defense=RVD,
            preset=self.config.preset,
            fraction=self.config.fraction,
        )
        write_history(result.parent, history)


def prepared_rounds(
    folder: Path, experiment: Experiment, scenario: Scenario, config: RunConfig, clients: int
) -> PreparedRounds:
    """Train all versions and write all files. Raises InputError, VicinalError, OSError."""
    named = f"{experiment.dataset}, attack {experiment.attack}"
    tell(f"no deployment is named, so {scenario.rounds} rounds are made: {named}")
    prepared = prepare(experiment)
    watched = config.watched(prepared.poisoned.item_count) or prepared.watched
    prepared = replace(prepared, watched=watched)
    defense = defense_named(RVD, model=experiment.model, preset=config.preset)
    cell = Cell(experiment, defense, config.preset, config.settings(experiment.model))
    with ModelStore(folder / "store") as store:
        rounds = prepare_rounds(
            folder,
            prepared,
            cell,
            store,
            scenario,
            clients=clients,
            fraction=config.fraction,
            privacy=ReportPrivacy.parse(config.report_privacy),
            progress=_report,
        )
    return PreparedRounds(prepared, rounds, scenario, config)


def _report(what: str, done: int, total: int) -> None:
    if done in (0, total):
        sys.stdout.write(f"{PROGRESS_MARK} {what.replace(' ', '-')} {done}/{total}\n")
        sys.stdout.flush()
