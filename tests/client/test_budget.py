"""The cost model against real processes: never too little, at most about twice too much."""

import doctest
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import client.budget
from client.budget import (
    DEFAULT_MEMORY,
    DEFAULT_SECONDS,
    Budget,
    Cost,
    OverBudgetError,
    answer_cost,
    machine_rates,
    unpacking_cost,
    version_cost,
)
from common.models import model_named
from common.vicinal.settings import PRESETS, VicinalSettings
from tests.client.budget_case import manifest_of
from tests.support.modules import ENVIRONMENT, ROOT, command

# What malloc keeps for later would hide what is taken.
MEASURED = {
    **ENVIRONMENT,
    "OPENBLAS_NUM_THREADS": "1",
    "MALLOC_MMAP_THRESHOLD_": "65536",
    "MALLOC_TRIM_THRESHOLD_": "65536",
}
# Beside what is taken for tables: libraries load and warm up.
OVERHEAD = 12 << 20
VICINAL = {"unrated_weight": 0.4, "steps": 2, "proximal_weight": 0.003, "assumed_fakes": 0.03}
CLOSED = {
    "unrated_weight": 0,
    "steps": 0,
    "step_rule": "closed-form",
    "proximal_weight": 400.0,
    "assumed_fakes": 0.03,
}
ADAGRAD = {"unrated_weight": 0, "steps": 3, "step_rule": "adagrad", "learning_rate": 0.1}
ADAM = {"unrated_weight": 0, "steps": 3, "step_rule": "adam", "learning_rate": 0.03}
PULLED = {**ADAM, "unrated_weight": 0.2, "proximal_weight": 0.1}

# Name: model, k, ratings, touched items, items, width, settings, and what else is special.
CASES: dict[str, tuple[str, int, int, int, int, int, dict[str, Any], dict[str, Any]]] = {
    "mf, many items": ("mf", 24, 24_000, 10_000, 2_000_000, 8, VICINAL, {}),
    "mf, large table": ("mf", 512, 512_000, 40_000, 40_000, 32, VICINAL, {}),
    "autorec": ("autorec", 256, 256_000, 30_000, 40_000, 64, VICINAL, {}),
    "nsvd, pairs of rows": ("nsvd", 2000, 200_000, 3_000, 3_000, 16, VICINAL, {}),
    "cdae, all items": ("cdae", 64, 64_000, 20_000, 100_000, 32, VICINAL, {}),
    "ease, rows": ("ease", 600, 120_000, 8_000, 10_000, 8, CLOSED, {}),
    "ease, items": ("ease", 3000, 300_000, 1_500, 10_000, 8, CLOSED, {}),
    "adagrad, dense": ("mf", 64, 128_000, 40_000, 40_000, 64, ADAGRAD, {}),
    "adagrad, sparse": ("mf", 256, 64_000, 60_000, 60_000, 64, ADAGRAD, {}),
    "adam": ("cdae", 24, 48_000, 20_000, 40_000, 64, ADAM, {}),
    "adam, pulled": ("autorec", 24, 48_000, 20_000, 40_000, 32, PULLED, {}),
    "slim": ("mf", 24, 2_400, 1_000, 4_000_000, 8, VICINAL, {"slim": True}),
    "folded in": ("mf", 64, 128_000, 20_000, 100_000, 64, {**VICINAL, "fold_in": True}, {}),
    "long list": ("mf", 24, 2_400, 1_000, 1_000_000, 8, VICINAL, {"list_length": 1_000_000}),
    "unpack": ("mf", 64, 640_000, 20_000, 1 << 30, 1, VICINAL, {"what": "unpack"}),
}


def case_of(name: str) -> dict[str, Any]:
    model, k, ratings, touched, items, width, settings, special = CASES[name]
    sizes = {"k": k, "ratings": ratings, "touched": touched, "items": items, "width": width}
    usual = {"what": "answer", "slim": False, "list_length": 50}
    return {"model": model, **sizes, "settings": settings, **usual, **special}


def cost_of(case: dict[str, Any]) -> Cost:
    if case["what"] == "unpack":
        return unpacking_cost(case["k"], case["ratings"])
    return answer_cost(
        model_named(case["model"]),
        VicinalSettings(case["k"], **case["settings"]),
        **{name: case[name] for name in ("ratings", "touched", "items", "width")},
        list_length=case["list_length"],
        slim=case["slim"],
    )


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("name", CASES)
def test_memory_is_bounded_from_above_and_within_a_factor_of_two(name: str) -> None:
    case = case_of(name)
    done = subprocess.run(
        command("tests.client.budget_case", json.dumps(case)),
        cwd=ROOT,
        env=MEASURED,
        capture_output=True,
        text=True,
        check=True,
    )
    taken, seconds = json.loads(done.stdout)
    cost = cost_of(case)
    assert taken <= cost.memory + OVERHEAD, f"{taken / cost.memory:.2f} of the bound"
    assert cost.memory <= 2 * taken + OVERHEAD, f"{cost.memory / taken:.2f} times too much"
    # On a busy machine seconds say little: neither far below nor, runs apart, far above.
    assert cost.seconds(machine_rates()) > seconds / 10


@pytest.mark.parametrize("model", ["mf", "nsvd", "autorec", "cdae", "ease"])
def test_every_preset_fits_the_default_budget_with_room(model: str) -> None:
    """On ML-1M's shape, and on a machine a good deal slower than most."""
    slow = client.budget.Rates(60e9, 1e9)
    for settings in PRESETS[model].values():
        ratings = 165 * settings.neighbors
        cost = answer_cost(
            model_named(model),
            settings,
            ratings=ratings,
            touched=min(3706, ratings // 2),
            items=3706,
            width=64,
            list_length=50,
        )
        assert cost.memory < DEFAULT_MEMORY / 8
        assert cost.seconds(slow) < DEFAULT_SECONDS / 2


def test_a_version_costs_more_than_its_bytes() -> None:
    manifest = manifest_of(case_of("mf, many items"))
    size = 4 * manifest.items * manifest.width
    assert 3 * size < version_cost(manifest, size).memory < 6 * size


def test_what_is_over_the_budget_is_said_in_words() -> None:
    budget = Budget(memory=1 << 20, seconds=1.0)
    budget.require(Cost(memory=1000, moves=1000), "an answer")
    with pytest.raises(OverBudgetError, match=r"an answer would take 2\.0 GiB .*1 MiB: --memory"):
        budget.require(Cost(memory=2 << 30), "an answer")
    with pytest.raises(OverBudgetError, match=r"up to .* s, .* allows 1 s: --seconds raises"):
        budget.require(Cost(flops=1e15), "an answer")


def test_rates_are_measured_once_and_soon() -> None:
    code = (
        "import time; from client.budget import machine_rates; import numpy; "
        "begun = time.process_time(); machine_rates(); print(time.process_time() - begun)"
    )
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert float(done.stdout) < 0.5
    assert machine_rates() is machine_rates()


def test_the_example_holds() -> None:
    assert doctest.testmod(client.budget).failed == 0
