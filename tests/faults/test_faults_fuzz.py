"""Mutated inputs for every decoder; `make soak` tries a million of them."""

import random
import subprocess
from pathlib import Path

import pytest

from tests.faults.support.decoders import Decoder
from tests.faults.support.fuzzing import MOST_FINDINGS, fuzz
from tests.faults.support.mutations import MUTATIONS, mutated
from tests.support.modules import ENVIRONMENT, ROOT, command

COUNT = 40_000


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="looks into /proc")
def test_decoders_raise_nothing_but_their_errors() -> None:
    done = subprocess.run(
        command("tests.faults.support.fuzzing", str(COUNT)),
        cwd=ROOT,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "| **all** |" in done.stdout


def test_an_error_that_is_not_declared_is_found_with_its_input() -> None:
    def decode(data: bytes) -> None:
        if len(data) != 6:
            raise ValueError("what it declares")
        if data != b"abc123":
            raise KeyError("what it does not")

    tried = fuzz(Decoder("a decoder", [b"abc123"], decode, (ValueError,)), 1000, seed=0)
    assert len(tried.findings) == MOST_FINDINGS
    assert all("KeyError" in text for text in tried.findings)


def test_every_mutation_changes_something_and_bears_nothing_at_all() -> None:
    for mutation in MUTATIONS:
        rng, found = random.Random(0), set()
        for _ in range(50):
            data = bytearray(b"0123456789")
            mutation(data, rng, [b"another one"])
            found.add(bytes(data))
            mutation(empty := bytearray(), rng, [b""])
            assert len(empty) <= 64
        assert len(found) > 3, mutation.__name__
    assert len({mutated(b"0123456789", random.Random(seed), [b"x"]) for seed in range(50)}) > 40
