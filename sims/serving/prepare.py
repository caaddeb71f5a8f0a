"""What `vicinal serve` does before it listens: ratings, training, and the folder it serves.

It runs in a process of its own (sims.serving.in_child): what it needs, torch above all, would be
hundreds of megabytes in a front that never computes.

A server serves the ratings as they are, all of them (server.preparing). An experiment that serves
adds an attack's profiles or withholds a rating of every user, and says so wherever it is asked.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from client.stores.ratings import write_device_files, write_items
from common.errors import InputError
from common.files import write_file
from common.models import SERVED_AS, architecture
from common.vicinal.settings import VicinalSettings, capped, capped_note, preset, tolerated_note
from server.data.databases import without_secrets
from server.data.growth import ids_file, keep_ids, read_ids
from server.importing.imported import imported_model
from server.model_store import ModelStore
from server.preparing import device_secret, prepare
from server.recommending.offload import search_named
from server.recommending.recommender import Recommender
from server.training.train import TrainingSettings
from server.versions.folder import NOTES_FILE, current_version, read_description
from sims.attacks.kept import KeptAttacks
from sims.evaluation.cell import Cell
from sims.evaluation.experiment import check, require_parameters
from sims.evaluation.study import Study
from sims.progress import shown
from sims.serving.ratings import load_ratings
from sims.serving.retraining import REFRESH, Spec, files_of, write_spec
from sims.serving.surveying import look


@dataclass(frozen=True)
class Serving:
    """What to serve.

    study            the preset that it names is changed as it says
    hold_out         withhold one rating of every user, so that devices can measure accuracy
    neighbor_search  server.recommending.offload
    device_ratings   folder for what the users' devices know
    presets          what devices may ask for; None: the preset that the study names. None of them
                     shows more of a row than that one
    retrained        whether new versions are to be trained again and again
    survey           of how many users each version is looked at; 0: none (sims.serving.surveying)
    """

    study: Study
    hold_out: bool
    neighbor_search: str
    device_ratings: Path | None
    presets: Sequence[str] | None = None
    retrained: bool = False
    survey: int = 0

    def write(self, folder: Path, store: ModelStore) -> None:
        """Train, or take the model from the store, and write the folder.

        Raises InputError for anything that does not fit, VicinalError when training diverges,
        OSError.
        """
        cell = self.study.cell()
        experiment = cell.experiment
        require_parameters(experiment.model)
        check(experiment)
        imported = imported_model(experiment.model)
        if imported is not None and self.retrained:
            raise InputError(
                f"{experiment.model} is not trained here: leave out --retrain-every, and bring in "
                "a new one with `vicinal model import`"
            )
        search = search_named(self.neighbor_search)
        files = self.device_ratings
        if files is not None and files.exists() and not files.is_dir():
            raise InputError(f"{files} is there and no folder: choose another --device-ratings")
        fresh = self._fresh()
        presets = {
            name: cell.defense.settings(_preset(cell, name))
            for name in ((cell.preset,) if self.presets is None else self.presets)
        }
        if cell.release == "book" and list(presets) != [cell.preset]:
            raise InputError("a book goes with one preset: leave out --presets")
        with shown() as progress:
            ids = ids_file(store.folder, experiment.dataset, experiment.reading)
            source, local = load_ratings(
                experiment,
                hold_out=self.hold_out,
                known=read_ids(ids),
                kept=KeptAttacks(store.folder),
                progress=progress,
            )
            keep_ids(ids, local.train)
            recommender = prepare(
                folder,
                store,
                source,
                imported or fresh,
                presets,
                list_length=experiment.list_length,
                search=search,
                release=cell.release,
                progress=partial(progress, "train"),
            )
            if self.survey:
                look(folder, recommender, local, most=self.survey, progress=progress)
        command = self._spec(folder, store)
        notes = {
            "neighbors": [
                *(
                    _release_notes(recommender, presets, source.ratings.user_count)
                    if cell.release == "rows"
                    else _book_notes(folder)
                ),
                *(() if imported is None else imported.notes(source.ratings, store)),
            ],
            "retrain": None if imported is not None else command,
            "refresh": [*command, REFRESH],
            "files": files_of(experiment),
            "reading": list(source.notes),
            "warnings": [doubt.told() for doubt in source.doubts],
        }
        write_file(folder / NOTES_FILE, json.dumps(notes).encode())
        if self.device_ratings is not None:
            write_device_files(self.device_ratings, local.with_keys(device_secret(store)))
            write_items(self.device_ratings, source.names, source.ratings.item_count)

    def follow(self, folder: Path, store: ModelStore) -> None:
        """Write what a folder needs beside a version that other servers made. Raises OSError."""
        experiment = self.study.cell().experiment
        command = self._spec(folder, store)
        notes = {
            "neighbors": [],
            "retrain": None if imported_model(experiment.model) is not None else command,
            "refresh": [*command, REFRESH],
            "files": files_of(experiment),
            "reading": ["the version is of other servers"],
            "warnings": [],
        }
        write_file(folder / NOTES_FILE, json.dumps(notes).encode())

    @property
    def ids(self) -> Path:
        """Where, in a store, the order of users and items is kept."""
        experiment = self.study.cell().experiment
        return ids_file(Path(), experiment.dataset, experiment.reading)

    def about(self) -> tuple[str, str]:
        """Of which data set it is, and what is made of it: alike on all servers of a database."""
        cell = self.study.cell()
        experiment = asdict(cell.experiment)
        reading = cell.experiment.reading.told()
        dataset = without_secrets(cell.experiment.dataset)
        for name in ("dataset", "reading"):
            experiment.pop(name)
        made = {
            **experiment,
            "preset": [cell.preset, asdict(cell.settings), cell.defense.name],
            "presets": self.presets,
            "hold_out": self.hold_out,
            "search": self.neighbor_search,
        }
        told = [dataset, str(sorted(reading.items()))]
        return json.dumps(told), json.dumps(made, sort_keys=True, default=str)

    def _fresh(self) -> TrainingSettings:
        cell = self.study.cell()
        experiment = cell.experiment
        return TrainingSettings.on(
            experiment.dataset,
            model=experiment.model,
            seed=experiment.seed,
            robust=cell.defense.robust,
        )

    def _spec(self, folder: Path, store: ModelStore) -> list[str]:
        """The command that trains again."""
        cell = self.study.cell()
        experiment = cell.experiment
        # Only plain training goes on from parameters that are there.
        cold = cell.defense.robust is not None or experiment.model in SERVED_AS
        training = self._fresh() if cold else None
        again = Spec(
            experiment, store.folder, self.hold_out, self.device_ratings, training, self.survey
        )
        return write_spec(folder, again)


def _preset(cell: Cell, name: str) -> VicinalSettings:
    """The cell's own, or another one that shows no more of a row. Raises InputError."""
    given, model = cell.settings, architecture(cell.experiment.model)
    if name == cell.preset:
        return given
    return preset(name, model=model, row_cap=given.row_cap, fold_in=given.fold_in)


