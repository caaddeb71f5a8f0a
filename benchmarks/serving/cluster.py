"""Servers that are one, against one server: `python -m benchmarks.serving.cluster`.

As many worker processes in both: three of one server, and one of each of three that share a
PostgreSQL on the same machine. Callers ask for recommendations of preset paper again as soon as
they are answered; both are asked in turns in the same run, so that what else the machine does falls
on both. Then the server that trains is killed a few times.
"""

import json
import subprocess
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, Final

from benchmarks.report import Section, progress, run, table
from benchmarks.serving.load_server import ONE_ADDRESS
from client.link.connection import Connection
from common.processes import core_count, module_command
from sims.load.generator import Load
from sims.processes.children import Children
from sims.serving.cluster import Cluster, kill_trainer
from sims.serving.process import ServeProcess

SERVERS: Final = 3
PRESET: Final = "paper"
DATASET: Final = "synthetic:943x1682x100000"
FLOOR: Final = 0.9
MOST_FAILOVER: Final = 5.0


def section(short: bool) -> Section:
    rounds, seconds, kills = (3, 3.0, 1) if short else (8, 6.0, 3)
    arguments = ["--dataset", DATASET, "--preset", PRESET, "--queue-ms", "60000"]
    with TemporaryDirectory() as scratch, ExitStack() as stack:
        folder = Path(scratch)
        progress("cluster: starting")
        cluster = stack.enter_context(
            Cluster(folder / "cluster", [*arguments, "--workers", "1"], servers=SERVERS)
        )
        alone = folder / "alone"
        alone.mkdir()
        children = stack.enter_context(Children(alone))
        one = stack.enter_context(
            ServeProcess(children, alone, [*arguments, *ONE_ADDRESS, "--workers", str(SERVERS)])
        )
        rates: dict[str, list[float]] = {"one server": [], "three servers": []}
        for place in range(rounds + 1):
            progress(f"cluster: round {place} of {rounds}")
            found = {
                "one server": asked([one.address], seconds),
                "three servers": asked([each.address for each in cluster.servers], seconds),
            }
            # The first finds neighbors that are not known yet.
            for name, rate in found.items() if place else ():
                rates[name].append(rate)
        ratios = [
            several / alone
            for several, alone in zip(rates["three servers"], rates["one server"], strict=True)
        ]
        failovers = []
        for _ in range(kills):
            progress("cluster: the server that trains is killed")
            failovers.append(kill_trainer(cluster))
            for each in cluster.servers:
                if each.child.ended:
                    each.start()
                    each.wait()
    ratio = median(ratios)
    rows = [
        [name, str(SERVERS), f"{median(each):.0f}", f"{min(each):.0f}–{max(each):.0f}"]
        for name, each in rates.items()
    ]
    heads = ["", "workers in all", "answers/s, median", "range"]
    seen = ", ".join(f"{each:.1f}" for each in failovers)
    text = (
        f"## Several servers\n\n{__doc__.strip()}\n\n{table(heads, rows)}\n\n"
        f"Ratio of a round, median of {rounds}: **{ratio:.2f}** ({core_count()} cores). Seconds "
        f"from the kill of the server that trains until another one trains: {seen}.\n"
    )
    missed = [] if ratio >= FLOOR else [f"three servers to one: {ratio:.2f}, not {FLOOR}"]
    if max(failovers) > MOST_FAILOVER:
        missed.append(f"failover: {max(failovers):.1f} s, not {MOST_FAILOVER:g}")
    figures = {"rates": rates, "ratios": ratios, "failovers": failovers, "cores": core_count()}
    return Section(text, figures, missed)


def asked(addresses: list[str], seconds: float) -> float:
    """Answers a second of callers who are shared out to servers."""
    processes = []
    for address in addresses:
        with Connection(address) as connection:
            description = connection.describe()
        callers = 4 * SERVERS // len(addresses)
        load = Load(
            address, description.version, PRESET, description.user_count, seconds, callers=callers
        )
        process = subprocess.Popen(
            module_command("sims.load.generator"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(f"{json.dumps(asdict(load))}\n")
        process.stdin.flush()
        process.stdout.readline()
        processes.append(process)
    answered = 0
    for process in processes:
        assert process.stdin is not None
        process.stdin.close()
    for process in processes:
        assert process.stdout is not None
        timings: dict[str, Any] = json.loads(process.stdout.read())
        process.wait()
        ended = timings["seconds"]
        if set(ended) != {"OK"}:
            raise AssertionError(f"calls ended as {sorted(ended)}")
        answered += len(ended["OK"])
    return answered / seconds


if __name__ == "__main__":
    run(section)
