"""The numbers of a picture: outcomes of defenses under attacks, averaged over seeds.

They come from a grid's results or from the page that a grid prints, so that a page and its pictures
show the same numbers.
"""

import math
import re
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal, TypeVar

from common.errors import InputError
from common.vicinal.settings import Space
from sims.attacks import ATTACKS
from sims.grid.results import CellResult

Metric = Literal["hit_ratio", "accuracy"]
Wanted = TypeVar("Wanted", str, int)
METRICS: Final[tuple[Metric, ...]] = ("hit_ratio", "accuracy")
# Rows that no defense has a part in, as a grid's page calls them, and the condition of each.
REFERENCES: Final = {"not attacked": "clean", "popularity ranking": "popularity"}
UNDEFENDED: Final = "none"
MAX_PAGE_BYTES: Final = 4 << 20

_HEADING: Final = re.compile(r"### (.+): (Hit ratio of target items|Accuracy) \(.*, K = (\d+)")
_NUMBER: Final = re.compile(r"(\d+\.\d+)(?: ± (\d+\.\d+))?")
_RUN: Final = re.compile(r"cells, (all users|a sample of \d+ users), seeds ([\d, ]+),")


@dataclass(frozen=True)
class Spread:
    """A mean over seeds and their standard deviation, NaN of a single seed."""

    mean: float
    deviation: float = math.nan

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        deviation = statistics.stdev(values) if len(values) > 1 else math.nan
        return cls(statistics.fmean(values), deviation)

    @property
    def bar(self) -> float:
        """Half of an error bar's length; 0 where there is none."""
        return 0.0 if math.isnan(self.deviation) else self.deviation


@dataclass(frozen=True)
class Outcomes:
    """Of one data set and model.

    users    who was asked, in words: `943 users`
    seeds    that means are over
    values   by metric, row (`none`, `rvd (paper, k = 12, α = 0)`, `not attacked`) and attack
    missing  a line for each thing that was left out, and why
    """

    dataset: str
    model: str
    list_length: int
    users: str
    seeds: tuple[int, ...]
    values: dict[tuple[Metric, str, str], Spread]
    missing: tuple[str, ...] = ()

    @property
    def attacks(self) -> list[str]:
        return list(dict.fromkeys(attack for _, _, attack in self.values))

    @property
    def rows(self) -> list[str]:
        """References first, then the undefended model, then defenses."""
        found = dict.fromkeys(row for _, row, _ in self.values)
        return sorted(found, key=lambda row: (row not in REFERENCES, row != UNDEFENDED))

    @property
    def title(self) -> str:
        return f"{self.dataset} · {self.model}"

    @property
    def caption(self) -> str:
        """n, K, seeds, what error bars are, what is missing."""
        seeds = ", ".join(map(str, self.seeds))
        over = f"seed {seeds}"
        if len(self.seeds) > 1:
            over = f"mean over {len(self.seeds)} seeds ({seeds}), ± their standard deviation"
        lines = [f"n = {self.users}; K = {self.list_length}; {over}.", *self.missing]
        return "\n".join(lines)

    def of_attack(self, attack: str | None) -> "Outcomes":
        """One attack's alone; None wants the only one. Raises InputError."""
        chosen = choose_attack(attack, self.attacks)
        values = {key: spread for key, spread in self.values.items() if key[2] == chosen}
        return replace(self, values=values)

    def of_defenses(self, wanted: Sequence[str]) -> "Outcomes":
        """These defenses, beside undefended and references; the caption names the others.

        Raises InputError for a defense that there is not.
        """
        names = {row: row.partition(" (")[0] for row in self.rows if row not in REFERENCES}
        for name in wanted:
            choose("defense", name, names.values())
        kept = {row for row in self.rows if names.get(row, UNDEFENDED) in (*wanted, UNDEFENDED)}
        others = sorted({name for row, name in names.items() if row not in kept})
        missing = (f"Left out, as asked: {', '.join(others)}.",) if others else ()
        return replace(
            self,
            values={key: spread for key, spread in self.values.items() if key[1] in kept},
            missing=(*self.missing, *missing),
        )


