"""A new version for a running server: `python -m sims.serving.retraining FOLDER`, started by it.

With `refresh` behind FOLDER nothing is trained: users who are new are folded into the version that
is served (server.growing).

FOLDER is what the server serves (server.versions.folder), with the file `retraining` in it that
says what to train on. The ratings are read as they are now, training starts from the current
version's parameters, and the new version's name is the last line on stdout. Without a server on the
other end of stdin the process ends.
"""

import faulthandler
import json
import os
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from client.stores.ratings import LocalRatings, write_device_files, write_items
from common.errors import VicinalError
from common.files import write_file
from common.processes import end_with, module_command
from common.threads import limit_threads
from server.data.databases import AwayError, is_database
from server.data.growth import ids_file, keep_ids, read_ids
from server.data.reading_options import ReadingOptions, plain_path
from server.front.rotation import file_states
from server.preparing import Source, refresh, renew, require_kept
from server.training.train import TrainingSettings
from server.versions.deployment import deployed_secret
from server.versions.folder import (
    current_version,
    next_publication,
    read_description,
    read_edition,
    read_serving,
)
from sims.evaluation.experiment import Experiment, not_attacked
from sims.serving.ratings import load_ratings
from sims.serving.surveying import look

SPEC_FILE: Final = "retraining"
REFRESH: Final = "refresh"
# sysexits' EX_TEMPFAIL, which server.front.rotation knows.
AWAY_CODE: Final = 75


@dataclass(frozen=True)
class Spec:
    """What to train on again, and how.

    store           of the server, which counts what is published
    device_ratings  a folder, whose files are rewritten where ratings have changed
    training        of every new version, anew; None goes on from the version that is served
    survey          of how many users each version is looked at; 0: none
    """

    experiment: Experiment
    store: Path
    hold_out: bool = False
    device_ratings: Path | None = None
    training: TrainingSettings | None = None
    survey: int = 0


def write_spec(folder: Path, spec: Spec) -> list[str]:
    """Write it into a serving folder; gives the command that retrains. Raises OSError."""
    table: dict[str, Any] = asdict(spec)
    table["experiment"]["reading"] = spec.experiment.reading.told()
    table["store"] = str(spec.store)
    table["device_ratings"] = None if spec.device_ratings is None else str(spec.device_ratings)
    table["training"] = None if spec.training is None else spec.training.model_dump()
    write_file(folder / SPEC_FILE, json.dumps(table).encode())
    return module_command("sims.serving.retraining", str(folder))


def read_spec(folder: Path) -> Spec:
    table = json.loads((folder / SPEC_FILE).read_bytes())
    named, path = table["experiment"], table["device_ratings"]
    if named["targets"] is not None:
        named["targets"] = tuple(named["targets"])
    named["reading"] = ReadingOptions.of(**named["reading"])
    training = None if table["training"] is None else TrainingSettings(**table["training"])
    return Spec(
        Experiment(**named),
        Path(table["store"]),
        table["hold_out"],
        None if path is None else Path(path),
        training,
        table["survey"],
    )


def retrain(folder: Path) -> str:
    """The name of the new version, which is in the folder now.

    Users and items that are new come after those that are known, which keep their indices. Raises
    InputError when profiles are not of these items, VicinalError when training diverges, OSError.
    """
    spec = read_spec(folder)
    description, _ = read_description(folder, current_version(folder))
    # What is measured stays the same, so that counts of both versions can be compared.
    experiment = replace(spec.experiment, targets=description.watched or None)
    source, local = _ratings(folder, spec, experiment)
    version = renew(
        folder,
        source,
        dataset=experiment.dataset,
        seed=experiment.seed,
        training=spec.training,
        publication=next_publication(spec.store),
        store=spec.store,
    )
    if spec.survey and version != description.version:
        recommender, _ = read_serving(folder, version)
        look(folder, recommender, local, most=spec.survey, before=description.user_count)
    if spec.device_ratings is not None:
        secret = deployed_secret(folder / version)
        write_device_files(spec.device_ratings, local.with_keys(secret))
        write_items(spec.device_ratings, source.names, source.ratings.item_count)
    return version


def refreshed(folder: Path) -> str:
    """The name of the version that is served, whose last edition has all users now.

    Without the attack of an experiment, whose fakes stay what they were. Raises InputError for
    another scale, AwayError when the ratings cannot be reached now, OSError.
    """
    spec = read_spec(folder)
    version = current_version(folder)
    before = read_edition(folder, version).number
    experiment = replace(not_attacked(spec.experiment), targets=())
    source, local = _ratings(folder, spec, experiment)
    base, _ = read_description(folder, version)
    edition = refresh(folder, source)
    if spec.device_ratings is not None and edition.number > before:
        new = local.of(range(base.user_count, edition.users))
        secret = deployed_secret(folder / version)
        write_device_files(spec.device_ratings, new.with_keys(secret))
    return version


def _ratings(folder: Path, spec: Spec, experiment: Experiment) -> tuple[Source, LocalRatings]:
    """What there is now, with ids in known order, which are kept.

    Raises AwayError for a file that was written while it was read, InputError.
    """
    ids = ids_file(spec.store, experiment.dataset, experiment.reading)
    files = files_of(experiment)
    before = file_states(files)
    source, local = load_ratings(experiment, hold_out=spec.hold_out, known=read_ids(ids))
    if file_states(files) != before:
        raise AwayError(f"{experiment.dataset}: was written while it was read")
    require_kept(folder, source)
    # Before anybody is given an index, and not for ratings that are not taken.
    keep_ids(ids, local.train)
    return source, local


def files_of(experiment: Experiment) -> list[str]:
    """Files whose change is a change of the ratings; none where nothing says so."""
    if experiment.reading.test is not None or is_database(experiment.dataset):
        return []
    path = plain_path(experiment.dataset)
    return [str(path.absolute())] if path.is_file() else []


def main(folder: Path, what: str) -> int:
    limit_threads()
    # Its stdin, which the server holds open while it lives.
    end_with(0)
    try:
        version = refreshed(folder) if what == REFRESH else retrain(folder)
    except AwayError as error:
        sys.stderr.write(f"{what}: {error}\n")
        return AWAY_CODE
    except (VicinalError, OSError) as error:
        sys.stderr.write(f"{what}: {error}\n")
        return 1
    sys.stdout.write(f"{version}\n")
    return 0


if __name__ == "__main__":
    # What crashes says where, in the server's log.
    faulthandler.enable()
    code = main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "retraining")
    sys.stdout.flush()
    # Without the interpreter's end, which the thread that waits for the server might not survive.
    os._exit(code)
