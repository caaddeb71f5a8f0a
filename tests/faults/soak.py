"""Everything of this folder for longer; prints docs/reliability.md: `make soak MINUTES=60`.

    python soak.py --minutes 60 > docs/reliability.md

MINUTES is the time of the faults under load; the other parts take about ten minutes more. The
exit code is 1 when anything that has to hold did not.
"""

import os
import platform
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Final

import typer

from common.threads import limit_threads
from tests.faults.support import figures
from tests.faults.support.bad_network import LEAST_SHARE
from tests.faults.support.schedule import FAULTS, Field, Plan
from tests.faults.support.stalled import STREAMS, Stalled, stall
from tests.support.modules import ENVIRONMENT, ROOT, command

PAGE: Final = Path(__file__).with_name("reliability.md")
# The kill of a device is what is most often in the middle of something.
WEIGHTS: Final = {"device killed, started again": 4}


def progress(text: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")
    sys.stderr.flush()


def faults_for(seconds: float, seed: int) -> Iterator[str]:
    rng = random.Random(seed)
    names = list(FAULTS)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        [name] = rng.choices(names, [WEIGHTS.get(name, 1) for name in names])
        progress(name)
        yield name


def under_load(minutes: float, seed: int) -> tuple[str, bool]:
    with TemporaryDirectory() as folder, Field(Path(folder), Plan(seed=seed)) as field:
        field.run(faults_for(60 * minutes, seed))
        progress("comparing")
        found = field.finish()
        rotations, every = field.rotations, field.plan.rotation
    hostile = field.hostile
    lines = ["| fault | times |", "|---|---:|"]
    lines += [f"| {name} | {count} |" for name, count in sorted(field.done.items())]
    lines += [
        f"| new version served (a training begins {every} s after the last) | {rotations} |",
        "",
    ]
    lines += [
        *figures.markdown(found),
        f"| calls under way at a drain | {field.drained} |",
        f"| **of them dropped** | {field.dropped} |",
        f"| reports that lied | {field.lies:,} |",
        f"| **of them counted** | {len(field.believed)} |",
        f"| most memory of the process that listens, MiB | {field.resident_mib:.0f} |",
        f"| seconds without a server, of all starts | {field.seconds_away:.0f} |",
        f"| most memory of devices that a hostile server answers, MiB | {hostile.most_mib:.0f} |",
        f"| **of these devices, not ended in one line and in bounds** | {len(hostile.bad)} |",
    ]
    for name, told in hostile.bad:
        progress(f"{name}: {told}")
    broken = field.dropped or field.believed or hostile.bad
    return "\n".join(lines), figures.good(found, LEAST_SHARE) and not broken


def stalled() -> tuple[str, bool]:
    progress("stalled streams")
    with TemporaryDirectory() as folder:
        found: Stalled = stall(Path(folder), "synthetic:200x32000", call_seconds=3.0)
    heads = "front's memory, MiB: before | while stalled | answers to others | all cut after, s"
    cells = (
        f"{found.before:.0f} | {found.while_stalled:.0f} | {found.answered} | {found.cut_after:.0f}"
    )
    text = f"| streams | {heads} |\n|---:|---:|---:|---:|---:|\n| {STREAMS} | {cells} |"
    return text, found.good


def printed(name: str, *arguments: str) -> tuple[str, bool]:
    """Another command of this folder, in its own process: its table, and whether all is well."""
    progress(name)
    done = subprocess.run(
        command(f"tests.faults.support.{name}", *arguments),
        cwd=ROOT,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    return done.stdout.rstrip(), done.returncode == 0


app = typer.Typer(pretty_exceptions_enable=False)


@app.command()
def main(
    minutes: Annotated[float, typer.Option("--minutes", min=0.1, help="of faults under load")] = 10,
    seed: Annotated[int, typer.Option("--seed", help="of what happens when")] = 0,
    inputs: Annotated[int, typer.Option("--inputs", help="for all decoders")] = 1_000_000,
    devices: Annotated[int, typer.Option("--devices", help="that come at once")] = 1000,
    requests: Annotated[int, typer.Option("--requests", help="through the bad network")] = 400,
) -> None:
    limit_threads()
    begun = time.monotonic()
    parts = {
        "load": under_load(minutes, seed),
        "floods": printed("floods"),
        "stalled": stalled(),
        "crowd": printed("crowd", "--devices", str(devices)),
        "network": printed("bad_network", "--requests", str(requests)),
        "decoders": printed("fuzzing", str(inputs), "--seed", str(seed)),
    }
    said = {name: text for name, (text, _) in parts.items()}
    cores, python = len(os.sched_getaffinity(0)), platform.python_version()
    machine = f"{platform.machine()}, {cores} cores, Python {python}"
    sys.stdout.write(
        PAGE.read_text(encoding="utf-8").format(
            minutes=f"{minutes:g}",
            seed=seed,
            machine=machine,
            whole=f"{(time.monotonic() - begun) / 60:.0f}",
            **said,
        )
    )
    bad = [name for name, (_, good) in parts.items() if not good]
    for name in bad:
        sys.stderr.write(f"does not hold: {name}\n")
    sys.exit(bool(bad))


if __name__ == "__main__":
    app()
