"""What the latency laboratory has measured: one JSON file a scenario, written whole.

FOLDER/lock               held by the process that measures
FOLDER/cells/DIGEST.json  one scenario: what was asked, and what came out
"""

import json
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from common.errors import InputError
from common.files import write_output
from sims.grid.results import CELLS
from sims.latency.plan import Kind, Scenario, Setting, SideName

FORMAT: Final = 1
MAX_BYTES: Final = 64 << 20

Count = Annotated[int, Field(ge=0)]
Amount = Annotated[float, Field(ge=0)]


class CallResult(BaseModel):
    """One kind of call to the server, by a generator of load and by devices.

    milliseconds       of answered calls, one by one
    answered           calls; refused: because the server was full; other: ended in another way
    elapsed            seconds in which they came
    processor_seconds  of all the server's processes meanwhile
    sent, received     bytes of a request, of its answer (mean)
    late_p99           milliseconds by which the generator itself was late
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    milliseconds: list[Amount] = []
    answered: Count = 0
    refused: Count = 0
    other: Count = 0
    elapsed: Amount = 0.0
    processor_seconds: Amount = 0.0
    sent: Amount = 0.0
    received: Amount = 0.0
    late_p99: Amount = 0.0


class ScenarioResult(BaseModel):
    """What was measured in one scenario.

    cores, workers   of the server; apart: whether it had these cores to itself
    users            whom the server knows
    asked            the load: by call in a scenario of capacity (Recommend, GetPackage, and
                     `calm …` without any other request), else the scenario's side alone
    milliseconds     of the answers that count: through the network, in order
    computed         milliseconds of them on the device; processor: processor time there
    failed, late     of the device's questions: without answer; begun late (sims.latency.device)
    model_bytes      received for the model version, of a cold device (mean)
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = FORMAT
    dataset: str
    model: str
    preset: str
    k: int | None
    kind: Kind
    side: SideName
    network: str
    share: float
    load: float
    rate: float
    cores: Annotated[int, Field(ge=1)]
    workers: Annotated[int, Field(ge=1)]
    apart: bool
    users: Annotated[int, Field(ge=1)]
    asked: dict[str, CallResult] = {}
    milliseconds: list[Amount] = []
    computed: list[Amount] = []
    processor: list[Amount] = []
    failed: Count = 0
    late: Count = 0
    model_bytes: Amount = 0.0

    @classmethod
    def of(cls, scenario: Scenario, **found: Any) -> Self:
        """What was found in a scenario, by the names of the fields above."""
        setting = scenario.setting
        return cls(
            dataset=setting.dataset,
            model=setting.model,
            preset=setting.preset,
            k=setting.k,
            kind=scenario.kind,
            side=scenario.side,
            network=scenario.network,
            share=scenario.share,
            load=scenario.load,
            rate=scenario.rate,
            **found,
        )

    @property
    def setting(self) -> Setting:
        return Setting(self.dataset, self.model, self.preset, self.k)

    @property
    def seconds(self) -> NDArray[np.float64]:
        """Of the answers that count, [n]."""
        return np.array(self.milliseconds) / 1000

    @property
    def load_asked(self) -> CallResult:
        """The one kind of call of a scenario of load."""
        (asked,) = self.asked.values()
        return asked


def scenario_path(folder: Path, scenario: Scenario) -> Path:
    """Where a scenario's result is or will be."""
    return folder / CELLS / f"{scenario.digest}.json"


def write_scenario(folder: Path, scenario: Scenario, measured: ScenarioResult) -> None:
    """Raises OSError."""
    write_output(scenario_path(folder, scenario), f"{measured.model_dump_json()}\n".encode())


def read_scenario(folder: Path, scenario: Scenario) -> ScenarioResult | None:
    """None where it has not been measured. Raises InputError for a file that is damaged."""
    path = scenario_path(folder, scenario)
    if not path.exists():
        return None
    try:
        with path.open("rb") as opened:
            data = opened.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise ValueError("too large")
        return ScenarioResult.model_validate(json.loads(data))
    except (ValidationError, ValueError, RecursionError):
        raise InputError(f"{path}: damaged; delete it to measure it again") from None
