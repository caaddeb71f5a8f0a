"""What rounds of a fleet came to: a line for each round and condition, with intervals.

    history.json     what was asked, and all rounds
    history.parquet  the same rounds, a row for each round and condition

An interval is of other clients like these: clients are drawn again with all of their users
(sims.evaluation.intervals), as users of one client come and go together.
"""

import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from rich.table import Table

from common.errors import InputError
from common.files import read_file, write_output
from common.ranking import Counts
from common.vicinal.book import Release
from server.fleet.plan import CONDITIONS, Condition
from sims.evaluation.experiment import Experiment, Prepared
from sims.evaluation.intervals import interval, resampled
from sims.evaluation.metrics import Ratio
from sims.federated.model import FEDERATED, fleet_told
from sims.fleet.rounds import Rounds
from sims.fleet.scenario import Scenario
from sims.fleet.tallies import Tallies
from sims.functions import label
from sims.recorded import recorded

JSON_FILE: Final = "history.json"
PARQUET_FILE: Final = "history.parquet"
MAX_BYTES: Final = 64 << 20


class Point(BaseModel):
    """One round under one condition; descriptions are those of the columns."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    round: int = Field(ge=1, description="from 1")
    condition: Condition = Field(description="undefended or defended")
    hit_ratio: float = Field(ge=0, le=1, description="of the targets, also before the attack")
    hit_ratio_low: float | None = Field(
        ge=0, le=1, description="lower end of its 95 % interval, from resampled clients"
    )
    hit_ratio_high: float | None = Field(ge=0, le=1, description="upper end")
    accuracy: float = Field(ge=0, le=1, description="of users with a held-out item")
    accuracy_low: float | None = Field(ge=0, le=1, description="as above")
    accuracy_high: float | None = Field(ge=0, le=1, description="as above")
    accuracy_thresholded: float = Field(ge=0, le=1, description="of users who liked it")
    users: int = Field(ge=0, description="with a held-out item, who were answered")
    clients: int = Field(ge=1, description="that were asked")
    present: int = Field(ge=1, description="clients that were there")
    appeared: int = Field(ge=0, description="clients that came since the round before")
    left: int = Field(ge=0, description="clients that went")
    ratings: int = Field(ge=0, description="of real users, that the server had")
    arrived: int = Field(ge=0, description="of them, since the round before")
    fakes: int = Field(
        ge=0, description="fake users among those whom it trained on, or malicious clients beside"
    )
    warm: bool = Field(description="whether training went on from the version of the round before")
    version: str = Field(description="digest of the model version")


class History(BaseModel):
    """All rounds, and what was asked."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dataset: str = Field(description="as it was named")
    model: str = Field(description="what was trained")
    attack: str = Field(description="who poisons")
    attack_size: float = Field(ge=0, description="fakes as a share of real users")
    defense: str = Field(description="of the defended condition")
    preset: str = Field(description="settings of the vicinal defense, by name")
    k: int = Field(ge=1, description="neighbors, in every round")
    seed: int = Field(ge=0, description="of all that is drawn")
    list_length: int = Field(ge=1, description="K")
    targets: list[int] = Field(description="items whose hit ratio is measured")
    train: str = Field(description="central, or federated: clients that are there train together")
    federated: str = Field(description="settings of a federated training; empty without one")
    update_attack: str = Field(description="what malicious clients send; none: what others do")
    release: Release = Field(description="what defended devices are given: rows, or a book")
    clients: int = Field(ge=1, description="who share out the users")
    fraction: float = Field(gt=0, le=1, description="of the clients there that are asked")
    scenario: Scenario = Field(description="rounds and rates, as the run config names them")
    rounds: list[Point] = Field(description="undefended and defended, in turn")
    run: dict[str, Any] = Field(default={}, description="how it was made; or empty")

    def of(self, condition: Condition) -> list[Point]:
        """Its rounds under one condition."""
        return [point for point in self.rounds if point.condition == condition]


def history_of(
    prepared: Prepared,
    rounds: Rounds,
    tallies: Tallies,
    scenario: Scenario,
    *,
    defense: str,
    preset: str,
    fraction: float,
) -> History:
    """From each client's counts."""
    experiment = prepared.experiment
    return History(
        dataset=experiment.dataset,
        model=experiment.model,
        attack=label(experiment.attack),
        attack_size=experiment.attack_size,
        defense=defense,
        preset=preset,
        k=rounds.settings.neighbors,
        seed=experiment.seed,
        list_length=rounds.list_length,
        targets=list(rounds.watched),
        clients=rounds.plan.clients,
        **_trained(experiment),
        release=rounds.release,
        fraction=fraction,
        scenario=scenario,
        rounds=[*_points(rounds, tallies, experiment.seed)],
        run=recorded(),
    )


