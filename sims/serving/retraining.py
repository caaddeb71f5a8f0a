"""A new version for a running server: `python -m sims.serving.retraining FOLDER`, started by it.

FOLDER is what the server serves (server.versions.folder), with the file `retraining` in it that
says what to train on. The ratings are read as they are now, training starts from the current
version's parameters, and the new version's name is the last line on stdout. Without a server on the
other end of stdin the process ends.
"""

import faulthandler
import json
import os
import sys
import threading
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from client.stores.ratings import write_local_ratings
from common.errors import InputError, VicinalError
from common.files import write_file
from common.processes import module_command
from common.ratings import RatingMatrix
from common.threads import limit_threads
from server.model_store import ModelStore, TrainedModel
from server.recommending.recommender import Recommender
from server.training.train import Start, TrainingSettings, train
from server.versions.folder import current_version, describe, read_serving, write_version
from sims.evaluation.experiment import Experiment, Prepared, prepare

SPEC_FILE: Final = "retraining"
# Over all ratings, from parameters that have been trained on nearly all of them.
EPOCHS: Final = 2
# Of the regime's learning rate, which is made for fresh parameters
# (docs/decisions/0014-versions.md).
RATE_SHARE: Final = 0.1


@dataclass(frozen=True)
class Spec:
    """What to train on again; `device_ratings` is rewritten when the ratings have changed."""

    experiment: Experiment
    device_ratings: Path | None = None


def write_spec(folder: Path, spec: Spec) -> list[str]:
    """Write it into a serving folder; gives the command that retrains. Raises OSError."""
    said: dict[str, Any] = asdict(spec.experiment)
    said["device_ratings"] = None if spec.device_ratings is None else str(spec.device_ratings)
    write_file(folder / SPEC_FILE, json.dumps(said).encode())
    return module_command("sims.serving.retraining", str(folder))


def read_spec(folder: Path) -> Spec:
    said = json.loads((folder / SPEC_FILE).read_bytes())
    path = said.pop("device_ratings")
    if said["targets"] is not None:
        said["targets"] = tuple(said["targets"])
    return Spec(Experiment(**said), None if path is None else Path(path))


def retrain(folder: Path) -> str:
    """The name of the new version, which is in the folder now.

    Raises InputError when ratings or profiles are not of the same users and items any more,
    VicinalError when training diverges, OSError.
    """
    spec = read_spec(folder)
    old, description = read_serving(folder, current_version(folder))
    # What is measured stays the same, so that counts of both versions can be compared.
    prepared = prepare(replace(spec.experiment, targets=description.watched))
    _check_same(prepared, old)
    ratings = prepared.poisoned
    trained = warm_started(old, ratings, dataset=spec.experiment.dataset, seed=spec.experiment.seed)
    with TemporaryDirectory(dir=folder, prefix="training-") as scratch:
        with ModelStore(Path(scratch)) as store:
            stored = store.save(trained)
        new = Recommender(stored, ratings, prepared.user_count, search=old.search)
        said = describe(
            new,
            presets=dict(description.presets),
            watched=description.watched,
            list_length=description.list_length,
        )
        write_version(folder, new, said)
    if spec.device_ratings is not None and new.ratings_digest != old.ratings_digest:
        write_local_ratings(spec.device_ratings, prepared.local)
    return said.version


def warm_started(
    old: Recommender,
    ratings: RatingMatrix,
    *,
    dataset: str,
    seed: int,
    rate_share: float = RATE_SHARE,
) -> TrainedModel:
    """A model of `ratings`, trained from the parameters of another with the same real users.

    rate_share  learning rate ÷ that of the model's regime. Raises VicinalError.
    """
    manifest = old.version.manifest
    regime = TrainingSettings.on(dataset, model=manifest.model, seed=seed)
    settings = regime.model_copy(
        update={
            "width": manifest.width,
            "epochs": EPOCHS,
            "learning_rate": rate_share * regime.learning_rate,
        }
    )
    # Fakes come and go; real users keep their rows.
    users = {name: rows[: old.user_count] for name, rows in old.stored.user_parameters.items()}
    start = Start(old.version.digest, {**old.version.parameters, **users})
    return train(ratings, settings, start=start)


def _check_same(prepared: Prepared, old: Recommender) -> None:
    found, known = prepared.split.train, old.ratings
    now = (found.user_count, found.item_count, found.scale)
    before = (old.user_count, known.item_count, known.scale)
    if now != before:
        raise InputError(
            f"retraining: {now[0]} users × {now[1]} items on scale {now[2]}, but what is served "
            f"has {before[0]} × {before[1]} on {before[2]}: start the server anew"
        )


def _end_with_server() -> None:
    # Not sys.stdin, whose lock would outlive the main thread.
    while os.read(0, 1024):
        pass
    os._exit(1)


def main(folder: Path) -> int:
    limit_threads()
    threading.Thread(target=_end_with_server, daemon=True).start()
    try:
        version = retrain(folder)
    except (VicinalError, OSError) as error:
        sys.stderr.write(f"retraining: {error}\n")
        return 1
    sys.stdout.write(f"{version}\n")
    return 0


if __name__ == "__main__":
    # What crashes says where, in the server's log.
    faulthandler.enable()
    code = main(Path(sys.argv[1]))
    sys.stdout.flush()
    # Without the interpreter's end, which the thread that waits for the server might not survive.
    os._exit(code)
