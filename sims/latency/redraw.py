"""Pictures of cost and fleets from the tables of a page, where what was measured is gone.

`python -m sims.latency.redraw docs/latency.md`

Fleets follow from the table of costs alone: cores by processor time, bytes by their sum. The other
pictures need every answer: `vicinal latency` draws them.
"""

import re
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from common.errors import InputError
from sims.figures.style import save
from sims.latency.extrapolate import FLEETS, UTILIZATION
from sims.latency.figures import cost_figure, described, fleets_figure
from sims.latency.fit import SIDES, Cost
from sims.latency.model import cores_for
from sims.latency.plan import LIST_LENGTHS, SHAPES, SideName

MAX_BYTES: Final = 1 << 20
_CORES: Final = re.compile(r"On (\d+) core\(s\) of server")
_INTERVAL: Final = re.compile(r"asks once in ([\d.]+) s")
_PICTURE: Final = re.compile(r"!\[[^]]*\]\(([^)]+)-(cost|fleets)\.svg\)")


def redraw(page: Path) -> list[Path]:
    """The pictures that the page links, drawn anew from the tables beside them.

    Raises InputError for a page without such tables, and OSError.
    """
    with page.open("rb") as opened:
        text = opened.read(MAX_BYTES).decode(errors="replace")
    files = []
    for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        label = section.partition("\n")[0].strip()
        costs = costs_in(section)
        cores, interval = _CORES.search(section), _INTERVAL.search(section)
        for stem, name in _PICTURE.findall(section):
            if costs is None or cores is None or interval is None:
                raise InputError(f"{page}: no tables of `vicinal latency` under {label!r}")
            dataset = label.partition(" · ")[0]
            shape = re.match(r"synthetic:(\d+)x", SHAPES.get(dataset, dataset))
            if shape is None:
                raise InputError(f"{page}: {dataset!r} does not say how many users it has")
            of = described(int(cores[1]), int(shape[1]), LIST_LENGTHS.get(dataset, 50))
            path = page.parent / f"{stem}-{name}.svg"
            if name == "cost":
                save(cost_figure(label, costs, of), path)
            else:
                seconds = float(interval[1])
                rows = {side: fleets_of(one, seconds) for side, one in costs.items()}
                save(fleets_figure(label, rows, costs, seconds, of), path)
            files.append(path)
    if not files:
        raise InputError(f"{page}: links no picture of cost or fleets")
    return files


def costs_in(section: str) -> dict[SideName, Cost] | None:
    """The table of costs of a setting's section."""
    table = section.partition(": cost of an answer**")[2]
    found: dict[SideName, Cost] = {}
    for side in SIDES:
        row = re.search(rf"^\| {side} \|(.+)\|$", table, flags=re.MULTILINE)
        if row is None:
            return None
        numbers = [float(cell.strip().replace(",", "")) for cell in row[1].split("|")]
        spent, reached, allowed, sent, received = numbers
        found[side] = Cost(spent / 1000, reached, allowed, sent, received)
    return found


def fleets_of(cost: Cost, interval: float) -> list[tuple[int, float]]:
    """Cores and bytes a second of each size of fleet."""
    return [
        (
            cores_for(devices / interval, cost.spent, utilization=UTILIZATION),
            devices / interval * (cost.sent + cost.received),
        )
        for devices in FLEETS
    ]


def main(
    page: Annotated[Path, typer.Argument(help="A page that `vicinal latency` wrote.")],
) -> None:
    """Draw a page's pictures of cost and fleets from its tables."""
    for path in redraw(page):
        Console().print(str(path), markup=False, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    typer.run(main)
