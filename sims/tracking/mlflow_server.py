"""Runs on an MLflow server, by its own client.

A run carries its key as a tag. What has begun under a key is gone on with, so that a run which was
broken off, or is asked for twice, is there once. Parameters cannot be changed there: only those are
sent that a run lacks. Metrics have the time of the run, and a number that is there already stays
one.
"""

import os
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any, Final, final
from urllib.parse import urlsplit

from common.errors import InputError, VicinalError
from common.text import one_line
from sims.tracking.runs import TrackedRun

LIBRARY: Final = "mlflow"
EXPERIMENT: Final = "vicinal"
# Unless the environment says otherwise: MLflow's own would wait for minutes, write among the
# results, and tell its makers.
ENVIRONMENT: Final = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
KEY: Final = "vicinal.key"
DIGEST: Final = "vicinal.digest"
PARENT: Final = "mlflow.parentRunId"
# A thousand together.
MOST_IN_BATCH: Final = {"params": 100, "tags": 100, "metrics": 800}
MOST_IN_PAGE: Final = 1000
# Of a tag, in older servers.
MOST_TAG: Final = 5000
# A name and a password in an address, which the client shows in some of its errors.
_SECRET: Final = re.compile(r"//[^/\s]*@")


def opened(address: str) -> "MlflowServer":
    """A server that answered, and its experiment. Raises InputError."""
    given = address or os.environ.get("MLFLOW_TRACKING_URI", "")
    shown = _checked(given, named=bool(address))
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    library = import_module(LIBRARY)
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
    server = MlflowServer(library.MlflowClient(tracking_uri=given), shown)
    try:
        server.choose(name)
    except VicinalError as error:
        raise InputError(f"--track {server.address}: {error}") from None
    return server


def _checked(address: str, *, named: bool) -> str:
    """As it may be shown. Raises InputError for what is no address of a server."""
    try:
        parts = urlsplit(address)
        secret, port = parts.password or parts.username, parts.port
    except ValueError:
        parts, secret, port = urlsplit(""), None, None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        wanted = "give the address of an MLflow server, as mlflow:http://127.0.0.1:5000"
        # Of a database, say, which has its password there.
        told = "…" if {"@", "?"} & {*address} else address
        what = f"--track mlflow:{told}" if named else "--track mlflow"
        if not named and address:
            what = f"MLFLOW_TRACKING_URI={told}"
        raise InputError(f"{one_line(what, 100)}: {wanted}, or set MLFLOW_TRACKING_URI to it")
    if secret is not None and named:
        # The command line is recorded with the results.
        raise InputError(
            "--track mlflow: a name and a password belong into MLFLOW_TRACKING_USERNAME and "
            "MLFLOW_TRACKING_PASSWORD, not into the address"
        )
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}{f':{port}' if port else ''}{parts.path.rstrip('/')}"


