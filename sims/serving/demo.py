"""The main job with real processes: one server, four devices, every user defended.

The demo's own process trains the clean model, measures what needs no defense, and watches;
recommendations under defense come from `vicinal device` processes that talk to a
`vicinal serve` process over gRPC on loopback.

Shapes: U users, t target items.
"""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, final

import numpy as np
import tomli_w

from client.device import answer
from client.link.connection import Connection
from common.errors import VicinalError
from common.files import write_secret
from common.ranking import Counts
from common.vicinal.book import Release
from common.vicinal.settings import PRESETS
from server.data.datasets import load_dataset
from server.data.reading_options import ReadingOptions
from server.data.sources import FetchError
from server.model_store import ModelStore
from server.recommending.recommender import Recommender
from server.reports.reading import read_counts
from server.reports.tally import FILE_NAME
from server.versions.books import KEY_FILE
from sims.attacks import REPORTED_TARGETS
from sims.evaluation.baselines import measure_baseline
from sims.evaluation.cell import book_key
from sims.evaluation.experiment import Experiment, Prepared, prepare
from sims.evaluation.measuring import EvaluationSetup, measure, popularity
from sims.functions import label
from sims.processes.children import Children
from sims.processes.marked import interruptible
from sims.progress import Report
from sims.serving.process import ServeProcess
from sims.terminal import notes_wanted

DEVICES: Final = 4
# What each key of results.json means.
KEYS: Final = {
    "dataset": "name or file of the data set",
    "source": "where the ratings came from: a file, or how they were made",
    "split": "`published` (the data set's own) or `random`",
    "model": "the recommender",
    "attack": "name of the attack",
    "seed": "of the split, the targets, the attack and the training",
    "release": "what the server gave its devices: rows, or a book",
    "list_length": "K: items in a recommendation",
    "users": "how many users were answered",
    "targets": "indices of the target items",
    "version": "SHA-256 of the attacked model version",
    "hit_ratio.ROW": "share of the users who have not rated a target and see it in their list, "
    "mean over targets",
    "accuracy.ROW": "share of the users whose held-out item is in their list",
    "accuracy_thresholded.ROW": "the same over users who liked their held-out item",
    "latency_seconds.PRESET.device.p50": "from request to ranking, median; p99: 99th percentile",
    "latency_seconds.PRESET.device.p99": "",
    "latency_seconds.PRESET.device_tune_and_rank.p50": "of fine-tuning and ranking on the device",
    "latency_seconds.PRESET.device_tune_and_rank.p99": "",
    "latency_seconds.PRESET.server.p50": "of the server's own answer, one request at a time; not "
    "there where devices had a book",
    "latency_seconds.PRESET.server.p99": "",
    "bytes.cold": "of the model version, received once",
    "bytes.per_request_PRESET": "of a package, mean",
    "seconds": "of the whole run after the ratings were there",
}
# Server-side answers that are timed, one after another, and compared with a device's.
TIMED_USERS: Final = 60
# Preset paper would tune the model that the server trains for preset vicinal.
SHOWN: Final = ("vicinal",)
# What a practitioner would have without a defense, fitted to the same attacked ratings.
BESIDE: Final = ("userknn", "ease")
START_SECONDS: Final = 120


@dataclass(frozen=True)
class Substitute:
    """Why the demo runs on synthetic ratings."""

    reason: str


def choose_experiment(
    dataset: str, seed: int, reading: ReadingOptions | None = None
) -> tuple[Experiment, Substitute | None]:
    """The demo's experiment; on synthetic ratings when no source of the data set answers.

    Raises InputError for a data set that cannot be used for another reason.
    """
    try:
        loaded = load_dataset(dataset, seed=seed, reading=reading, progress=notes_wanted())
    except FetchError as error:
        return Experiment(dataset="synthetic", seed=seed), Substitute(str(error))
    targets = REPORTED_TARGETS.get(dataset)
    return Experiment(dataset, seed=seed, targets=targets, reading=loaded.reading), None


