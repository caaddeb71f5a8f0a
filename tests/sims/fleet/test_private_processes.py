"""Reports that say less, of Flower's real processes: in a simulation, and of nodes that run."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from common.ranking import Counts
from common.vicinal.settings import VicinalSettings, capped, preset
from common.wire.fleet import partition_file_name
from server.model_store import ModelStore
from server.recommending.recommender import Recommender
from sims.evaluation.experiment import Experiment, Prepared, prepare
from sims.fleet.deployed import counts_here, require_equal
from sims.fleet.deployment import Deployment, node_config
from sims.fleet.files import FleetFiles
from sims.fleet.flower import LocalFlower
from sims.fleet.resources import Resources
from sims.fleet.run import CHECKOUT, write_files
from tests.sims.commands.test_simulate import leftovers, scratch

__all__ = ["scratch"]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
USERS = 120
Run = Callable[[FleetFiles], None]


class Fleet(NamedTuple):
    prepared: Prepared
    settings: VicinalSettings
    recommender: Recommender

    def result(self, folder: Path, clients: int, privacy: str, run: Run) -> dict[str, Any]:
        """Of a run in `folder`, whose files are written anew."""
        options: dict[str, int | bool | str] = {"min-replies": 0, "report-privacy": privacy}
        files = write_files(
            folder, self.prepared, self.recommender, clients, "vicinal", self.settings, options
        )
        files.result.unlink(missing_ok=True)
        run(files)
        found: dict[str, Any] = json.loads(files.result.read_bytes())
        assert (found["run"], found["answered"], found["failures"]) == (files.run, USERS, [])
        assert all(each["counts"] is None for each in found["partitions"])
        return found

    @property
    def here(self) -> Counts:
        return counts_here(self.prepared, self.recommender, self.settings)


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    prepared = prepare(Experiment(dataset=f"synthetic:{USERS}x80", list_length=10))
    with ModelStore(tmp_path / "store") as store:
        return Fleet(
            prepared, capped(preset("vicinal", neighbors=30), USERS), prepared.train(store)
        )


def require_near(found: dict[str, Any], here: Counts, epsilon: float) -> None:
    """Estimates, six of their standard errors at most from the truth, and what they cost."""
    told = found["report_privacy"]
    assert found["counts"] is None
    assert told["spent"] == {"most": epsilon, "mean": epsilon}
    assert abs(found["accuracy"] - here.accuracy) <= 6 * told["error"]["accuracy"]
    assert abs(found["hit_ratio"] - here.hit_ratio) <= 6 * told["error"]["hit_ratio"]
    assert np.isclose(sum(told["outcomes"]), USERS)


def test_a_simulation_counts_under_masks_what_one_process_counts(
    fleet: Fleet, scratch: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "fleet"
    with LocalFlower(CHECKOUT, folder, Resources.of(2, 8)) as flower:

        def run(files: FleetFiles) -> None:
            flower.run(files.run_config, clients=8, on_line=lambda _line: None, done=lambda: True)

        found = fleet.result(folder, 8, "secagg", run)
        require_equal(found, fleet.here)
        # Each of them got the model and its users, and took four steps.
        assert {each["messages"] for each in found["per_client"]} == {6}
        require_near(fleet.result(folder, 8, "central:5", run), fleet.here, 5)
    assert leftovers(scratch) == []


def test_nodes_count_under_masks_what_one_process_counts(
    fleet: Fleet, scratch: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "fleet"
    devices = folder.resolve() / "devices"
    configs = [node_config(each, 3, devices / partition_file_name(each, 3)) for each in range(3)]
    with Deployment(CHECKOUT, folder, configs) as deployment:

        def run(files: FleetFiles) -> None:
            deployment.run(files.run_config, lambda _line: None)

        require_equal(fleet.result(folder, 3, "secagg", run), fleet.here)
        require_near(fleet.result(folder, 3, "local:5", run), fleet.here, 5)
    assert leftovers(scratch) == []
