"""Mutated inputs for every decoder, in a process with bounded memory: `python fuzzing.py COUNT`.

COUNT inputs in all are shared out; a decoder that takes files gets a twentieth of what others get.
Prints a Markdown table. Whatever a decoder raises beside its declared errors, a warning and
MemoryError included, is printed with the input in hex, and the exit code is 1. `--seed` gives
others; the same seed gives the same inputs.
"""

import faulthandler
import random
import resource
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Final

import typer

from common.threads import limit_threads
from tests.faults.support.decoders import Decoder, decoders
from tests.faults.support.mutations import mutated

EXPENSIVE: Final = 20
# Of address space beyond what is mapped before the first input: a size that was believed shows.
MEMORY_BYTES: Final = 1 << 30
# For one input; what takes longer is a way to stop a server with a few bytes.
SECONDS: Final = 20
MOST_FINDINGS: Final = 5


@dataclass
class Tried:
    """accepted: inputs in which the mutations changed nothing that matters."""

    name: str
    inputs: int = 0
    accepted: int = 0
    seconds: float = 0.0
    longest: float = 0.0
    findings: list[str] = field(default_factory=list)


def fuzz(decoder: Decoder, count: int, seed: int) -> Tried:
    """Valid inputs first, which must be accepted; then mutated ones."""
    tried = Tried(decoder.name)
    rng = random.Random(f"{seed} {decoder.name}")
    for data in decoder.valid[:1]:
        decoder.decode(data)
    begun = time.perf_counter()
    for _ in range(count):
        data = mutated(rng.choice(decoder.valid), rng, decoder.valid)
        _try(decoder, data, tried)
        if len(tried.findings) == MOST_FINDINGS:
            break
    tried.seconds = time.perf_counter() - begun
    return tried


def _try(decoder: Decoder, data: bytes, tried: Tried) -> None:
    tried.inputs += 1
    begun = time.perf_counter()
    signal.alarm(SECONDS)
    try:
        decoder.decode(data)
        tried.accepted += 1
    except decoder.declared:
        pass
    except Exception:  # noqa: BLE001 - this is what is looked for
        tried.findings.append(f"{decoder.name}: {data.hex()[:4000]}\n{traceback.format_exc()}")
    finally:
        signal.alarm(0)
    tried.longest = max(tried.longest, time.perf_counter() - begun)


def bound_memory() -> None:
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + MEMORY_BYTES, resource.RLIM_INFINITY))


def fuzz_all(count: int, seed: int) -> list[Tried]:
    with TemporaryDirectory() as folder:
        found = list(decoders(Path(folder)))
        shares = [1 / EXPENSIVE if decoder.expensive else 1.0 for decoder in found]
        counts = [ceil(count * share / sum(shares)) for share in shares]
        bound_memory()
        return [fuzz(*pair, seed) for pair in zip(found, counts, strict=True)]


def markdown(tried: Sequence[Tried]) -> Iterator[str]:
    yield "| decoder | inputs | taken for valid | inputs/s | longest, ms | findings |"
    yield "|---|---:|---:|---:|---:|---:|"
    for one in tried:
        yield (
            f"| {one.name} | {one.inputs:,} | {one.accepted:,} | "
            f"{one.inputs / one.seconds:,.0f} | {1000 * one.longest:.0f} | {len(one.findings)} |"
        )
    inputs, seconds = sum(one.inputs for one in tried), sum(one.seconds for one in tried)
    findings = sum(len(one.findings) for one in tried)
    accepted = sum(one.accepted for one in tried)
    longest = 1000 * max(one.longest for one in tried)
    yield (
        f"| **all** | {inputs:,} | {accepted:,} | {inputs / seconds:,.0f} | {longest:.0f} | "
        f"{findings} |"
    )


app = typer.Typer(pretty_exceptions_enable=False)


@app.command()
def main(
    count: Annotated[int, typer.Argument(min=1)] = 1_000_000,
    seed: Annotated[int, typer.Option("--seed")] = 0,
) -> None:
    limit_threads()
    faulthandler.enable()
    warnings.simplefilter("error")
    tried = fuzz_all(count, seed)
    for line in markdown(tried):
        typer.echo(line)
    findings = [text for one in tried for text in one.findings]
    for text in findings:
        typer.echo(text, err=True)
    sys.exit(bool(findings))


if __name__ == "__main__":
    app()