def configuration(experiment: Experiment, release: Release = "rows") -> str:
    """What is run, as TOML, which has no word for what is left open."""
    fields = asdict(experiment) | {"reading": experiment.reading.told()}
    presets = PRESETS[experiment.model]
    return tomli_w.dumps(
        {
            "experiment": {name: value for name, value in fields.items() if value},
            "presets": {name: asdict(presets[name]) for name in SHOWN},
            "devices": DEVICES,
            "release": release,
        }
    )


def run_demo(
    experiment: Experiment, folder: Path, report: Report, release: Release = "rows"
) -> dict[str, Any]:
    """Run everything; returns what results.json holds.

    release  what the server gives its devices

    Raises InputError, and VicinalError when a process fails or an answer does not match.
    No process is left, whatever happens.
    """
    prepared = prepare(experiment, progress=report)
    start = time.perf_counter()
    with interruptible(), _server(experiment, folder, report, release) as server:
        with ModelStore(folder / "clean") as store:
            clean = prepared.train(store, clean=True, progress=report)
            attacked = prepared.train(store, progress=report)
        server.wait(report)
        poisoned = server.recommender(prepared)
        everybody = np.arange(prepared.user_count)
        setup = EvaluationSetup(
            {"clean": clean, "poisoned": attacked},
            prepared.local,
            PRESETS[experiment.model]["vicinal"],
            prepared.watched,
            experiment.list_length,
        )
        plain = measure(setup, ["clean", "undefended"], everybody)
        counts: dict[str, Counts] = {name: one.counts for name, one in plain.items()}
        latency: dict[str, dict[str, dict[str, float]]] = {}
        sizes: dict[str, float] = {}
        for preset in SHOWN:
            device = server.devices(preset, len(everybody), report)
            counts[f"defended_{preset}"] = server.reported(preset, device)
            latency[preset] = {
                "device": device["seconds"]["per_user"],
                "device_tune_and_rank": device["seconds"]["tune_and_rank"],
            }
            if release == "rows":  # else there is no such answer
                latency[preset]["server"] = server.timed(preset, prepared, report)
            sizes.setdefault("cold", device["bytes"]["cold"])
            sizes[f"per_request_{preset}"] = device["bytes"]["per_request_mean"]
        counts["popularity"] = popularity(
            poisoned.ratings, prepared.local, everybody, prepared.watched, experiment.list_length
        )
        for name in BESIDE:
            counts[name] = measure_baseline(
                name,
                poisoned.ratings,
                prepared.local,
                everybody,
                prepared.watched,
                experiment.list_length,
            ).counts
    return {
        "dataset": experiment.dataset,
        "source": prepared.source,
        "split": prepared.split.kind,
        "model": experiment.model,
        "attack": label(experiment.attack),
        "seed": experiment.seed,
        "release": release,
        "list_length": experiment.list_length,
        "users": prepared.user_count,
        "targets": list(prepared.watched),
        "version": poisoned.version.digest,
        "hit_ratio": {name: one.hit_ratio for name, one in counts.items()},
        "accuracy": {name: one.accuracy for name, one in counts.items()},
        "accuracy_thresholded": {name: one.accuracy_thresholded for name, one in counts.items()},
        "latency_seconds": latency,
        "bytes": sizes,
        "seconds": time.perf_counter() - start,
    }