def _release_notes(
    recommender: Recommender, presets: Mapping[str, VicinalSettings], accounts: int
) -> list[str]:
    return [
        *(
            f"neighbors by {space}: {recommender.neighbor_search(space)}"
            for space in sorted({each.neighbors_by for each in presets.values()})
        ),
        *_tolerated_notes(presets, recommender.neighbors, accounts),
        *_capped_notes(presets, recommender.neighbors),
    ]


def _book_notes(folder: Path) -> list[str]:
    version = current_version(folder)
    form = read_description(folder, version)[0].book
    assert form is not None
    return [
        f"a book of {form.size} bytes: no neighbors are shown, and no workers are started",
        f"μ = {form.mu:.2f}, and {form.mu_life:.2f} with all books of this store before: "
        "docs/private-offload.md says of whom",
    ]


def _tolerated_notes(
    presets: Mapping[str, VicinalSettings], users: int, accounts: int
) -> list[str]:
    """Of the settings that answer: of few users the margin is smaller than the preset's."""
    return [
        f"preset {name}: {tolerated_note(capped(each, users), accounts)}"
        for name, each in presets.items()
        if each.assumed_fakes > 0
    ]


def _capped_notes(presets: Mapping[str, VicinalSettings], users: int) -> list[str]:
    given = {name: capped(each, users) for name, each in presets.items()}
    return [
        f"preset {name}: {capped_note(each, given[name])}"
        for name, each in presets.items()
        if given[name].neighbors != each.neighbors
    ]
