"""`vicinal evaluate`: one attack, one defense, one data set."""

import json
import time
from pathlib import Path
from typing import Annotated

import typer

from sims import options

app = typer.Typer()


@app.command()
def evaluate(
    dataset: options.DatasetOption = "ml-100k",
    model: options.ModelOption = "mf",
    attack: options.AttackOption = "mixrand",
    attack_option: options.AttackOptionsOption = None,
    defense: options.DefenseOption = "rvd",
    preset: options.PresetOption = "vicinal",
    k: options.NeighborsOption = None,
    steps: options.StepsOption = None,
    unrated_weight: options.UnratedWeightOption = None,
    min_support: options.MinSupportOption = None,
    targets: options.TargetsOption = None,
    attack_size: options.AttackSizeOption = 0.03,
    list_length: options.ListLengthOption = 50,
    seed: options.SeedOption = 0,
    users: Annotated[
        int | None,
        typer.Option("--users", min=1, help="Measure a random sample of this many users."),
    ] = None,
    store: options.StoreOption = Path("runs/store"),
    processes: Annotated[
        int | None, typer.Option("--processes", min=1, help="Worker processes; default: cores.")
    ] = None,
    json_file: options.JsonOption = None,
) -> None:
    """Measure one attack against one defense on one data set.

    Prints hit ratio and accuracy of the clean, the attacked and the defended model, beside
    ranking by popularity. Trained models are kept in the store and used again.
    """
    import numpy as np
    from rich.console import Console

    from common.errors import InputError
    from common.files import write_file
    from common.settings import preset as preset_named
    from server.model_store import ModelStore
    from server.recommender import Recommender
    from sims.attacks.options import parse_options
    from sims.defenses import NO_DEFENSE, defense_named
    from sims.evaluation import Bench, Condition, Source, measure, popularity
    from sims.experiment import Experiment, prepare
    from sims.progress import shown
    from sims.results import Evaluation

    chain = defense_named(defense, model=model)
    settings = preset_named(
        preset,
        model=model,
        neighbors=k,
        steps=steps,
        unrated_weight=unrated_weight,
        min_support=min_support,
    )
    experiment = Experiment(
        dataset,
        model,
        attack,
        seed,
        options.parse_targets(targets),
        attack_size,
        list_length,
        parse_options(attack_option or []),
    )
    prepared = prepare(experiment)
    if chain.rvd and settings.neighbors > prepared.user_count:
        # The clean model has no fakes; told before minutes of training.
        raise InputError(
            f"k = {settings.neighbors} neighbors asked of {prepared.user_count} users: "
            "choose a smaller --k"
        )
    everybody = np.arange(prepared.user_count)
    chosen = everybody
    if users is not None and users < len(everybody):
        chosen = np.sort(np.random.default_rng(seed).choice(everybody, users, replace=False))
    with ModelStore(store) as opened, shown() as progress:
        start = time.perf_counter()
        poisoned = prepared.train(opened, progress=progress)
        models: dict[Source, Recommender] = {
            "clean": prepared.train(opened, clean=True, progress=progress),
            "poisoned": poisoned,
        }
        defended = models
        if chain.robust is not None:
            defended = {
                source: prepared.train(
                    opened, clean=source == "clean", robust=chain.robust, progress=progress
                )
                for source in models
            }
        trained = time.perf_counter()
        bench = Bench(
            models,
            prepared.local,
            settings,
            prepared.watched,
            list_length,
            defended,
            chain.rvd,
        )
        conditions: list[Condition] = ["clean", "undefended"]
        share = 0.0
        if chain.name != NO_DEFENSE:
            conditions += ["clean_defended", "defended"]
        if chain.rvd:
            nearest = defended["poisoned"].nearest(chosen, settings.neighbors)[:, 1:]
            share = float((nearest >= poisoned.user_count).mean()) if nearest.size else 0.0
        measured = measure(bench, conditions, chosen, processes=processes, progress=progress)
        popular = popularity(
            poisoned.ratings, prepared.local, chosen, prepared.watched, list_length
        )
        evaluation = Evaluation.of(
            prepared,
            measured,
            popular,
            defense=chain.name,
            preset=preset,
            settings=settings,
            users=len(chosen),
            fake_neighbor_share=share,
            train_seconds=trained - start,
            defend_seconds=time.perf_counter() - trained,
        )
    if json_file is not None:
        write_file(json_file, (json.dumps(evaluation.to_json(), indent=2) + "\n").encode())
    Console().print(evaluation.table())