@final
class _Server:
    """A `vicinal serve` process of this run, and the devices that ask it."""

    def __init__(
        self, folder: Path, children: Children, process: ServeProcess, release: Release
    ) -> None:
        self._release = release
        self._folder = folder
        self._children = children
        self._process = process

    def wait(self, report: Report) -> None:
        """Until it listens. Raises VicinalError when it ends before."""
        report("wait for the server", 0, 1)
        self._process.wait(START_SECONDS)
        report("wait for the server", 1, 1)

    @property
    def address(self) -> str:
        return self._process.address

    def recommender(self, prepared: Prepared) -> Recommender:
        """The version that the server trained, for what it is not asked over the wire."""
        with Connection(self.address) as connection:
            digest = connection.describe().version
        stored = ModelStore(self._process.store).load(digest)
        return Recommender(stored, prepared.poisoned, prepared.user_count)

    def devices(self, preset: str, users: int, report: Report) -> dict[str, Any]:
        """Let device processes answer for all users; what `vicinal device --json` writes."""
        what, result = f"devices, preset {preset}", self._folder / f"devices-{preset}.json"
        report(what, 0, users)
        command = [
            *("device", "--server", self.address, "--users", f"0-{users - 1}"),
            *("--preset", preset, "--processes", str(DEVICES), "--release", self._release),
            *("--ratings", str(self._process.ratings), "--store", str(self._folder / "device")),
            *("--json", str(result)),
        ]
        child = self._children.start("sims.cli", *command, name=f"devices-{preset}", captured=False)
        with Connection(self.address) as connection:
            description = connection.describe()
            while not child.ended:
                counts = self._counted(description.version, preset)
                report(what, min(counts.users, users - 1), users)
                time.sleep(0.2)
        if child.code != 0:
            raise child.failure("failed")
        report(what, users, users)
        read: dict[str, Any] = json.loads(result.read_text())
        return read

    def reported(self, preset: str, device: dict[str, Any]) -> Counts:
        """What the server counted. Raises VicinalError when devices say otherwise."""
        with Connection(self.address) as connection:
            counts = self._counted(connection.describe().version, preset)
        counted = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(counts).items()
        }
        if counted != device["counts"]:
            raise VicinalError(f"the server counted {counted}, the devices {device['counts']}")
        return counts

    def _counted(self, version: str, preset: str) -> Counts:
        """From the file: over the wire it tells whole hundreds of reports only."""
        return read_counts(self._process.store / FILE_NAME, version, preset)[1]

    def timed(self, preset: str, prepared: Prepared, report: Report) -> dict[str, float]:
        """Seconds of a server-side answer, p50 and p99, one request at a time.

        Raises VicinalError when a device would have recommended something else.
        """
        rng = np.random.default_rng(prepared.experiment.seed)
        count = min(TIMED_USERS, prepared.user_count)
        users = rng.choice(prepared.user_count, count, replace=False).tolist()
        what, seconds = f"server, preset {preset}", []
        recommender = self.recommender(prepared)
        with Connection(self.address) as connection:
            description = connection.describe()
            settings = description.preset(preset)
            for done, user in enumerate(users):
                report(what, done, count)
                start = time.perf_counter()
                items = connection.recommend(description, user, preset)
                seconds.append(time.perf_counter() - start)
                own = answer(
                    recommender.version,
                    recommender.neighborhood(user, settings),
                    settings,
                    rated=prepared.local.train.items_of(user),
                    held_out=None,
                    watched=prepared.watched,
                    list_length=description.list_length,
                )
                if items != own.items.tolist():
                    raise VicinalError(f"server and device answer differently for user {user}")
        report(what, count, count)
        return {name: float(np.percentile(seconds, part)) for name, part in _QUANTILES.items()}


_QUANTILES: Final = {"p50": 50, "p99": 99}


@contextmanager
def _server(
    experiment: Experiment, folder: Path, report: Report, release: Release
) -> Iterator[_Server]:
    """Start `vicinal serve`; stop it, and whatever else this run started, in the end."""
    command = [
        *("--dataset", experiment.dataset, "--model", experiment.model),
        *("--attack", experiment.attack, "--hold-out", "--seed", str(experiment.seed)),
        *("--release", release, *experiment.reading.as_flags()),
    ]
    if experiment.targets is not None:
        command += ["--targets", ",".join(map(str, experiment.targets))]
    with Children(folder) as children:
        process = ServeProcess(children, folder, command)
        if release == "book":
            # A demo gives the same every time, and its noise is nobody's secret.
            write_secret(process.store / KEY_FILE, sha256(book_key(experiment.seed)).digest())
        process.start()
        yield _Server(folder, children, process, release)
        report("stop the server", 0, 1)
        if process.child.stop() != 0:
            raise process.child.failure("did not end well")
        report("stop the server", 1, 1)
