"""Four commands, three transports, one answer: to the last count, for the same options."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from common.models import CLOSED_FORM, MODELS

VICINAL = [sys.executable, "-m", "sims.cli"]
EXPERIMENT = ["--dataset", "synthetic:250x300x6000", "--seed", "3", "--k", "40"]
SHARES = ("hit_ratio", "accuracy", "accuracy_thresholded")


def run(*arguments: str) -> None:
    done = subprocess.run([*VICINAL, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def device_result(folder: Path, experiment: list[str]) -> dict[str, Any]:
    """`vicinal serve` and three device processes."""
    port_file, ratings, output = folder / "port", folder / "ratings", folder / "device.json"
    server = subprocess.Popen(
        [*VICINAL, "serve", *experiment, "--attack", "mixrand", "--hold-out", "--port", "0"]
        + ["--open", "--store", str(folder / "serve")]
        + ["--port-file", str(port_file), "--device-ratings", str(ratings)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        deadline = time.monotonic() + 120
        while not port_file.exists():
            assert server.poll() is None and time.monotonic() < deadline, server.stdout
            time.sleep(0.1)
        address = f"127.0.0.1:{port_file.read_text().strip()}"
        run(
            *("device", "--server", address, "--users", "0-249", "--processes", "3"),
            *("--ratings", str(ratings), "--store", str(folder / "d"), "--json", str(output)),
        )
    finally:
        server.send_signal(signal.SIGTERM)
        assert server.wait(30) == 0
    result: dict[str, Any] = json.loads(output.read_text())
    return result


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "cut"),
    [
        *((model, []) for model in (*MODELS, *CLOSED_FORM)),
        ("mf", ["--row-cap", "15", "--fold-in"]),
    ],
)
def test_in_process_grpc_and_flower_give_the_same_counts(
    tmp_path: Path, model: str, cut: list[str]
) -> None:
    experiment = [*EXPERIMENT, "--model", model, *cut]
    evaluated, simulated = tmp_path / "evaluate.json", tmp_path / "simulate.json"
    run("evaluate", *experiment, "--store", str(tmp_path / "evaluate"), "--json", str(evaluated))
    run(
        *("simulate", *experiment, "--clients", "10", "--store", str(tmp_path / "simulate")),
        *("--folder", str(tmp_path / "fleet"), "--json", str(simulated)),
    )
    in_process = json.loads(evaluated.read_text())
    flower = json.loads(simulated.read_text())
    grpc = device_result(tmp_path, experiment)
    for share in SHARES:
        assert grpc[share] == in_process[share]["defended"]
    assert flower["counts"] == grpc["counts"]
    # The comparison means something: the attack shows, and the defense changes the answer. EASE
    # on all ratings is hardly moved by this attack.
    if model in MODELS:
        assert in_process["hit_ratio"]["undefended"] > in_process["hit_ratio"]["defended"]
    assert in_process["accuracy"]["undefended"] != in_process["accuracy"]["defended"]