def _trained(experiment: Experiment) -> dict[str, str]:
    told = fleet_told(experiment.fleet)
    return {name: told[name] for name in ("train", "federated", "update_attack")}


def _points(rounds: Rounds, tallies: Tallies, seed: int) -> Iterator[Point]:
    for planned, told in zip(rounds.plan.rounds, rounds.scenes, strict=True):
        for condition in CONDITIONS:
            of_clients = tallies[planned.number, condition]
            counts = sum(of_clients.values(), Counts.none(len(rounds.watched)))
            ends = _intervals(of_clients, seed)
            yield Point(
                round=planned.number,
                condition=condition,
                hit_ratio=counts.hit_ratio,
                hit_ratio_low=ends["hit_ratio"][0],
                hit_ratio_high=ends["hit_ratio"][1],
                accuracy=counts.accuracy,
                accuracy_low=ends["accuracy"][0],
                accuracy_high=ends["accuracy"][1],
                accuracy_thresholded=counts.accuracy_thresholded,
                users=counts.users,
                clients=told.asked,
                present=told.present,
                appeared=told.appeared,
                left=told.left,
                ratings=told.ratings,
                arrived=told.arrived,
                fakes=told.fakes,
                warm=told.warm[condition],
                version=planned.versions[condition],
            )


def _intervals(
    of_clients: Mapping[int, Counts], seed: int
) -> dict[str, tuple[float | None, float | None]]:
    """Of hit ratio and accuracy; none where there are too few clients to draw from."""
    each = [of_clients[client] for client in sorted(of_clients)]
    if len(each) < 2:
        return dict.fromkeys(("hit_ratio", "accuracy"), (None, None))
    ratios = {
        "accuracy": Ratio(
            np.array([[one.user_hits] for one in each], dtype=np.float64),
            np.array([[one.users] for one in each], dtype=np.float64),
        )
    }
    if each[0].hits:
        ratios["hit_ratio"] = Ratio(
            np.array([one.hits for one in each], dtype=np.float64),
            np.array([one.eligible for one in each], dtype=np.float64),
        )
    drawn = resampled(ratios, seed=seed)
    ends = {name: interval(draws) or (None, None) for name, draws in drawn.items()}
    return {"hit_ratio": (None, None), **ends}


def write_history(folder: Path, history: History) -> None:
    """Write history.json and history.parquet. Raises OSError."""
    text = history.model_dump_json(indent=2, by_alias=True) + "\n"
    write_output(folder / JSON_FILE, text.encode())
    buffer = io.BytesIO()
    frame_of(history).write_parquet(buffer)
    write_output(folder / PARQUET_FILE, buffer.getvalue())


def frame_of(history: History) -> pl.DataFrame:
    """A row for each round and condition."""
    return pl.DataFrame([point.model_dump() for point in history.rounds], infer_schema_length=None)


def read_history(path: Path) -> History:
    """Of a folder or a file of JSON. Raises InputError."""
    file = path / JSON_FILE if path.is_dir() else path
    try:
        history = History.model_validate_json(read_file(file, most=MAX_BYTES))
    except (OSError, ValidationError) as error:
        raise InputError(
            f"{file}: no history of rounds; `vicinal simulate --rounds` writes one"
        ) from error
    numbers = [point.round for point in history.of("defended")]
    if not numbers or [point.round for point in history.of("undefended")] != numbers:
        raise InputError(f"{file}: its rounds are not those of both conditions")
    return history


def history_table(history: History) -> Table:
    """Rounds, one a line, at most 80 columns wide."""
    length = history.list_length
    learned = "federated " if history.train == FEDERATED else ""
    updates = "" if history.update_attack == "none" else f" + {history.update_attack}"
    table = Table(
        title=f"{history.dataset} · {learned}{history.model} · attack {history.attack}{updates} · "
        f"defense {history.defense} · seed {history.seed}",
        title_justify="left",
    )
    for heading in (
        *("round", "clients", "ratings", "fakes", f"HR@{length}", "defended"),
        *(f"acc@{length}", "defended"),
    ):
        table.add_column(heading, justify="right")
    for plain, defended in zip(history.of("undefended"), history.of("defended"), strict=True):
        table.add_row(
            f"{plain.round}",
            f"{plain.clients}/{plain.present}",
            f"{plain.ratings}",
            f"{plain.fakes}",
            f"{plain.hit_ratio:.3f}",
            f"{defended.hit_ratio:.3f}",
            f"{plain.accuracy:.3f}",
            f"{defended.accuracy:.3f}",
        )
    return table
