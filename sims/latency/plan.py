"""What the latency laboratory measures: settings of servers, and scenarios for each."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final, Literal

from common.errors import InputError
from common.models import MODELS, architecture, model_named
from common.names import unknown
from common.vicinal.book import check_book
from common.vicinal.settings import VicinalSettings, preset
from server.data.reading_options import ReadingOptions
from sims.latency.conditions import LOOPBACK, check_share
from sims.load.network import network_named

Kind = Literal["capacity", "load", "cold", "book"]
SideName = Literal["server", "device"]

# Synthetic ratings of the data sets' sizes, as the paper used them.
SHAPES: Final = {
    "ml-100k": "synthetic:943x1682x100000",
    "ml-1m": "synthetic:6040x3706x1000209",
    "yelp": "synthetic:14575x25602x555374",
}
LIST_LENGTHS: Final = {"yelp": 500}
SYNTHETIC: Final = "synthetic"
AS_IT_IS: Final = ReadingOptions()


@dataclass(frozen=True)
class Setting:
    """What one server serves: a data set's shape, or another data set; model; preset; k.

    reading  of a file; all settings of a plan are read alike
    """

    dataset: str
    model: str
    preset: str
    k: int | None = None
    reading: ReadingOptions = field(default=AS_IT_IS, compare=False, repr=False)

    @property
    def vicinal(self) -> VicinalSettings:
        """Raises InputError for a model, a preset or a k that is none."""
        return preset(self.preset, model=self.model, neighbors=self.k)

    @property
    def list_length(self) -> int:
        """K of the lists that are asked for."""
        return LIST_LENGTHS.get(self.dataset, 50)

    @property
    def label(self) -> str:
        return f"{self.dataset} · {self.model} · {self.preset}, k = {self.vicinal.neighbors}"


@dataclass(frozen=True)
class Scenario:
    """What is measured at once: one side, network, share of a core and load.

    kind     capacity: how many answers a second at most, both sides, and answers in an empty
             server; load: one side among other requests; cold: devices without the model; book:
             devices that answer from a book, and ask nothing
    network  between server and device; `share` of a core that the device has
    load     requests a second, as a share of what the server can answer with server-side answers
    rate     the same, requests a second; one of the two is 0
    """

    setting: Setting
    kind: Kind
    side: SideName = "server"
    network: str = LOOPBACK
    share: float = 1.0
    load: float = 0.0
    rate: float = 0.0

    @property
    def digest(self) -> str:
        """Names the file of its result; `Cell` in it, so that results from before are found."""
        values = ", ".join(f"{one.name}={getattr(self, one.name)!r}" for one in fields(self))
        text = f"Cell({values}){_read(self.setting.reading)}"
        return hashlib.sha256(text.encode()).hexdigest()[:32]


@dataclass(frozen=True)
class Block:
    """Scenarios with every combination of these."""

    datasets: tuple[str, ...] = ("ml-1m",)
    models: tuple[str, ...] = ("mf",)
    presets: tuple[str, ...] = ("paper",)
    ks: tuple[int | None, ...] = (None,)
    loads: tuple[float, ...] = (0.5,)
    rates: tuple[float, ...] = ()
    networks: tuple[str, ...] = (LOOPBACK,)
    shares: tuple[float, ...] = (1.0,)
    cold: bool = False
    reading: ReadingOptions = field(default=AS_IT_IS, repr=False)

    def __post_init__(self) -> None:
        for one in fields(self):
            values = getattr(self, one.name)
            if isinstance(values, tuple) and len(set(values)) < len(values):
                raise InputError(f"{one.name} {', '.join(map(str, values))}: name each once")
        for model in self.models:
            if model not in MODELS:
                raise unknown("model", model, MODELS)
        for rate in (*self.rates, *self.loads):
            if not 0 < rate < float("inf"):
                raise InputError(f"rate {rate:g}: ask for a number of requests a second above 0")
        for share in self.shares:
            check_share(share)
        for name in self.networks:
            network_named(name)
        for name in self.datasets if self.reading else ():
            if SHAPES.get(name, name).startswith(SYNTHETIC):
                said = " and ".join(each.replace("_", " ") for each in self.reading.told())
                raise InputError(f"data set {name}: is made and not read: leave out {said}")
        for setting in self.settings():
            _ = setting.vicinal

    def settings(self) -> list[Setting]:
        return [
            Setting(dataset, model, name, k, self.reading)
            for dataset in self.datasets
            for model in self.models
            for name in self.presets
            for k in self.ks
        ]

    def scenarios(self, setting: Setting) -> list[Scenario]:
        scenarios = [Scenario(setting, "capacity")]
        offered = (
            [{"rate": rate} for rate in self.rates]
            if self.rates
            else [{"load": load} for load in self.loads]
        )
        for much in offered:
            for network in self.networks:
                scenarios.append(Scenario(setting, "load", "server", network, **much))
                scenarios += [
                    Scenario(setting, "load", "device", network, share, **much)
                    for share in self.shares
                ]
        if self.cold:
            scenarios += [
                Scenario(setting, "cold", "device", network, max(self.shares))
                for network in self.networks
            ]
        return scenarios

    def books(self, setting: Setting) -> list[Scenario]:
        """Devices with every share of a core; a network they do not need."""
        return [Scenario(setting, "book", "device", share=share) for share in self.shares]


@dataclass(frozen=True)
class Plan:
    """Blocks, and how long a scenario takes.

    seconds  of a scenario; one of a slow device takes longer, until it has `least` answers
    longest  seconds that such a scenario takes at most
    colds    answers of cold devices
    book     whether answers from a book are timed beside; results of rows stay where they are
    """

    name: str
    blocks: tuple[Block, ...]
    seconds: float
    least: int
    longest: float
    colds: int
    book: bool = field(default=False, repr=False)

    def __post_init__(self) -> None:
        for setting in (one for block in self.blocks for one in block.settings() if self.book):
            check_book(model_named(architecture(setting.model)), setting.vicinal)

    def servers(self) -> dict[Setting, list[Scenario]]:
        """Every scenario once, by the server that it needs."""
        found: dict[Setting, dict[Scenario, None]] = {}
        for block in self.blocks:
            for setting in block.settings():
                scenarios = block.scenarios(setting)
                if self.book:
                    scenarios += block.books(setting)
                found.setdefault(setting, {}).update(dict.fromkeys(scenarios))
        return {setting: list(scenarios) for setting, scenarios in found.items()}

    @property
    def digest(self) -> str:
        """Names the folder of results."""
        text = repr(self) + "".join(_read(block.reading) for block in self.blocks)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def _read(reading: ReadingOptions) -> str:
    """Of a digest; nothing where nothing is said, so that results from before are found."""
    return reading.to_json() if reading else ""


QUICK: Final = Plan(
    "quick",
    (
        Block(
            ("ml-100k",),
            ("mf", "autorec"),
            loads=(0.3, 0.7),
            networks=(LOOPBACK, "4g"),
            shares=(1.0, 0.25),
            cold=True,
        ),
    ),
    seconds=1.5,
    least=8,
    longest=4.0,
    colds=2,
)
ALL_NETWORKS: Final = (LOOPBACK, "wifi", "4g", "3g")
ALL_MODELS: Final = ("mf", "nsvd", "autorec", "cdae")
FULL: Final = Plan(
    "full",
    (
        # The break-even line of every model.
        Block(
            models=ALL_MODELS,
            loads=(0.2, 0.5, 0.8),
            networks=ALL_NETWORKS,
            shares=(1.0, 0.25, 0.1),
            cold=True,
        ),
        # More requests than can be answered.
        Block(models=ALL_MODELS, loads=(1.5,)),
        # Other sizes, and the preset with more neighbors.
        Block(("ml-100k",), ALL_MODELS, loads=(0.2, 0.5, 0.8), networks=(LOOPBACK, "4g")),
        Block(("yelp",), ("mf", "nsvd"), ks=(100,), networks=(LOOPBACK, "4g"), cold=True),
        Block(models=ALL_MODELS, presets=("vicinal",), networks=(LOOPBACK, "4g")),
        Block(ks=(25, 50, 100), networks=(LOOPBACK, "4g")),
    ),
    seconds=8.0,
    least=60,
    longest=40.0,
    colds=5,
)
PLANS: Final = {plan.name: plan for plan in (QUICK, FULL)}


def plan_named(
    name: str,
    *,
    book: bool = False,
    reading: ReadingOptions = AS_IT_IS,
    **axes: Sequence[Any] | None,
) -> Plan:
    """A preset; with axes (of Block), one block of these and the preset's first for the others.

    book     time answers from a book, too; the defense's settings are then vicinal, unless they
             are among the axes
    reading  of the files among the data sets

    Raises InputError, also for reading options where there is no file.
    """
    if book:
        axes = {**axes, "presets": axes.get("presets") or ("vicinal",)}
    if name not in PLANS:
        raise unknown("preset", name, PLANS)
    plan = PLANS[name]
    given = {axis: tuple(values) for axis, values in axes.items() if values}
    if not given and not reading:
        return plan
    first = {one.name: getattr(plan.blocks[0], one.name) for one in fields(Block)}
    block = Block(**{**first, **given, "reading": reading})
    return Plan("chosen", (block,), plan.seconds, plan.least, plan.longest, plan.colds, book)


def timed(plan: Plan, *, seconds: float | None, interval: float) -> Plan:
    """With other seconds a scenario, if given. Raises InputError for times that are none."""
    for what, value in (("--seconds", seconds), ("--interval", interval)):
        if value is not None and not 0 < value < float("inf"):
            raise InputError(f"{what} {value:g}: give a number of seconds above 0")
    return plan if seconds is None else replace(plan, seconds=seconds)
