"""What `flwr run` needs where nothing was prepared: ratings, an attack, a model, device files."""

import sys
from pathlib import Path

import numpy as np

from common.vicinal.settings import capped
from server.fleet.run_config import RunConfig
from server.flower_app import PROGRESS_MARK
from server.model_store import ModelStore
from sims.evaluation.defenses import RVD, defense_named
from sims.evaluation.experiment import Experiment, prepare
from sims.evaluation.measuring import EvaluationSetup, measure_here
from sims.fleet.files import write_fleet_files
from sims.fleet.log import measures_line, tell


def prepared_files(
    folder: Path,
    *,
    dataset: str,
    model: str,
    attack: str,
    seed: int,
    config: RunConfig,
    clients: int,
) -> dict[str, bool | float | int | str]:
    """Write a fleet's files; the keys of the run config that name them and what is measured."""
    tell(f"no deployment is named, so one is made: {dataset}, attack {attack}")
    prepared = prepare(
        Experiment(
            dataset=dataset,
            model=model,
            attack=attack,
            seed=seed,
            list_length=config.list_length,
        )
    )
    asked = config.settings(model)
    settings = capped(asked, prepared.user_count)
    defense = defense_named(RVD, model=model, preset=config.preset)
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


def _report(what: str, done: int, total: int) -> None:
    if done in (0, total):
        sys.stdout.write(f"{PROGRESS_MARK} {what.replace(' ', '-')} {done}/{total}\n")
        sys.stdout.flush()