def choose(name: str, wanted: Wanted | None, there: Iterable[Wanted]) -> Wanted:
    """The wanted one, or the only one. Raises InputError that names those that there are."""
    found = sorted(set(there), key=str)
    shown = " | ".join(f"'{one}'" if " " in str(one) else str(one) for one in found)
    if wanted is None and len(found) > 1:
        raise InputError(f"the results hold several: choose one with --{name} {shown}")
    if not found or (wanted is not None and wanted not in found):
        raise InputError(f"no results with {name} {wanted}: there are {shown or 'none'}")
    return found[0] if wanted is None else wanted


def choose_attack(wanted: str | None, there: Iterable[str]) -> str:
    """By label, or by name where it ran with one set of options. Raises InputError."""
    found = list(there)
    named = [label for label in found if label.partition(" (")[0] == wanted]
    return choose("attack", None if named else wanted, named or found)


def single(cells: Sequence[CellResult], *names: str) -> None:
    """Means are of like with like. Raises InputError for cells of several values of a setting."""
    for name in names:
        values = sorted({str(getattr(one, name)) for one in cells})
        if len(values) > 1:
            raise InputError(
                f"the results mix several values of {name} ({', '.join(values)}): draw those of "
                "one configuration's folder"
            )


def settings_label(result: CellResult) -> str:
    """A defense with its preset, k, α and m: what a picture's row or line is called."""
    k, alpha, support = result.k, result.unrated_weight, result.min_support or 1
    return defense_label(
        result.defense, result.preset, k, alpha, support, result.neighbors_by, result.assumed_fakes
    )


def defense_label(
    defense: str,
    preset: str,
    k: int,
    alpha: float,
    min_support: int,
    neighbors_by: Space = "embedding",
    assumed_fakes: float = 0.0,
) -> str:
    """The same from its parts; without a preset the defense alone.

    >>> defense_label("rvd", "vicinal", 300, 0.4, 24), defense_label("rmf", "", 1, 0, 1)
    ('rvd (vicinal, k = 300, α = 0.4, m = 24)', 'rmf')
    """
    if not preset:
        return defense
    support = f", m = {min_support}" if min_support > 1 else ""
    assumed = f", φ = {100 * assumed_fakes:g} %" if assumed_fakes else ""
    near = f", by {neighbors_by}" if neighbors_by != "embedding" else ""
    return f"{defense} ({preset}, k = {k}{near}, α = {alpha:g}{support}{assumed})"


def users_of(cells: Sequence[CellResult]) -> str:
    """`943 users`, or from … to … where samples differ."""
    counts = sorted({one.users for one in cells})
    least, most = f"{counts[0]:,}", f"{counts[-1]:,}"
    return f"{most} users" if least == most else f"{least}–{most} users"


def measured_cells(
    results: Sequence[CellResult], *, dataset: str | None, model: str | None
) -> list[CellResult]:
    """Of one data set and model; None wants the only one. Raises InputError."""
    done = [one for one in results if not one.error]
    if not done:
        raise InputError("no measured cell among the results")
    dataset = choose("dataset", dataset, (one.dataset for one in done))
    done = [one for one in done if one.dataset == dataset]
    model = choose("model", model, (one.model for one in done))
    return [one for one in done if one.model == model]