@final
class MlflowServer:
    """One experiment of a server."""

    def __init__(self, client: Any, shown: str) -> None:
        self._entities = import_module(f"{LIBRARY}.entities")
        self._client = client
        self._shown = shown
        self._experiment = ""
        # By the run that they are within, runs by key: asked for once.
        self._known: dict[str, dict[str, Any]] = {}

    @property
    def address(self) -> str:
        return f"mlflow:{self._shown}"

    def where(self, written: str) -> str:
        return f"{self._shown}/#/experiments/{self._experiment}/runs/{written}"

    def choose(self, name: str) -> None:
        """An experiment, which is made where there is none. Raises VicinalError."""
        client = self._client
        found = self._asked(lambda: client.get_experiment_by_name(name))
        if found is None:
            try:
                self._experiment = self._asked(lambda: client.create_experiment(name))
                return
            except VicinalError:
                # Another run of vicinal may have been faster.
                found = self._asked(lambda: client.get_experiment_by_name(name))
                if found is None:
                    raise
        if found.lifecycle_stage != "active":
            raise VicinalError(
                f"its experiment {name!r} is deleted: restore it, or name another in "
                "MLFLOW_EXPERIMENT_NAME"
            )
        self._experiment = found.experiment_id

    def write(self, run: TrackedRun, *, within: str = "", ended: bool = True) -> str:
        return str(self._asked(lambda: self._write(run, within, ended=ended)))

    def _write(self, run: TrackedRun, within: str, *, ended: bool) -> str:
        there = self._there(run.key, within)
        if there is None:
            there = self._client.create_run(
                self._experiment,
                start_time=_milliseconds(run.made),
                tags={KEY: run.key, **({PARENT: within} if within else {}), **_tags(run)},
                run_name=run.name,
            )
            self._known[within][run.key] = there
        run_id: str = there.info.run_id
        if there.data.tags.get(DIGEST) == run.digest and there.info.status != "RUNNING":
            return run_id
        self._log(run, run_id, set(there.data.params))
        if ended:
            with tempfile.TemporaryDirectory() as folder:
                for name, data in run.files.items():
                    (Path(folder) / name).write_bytes(data)
                if run.files:
                    self._client.log_artifacts(run_id, folder)
            self._client.set_tag(run_id, DIGEST, run.digest)
            self._client.set_terminated(
                run_id, "FAILED" if run.error else "FINISHED", _milliseconds(run.made)
            )
        self._known[within][run.key] = self._client.get_run(run_id)
        return run_id

    def _there(self, key: str, within: str) -> Any:
        """The run of a key; those within another are looked up together."""
        if within not in self._known:
            self._known[within] = {}
            if within:
                for one in self._search(f"tags.`{PARENT}` = '{within}'"):
                    self._known[within][one.data.tags.get(KEY, "")] = one
        known = self._known[within]
        if key not in known and not within:
            for one in self._search(f"tags.`{KEY}` = '{key}'"):
                known[key] = one
        return known.get(key)

    def _search(self, wanted: str) -> Iterator[Any]:
        token = None
        while True:
            page = self._client.search_runs(
                [self._experiment], wanted, max_results=MOST_IN_PAGE, page_token=token
            )
            yield from page
            token = page.token
            if not token:
                return

    def _log(self, run: TrackedRun, run_id: str, there: set[str]) -> None:
        made, entities = _milliseconds(run.made), self._entities
        every: dict[str, list[Any]] = {
            "params": [
                entities.Param(name, str(value))
                for name, value in run.parameters.items()
                if name not in there
            ],
            "tags": [entities.RunTag(name, text) for name, text in _tags(run).items()],
            "metrics": [
                entities.Metric(one.name, one.value, made, one.step) for one in run.metrics
            ],
        }
        parts = [_batches(values, MOST_IN_BATCH[kind]) for kind, values in every.items()]
        for batch in zip_longest(*parts, fillvalue=()):
            self._client.log_batch(run_id, **dict(zip(every, batch, strict=True)))

    def _asked(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except Exception as error:
            raise VicinalError(_reason(error)) from error


def _tags(run: TrackedRun) -> dict[str, str]:
    """With the names that MLflow's pages show."""
    command, commit = run.tags.get("command", ""), run.tags.get("git", "").rstrip("+")
    told = {f"vicinal.{name}": text for name, text in run.tags.items()}
    told |= {"mlflow.source.name": command[:500], "mlflow.source.type": "LOCAL"}
    told |= {"mlflow.source.git.commit": commit, "vicinal.error": run.error}
    return {name: text[:MOST_TAG] for name, text in told.items() if text}


def _batches(values: Sequence[Any], most: int) -> Iterator[list[Any]]:
    left = iter(values)
    while part := list(islice(left, most)):
        yield part


def _milliseconds(seconds: float) -> int:
    return round(1000 * seconds)


def _reason(error: BaseException) -> str:
    """What a person can do something with, of a chain of errors that repeat each other."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = one_line(_SECRET.sub("//", str(error)) or type(error).__name__)
    if "Max retries exceeded" in text or "Connection" in type(error).__name__:
        return f"nothing answers there ({type(error).__name__})"
    return text.rstrip(".")
