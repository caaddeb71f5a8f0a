"""What `vicinal serve` does before it listens: data, attack, training, and the folder it serves.

It runs in a process of its own (sims.serving.in_child): what it needs, torch above all, would be
hundreds of megabytes in a front that never computes.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from client.stores.ratings import write_local_ratings
from common.errors import InputError
from common.files import write_file
from common.vicinal.settings import PRESETS, preset
from server.model_store import ModelStore
from server.recommending.offload import search_named
from server.versions.folder import describe, write_serving
from sims.evaluation.defenses import defense_named
from sims.evaluation.experiment import Experiment, prepare
from sims.progress import shown
from sims.serving.retraining import Spec, write_spec

# Beside what workers read: what the front says, and how new versions are trained.
NOTES_FILE: Final = "notes"


@dataclass(frozen=True)
class Serving:
    """What to serve.

    preset           the one that the next four change; both can be asked for
    neighbor_search  server.recommending.offload
    device_ratings   where to write what the users' devices know
    retrained        whether new versions are to be trained again and again
    """

    experiment: Experiment
    defense: str
    preset: str
    neighbors: int | None
    steps: int | None
    unrated_weight: float | None
    min_support: int | None
    neighbor_search: str
    device_ratings: Path | None
    retrained: bool = False

    def write(self, folder: Path, store: ModelStore) -> None:
        """Train, or take the model from the store, and write the folder.

        Raises InputError for anything that does not fit, VicinalError when training diverges,
        OSError.
        """
        model = self.experiment.model
        chain = defense_named(self.defense, model=model)
        if chain.robust is not None and self.retrained:
            raise InputError(f"{chain.robust.method} has no warm start: leave out --retrain-every")
        settings = preset(
            self.preset,
            model=model,
            neighbors=self.neighbors,
            steps=self.steps,
            unrated_weight=self.unrated_weight,
            min_support=self.min_support,
        )
        search = search_named(self.neighbor_search)
        with shown() as progress:
            prepared = prepare(self.experiment, progress=progress)
            recommender = prepared.train(
                store, robust=chain.robust, search=search, progress=progress
            )
        presets = {
            name: chain.settings(each)
            for name, each in {**PRESETS[model], self.preset: settings}.items()
        }
        description = describe(
            recommender,
            presets=presets,
            watched=prepared.watched,
            list_length=self.experiment.list_length,
        )
        write_serving(folder, recommender, description)
        command = write_spec(folder, Spec(self.experiment, self.device_ratings))
        notes = {
            "neighbors": recommender.neighbor_search,
            "retrain": command if chain.robust is None else None,
        }
        write_file(folder / NOTES_FILE, json.dumps(notes).encode())
        if self.device_ratings is not None:
            write_local_ratings(self.device_ratings, prepared.local)