def outcomes_of(
    results: Sequence[CellResult], *, dataset: str | None, model: str | None
) -> Outcomes:
    """Of a grid's measured cells, every defense among them. Raises InputError."""
    done = measured_cells(results, dataset=dataset, model=model)
    dataset, model = done[0].dataset, done[0].model
    single(done, "list_length", "attack_size")
    values: dict[tuple[Metric, str, str], Spread] = {}
    names = list(ATTACKS)
    order = {
        one.attack_label: (names.index(one.attack) if one.attack in names else -1, one.attack_label)
        for one in done
    }
    for attack in sorted(order, key=order.__getitem__):
        here = [one for one in done if one.attack_label == attack]
        for metric in METRICS:
            rows = {row: (here, condition) for row, condition in REFERENCES.items()}
            rows[UNDEFENDED] = here, "undefended"
            for label in dict.fromkeys(settings_label(one) for one in here):
                if label != UNDEFENDED:
                    rows[label] = [one for one in here if settings_label(one) == label], "defended"
            for row, (cells, condition) in rows.items():
                by_seed = {one.seed: getattr(one, metric)[condition] for one in cells}
                values[metric, row, attack] = Spread.of(list(by_seed.values()))
    return Outcomes(
        dataset,
        model,
        done[0].list_length,
        users_of(done),
        tuple(sorted({one.seed for one in done})),
        values,
        _left_out(results, done),
    )


def _left_out(results: Sequence[CellResult], done: Sequence[CellResult]) -> tuple[str, ...]:
    """Failed cells of the same data set and model, counted."""
    first = done[0]
    failed = [
        one
        for one in results
        if one.error and (one.dataset, one.model) == (first.dataset, first.model)
    ]
    if not failed:
        return ()
    counts = Counter(one.attack_label for one in failed)
    named = ", ".join(f"{count} under {attack}" for attack, count in sorted(counts.items()))
    return (f"Left out, since they failed: {named}.",)


def read_page(path: Path, *, dataset: str | None, model: str | None) -> Outcomes:
    """Of a page that `vicinal grid` printed. Raises InputError for a file that is none."""
    with path.open("rb") as opened:
        data = opened.read(MAX_PAGE_BYTES + 1)
    if len(data) > MAX_PAGE_BYTES:
        raise InputError(f"{path}: too large for a page of a grid")
    text = data.decode(errors="replace")
    run = _RUN.search(text)
    tables = _tables(text)
    if run is None or not tables:
        raise InputError(f"{path}: not a page of `vicinal grid`, as its tables.md is")
    dataset = choose("dataset", dataset, (table.dataset for table in tables))
    mine = [table for table in tables if table.dataset == dataset]
    named = (name.partition(", ")[0] for table in mine for name in table.rows)
    model = choose("model", model, named)
    values: dict[tuple[Metric, str, str], Spread] = {}
    for table in mine:
        for name, entries in table.rows.items():
            of, _, row = name.partition(", ")
            for attack, entry in zip(table.attacks, entries, strict=True):
                number = _NUMBER.search(entry)
                if of == model and number is not None:
                    deviation = float(number[2]) if number[2] else math.nan
                    values[table.metric, row, attack] = Spread(float(number[1]), deviation)
    seeds = tuple(int(word) for word in run[2].split(","))
    return Outcomes(dataset, model, mine[0].list_length, run[1], seeds, values)


@dataclass(frozen=True)
class _Table:
    """As it stands on a page: rows by name, entries as text."""

    dataset: str
    metric: Metric
    list_length: int
    attacks: list[str]
    rows: dict[str, list[str]]


def _tables(text: str) -> list[_Table]:
    found: list[_Table] = []
    for line in text.splitlines():
        if heading := _HEADING.match(line):
            metric: Metric = "accuracy" if heading[2] == "Accuracy" else "hit_ratio"
            found.append(_Table(heading[1], metric, int(heading[3]), [], {}))
        elif line.startswith("#"):
            # Another section, whose tables are others.
            found.append(_Table("", "accuracy", 0, [""], {}))
        elif found and line.startswith("|") and not line.startswith("|---"):
            name, *entries = (part.strip(" *") for part in line.strip("|").split("|"))
            if not found[-1].attacks:
                found[-1].attacks.extend(entries)
            elif found[-1].dataset and len(entries) == len(found[-1].attacks):
                found[-1].rows[name] = entries
    return [table for table in found if table.dataset and table.rows]
