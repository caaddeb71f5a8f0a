"""A whole fleet's robustness and accuracy, as a Flower server app.

The run config names the files that `vicinal simulate` prepares and what to measure; its keys
and defaults are in pyproject.toml, [tool.flwr.app.config]. The result is written as JSON, and
only when every user was answered.
"""

import dataclasses
import json
import sys
import time
from pathlib import Path
from typing import Any, Final, Self

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp
from pydantic import BaseModel, ConfigDict, Field, ValidationError

import common
from common.errors import InputError, VicinalError
from common.files import write_file
from common.names import unknown
from common.ranking import Counts
from common.source import source_digest
from common.threads import limit_threads
from common.vicinal.settings import VicinalSettings, capped, space_named
from common.vicinal.settings import preset as preset_named
from server.fleet.serve import FleetJob, serve_fleet
from server.versions.deployment import deployed_secret, read_deployment

# Before a line of progress; `vicinal simulate` turns such lines into a bar.
PROGRESS_MARK: Final = "vicinal-progress"

# Of the client's code that lies beside the code running here, as a client computes its own.
_COMMON: Final = Path(str(common.__file__)).parent
CLIENT_SOURCE_DIGEST: Final = source_digest(_COMMON, _COMMON.parent / "client")

app = ServerApp()


class RunConfig(BaseModel):
    """Configuration of a run; every key with `-` for `_`, all but the paths with a default.

    neighbors, steps, unrated_weight, min_support: −1 keeps the preset's value.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, alias_generator=lambda name: name.replace("_", "-")
    )

    deployment: str = Field(description="folder with the model version and training ratings")
    device_ratings: str = Field(
        default="", description="folder with one device file per client, read by them alone"
    )
    result: str = Field(description="JSON file that the server app writes")
    run: str = Field(default="", description="a name that the result repeats")
    clients: int = Field(default=1, ge=1, description="how many must be connected")
    preset: str = Field(default="vicinal", description="settings of the vicinal defense, by name")
    neighbors: int = Field(default=-1, ge=-1, description="k; -1 keeps the preset's")
    steps: int = Field(default=-1, ge=-1, description="T; -1 keeps the preset's")
    unrated_weight: float = Field(default=-1.0, ge=-1, description="α; -1 keeps the preset's")
    min_support: int = Field(default=-1, ge=-1, description="m; -1 keeps the preset's")
    neighbors_by: str = Field(default="", description="ratings, embedding or random; empty: preset")
    assumed_fakes: float = Field(default=-1.0, ge=-1, description="φ; -1 keeps the preset's")
    list_length: int = Field(default=50, ge=1, description="K: items in a recommendation")
    watched_items: str = Field(
        default="", description="items whose hit ratio is measured, as in '1485 1320'"
    )
    reply_timeout: float = Field(
        default=300.0, gt=0, description="seconds without any reply, after which the run fails"
    )

    @classmethod
    def of(cls, run_config: dict[str, Any]) -> Self:
        """Raises InputError naming the first key that is unknown, missing or out of range."""
        try:
            config = cls(**run_config)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(map(str, first["loc"]))
            if first["type"] == "extra_forbidden":
                keys = [field.alias or name for name, field in cls.model_fields.items()]
                raise unknown("key", key, keys, where="run config") from error
            raise InputError(f"run config: {key}: {first['msg']}") from error
        if not config.deployment or not config.result:
            raise InputError(
                "run config: give deployment and result; "
                "`vicinal simulate --prepare-only` writes a run config with both"
            )
        return config

    def settings(self, model: str) -> VicinalSettings:
        """For one model, whose presets these are. Raises InputError."""
        return preset_named(
            self.preset,
            model=model,
            neighbors=None if self.neighbors < 0 else self.neighbors,
            steps=None if self.steps < 0 else self.steps,
            unrated_weight=None if self.unrated_weight < 0 else self.unrated_weight,
            min_support=None if self.min_support < 0 else self.min_support,
            neighbors_by=space_named(self.neighbors_by) if self.neighbors_by else None,
            assumed_fakes=None if self.assumed_fakes < 0 else self.assumed_fakes,
        )

    def watched(self, item_count: int) -> tuple[int, ...]:
        """Raises InputError for anything but indices of items."""
        try:
            items = tuple(int(word) for word in self.watched_items.replace(",", " ").split())
        except ValueError as error:
            raise InputError("run config: watched-items: give indices, as in '3 17'") from error
        if any(not 0 <= item < item_count for item in items):
            raise InputError(f"run config: watched-items: items lie in 0–{item_count - 1}")
        return items


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Raises VicinalError; Flower then marks the run as failed and its log has the reason."""
    limit_threads()
    config = RunConfig.of(dict(context.run_config))
    # Whatever happens, an earlier run's result is not taken for this one's.
    Path(config.result).unlink(missing_ok=True)
    try:
        result = measured(grid, config)
    except VicinalError as error:
        write_result(config, {"failed": str(error)})
        raise
    write_result(config, result)


def measured(grid: Grid, config: RunConfig) -> dict[str, Any]:
    """What the fleet reports, for JSON. Raises VicinalError."""
    recommender = read_deployment(Path(config.deployment))
    # The run config names no margin, which few users lower; k it names, and is refused.
    asked = config.settings(recommender.version.manifest.model)
    job = FleetJob(
        preset=config.preset,
        settings=dataclasses.replace(asked, margin=capped(asked, recommender.user_count).margin),
        list_length=config.list_length,
        watched=config.watched(recommender.ratings.item_count),
        clients=config.clients,
        reply_timeout=config.reply_timeout,
        source_digest=CLIENT_SOURCE_DIGEST,
        secret=deployed_secret(Path(config.deployment)),
    )
    start = time.perf_counter()
    counts = serve_fleet(grid, recommender, job, report=_report)
    return {
        "version": recommender.version.digest,
        "source_digest": job.source_digest,
        "preset": job.preset,
        "settings": dataclasses.asdict(job.settings),
        "clients": job.clients,
        "users": recommender.user_count,
        "list_length": job.list_length,
        "watched": list(job.watched),
        **measures(counts),
        "seconds": time.perf_counter() - start,
    }


def write_result(config: RunConfig, result: dict[str, Any]) -> None:
    """Raises OSError."""
    marked = {"run": config.run, **result}
    write_file(Path(config.result), (json.dumps(marked, indent=2) + "\n").encode())


def measures(counts: Counts) -> dict[str, Any]:
    """Counts, and hit ratio and accuracy from them, for JSON."""
    return {
        "counts": dataclasses.asdict(counts),
        "hit_ratio": counts.hit_ratio,
        "hit_ratio_per_target": list(counts.hit_ratio_per_item),
        "accuracy": counts.accuracy,
        "accuracy_thresholded": counts.accuracy_thresholded,
    }


def _report(what: str, done: int, total: int) -> None:
    # Flower mirrors what a server app writes to stdout into the run's log.
    sys.stdout.write(f"{PROGRESS_MARK} {what} {done}/{total}\n")
    sys.stdout.flush()
