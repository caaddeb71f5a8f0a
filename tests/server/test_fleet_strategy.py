"""server.fleet.strategy: whom it samples, and what a subclass may change."""

from collections.abc import Collection, Iterable
from pathlib import Path

from flwr.app import Message, MetricRecord
from flwr.serverapp import Grid

import client.flower_app
from common.wire.fleet import MODEL
from server.fleet.run_config import RunConfig
from server.fleet.strategy import VicinalStrategy
from server.flower_app import job_of
from server.versions.deployment import read_deployment
from tests.support.fleets import (
    CLIENTS,
    SETTINGS,
    Fleet,
    in_process,
    run,
    run_config,
    task_identity,
    write_files,
)
from tests.support.in_process_grid import InProcessGrid


def hits_of(fleet: Fleet, partitions: Collection[int]) -> list[int]:
    there = [user for user in range(48) if user % CLIENTS in partitions]
    return list(in_process(fleet, SETTINGS["vicinal"], there).hits)


def test_a_share_of_the_clients_is_asked(fleet: Fleet, tmp_path: Path) -> None:
    _, result = run(write_files(tmp_path, fleet), changes={"fraction": 0.5})
    answered = [each["partition"] for each in result["partitions"] if each["answered"]]
    assert len(answered) == 6 and result["failures"] == []
    assert result["counts"]["hits"] == hits_of(fleet, answered)
    _, result = run(
        write_files(tmp_path, fleet), changes={"fraction": 0.1, "min-clients": 4, "resume": False}
    )
    assert sum(each["answered"] > 0 for each in result["partitions"]) == 4


def test_a_strategy_can_be_subclassed(fleet: Fleet, tmp_path: Path) -> None:
    class TheFirst(VicinalStrategy):
        def sample(self, grid: Grid) -> list[int]:
            return self.wait_for_clients(grid)[: len(rounds)]

        def aggregate_evaluate(
            self, server_round: int, replies: Iterable[Message]
        ) -> MetricRecord | None:
            found = super().aggregate_evaluate(server_round, replies)
            rounds.append(server_round)
            return found

    rounds: list[int] = [0]
    files = write_files(tmp_path, fleet)
    config = RunConfig.of({**run_config(files), "fraction": 0.5})
    strategy = TheFirst(fleet.recommender, job_of(config, read_deployment(tmp_path / "deployment")))
    grid = InProcessGrid(client.flower_app.app, CLIENTS, run_config(files))
    with task_identity():
        result = strategy.start(grid, num_rounds=3)
    answered = [result.evaluate_metrics_clientapp[r]["num-examples"] for r in (1, 2, 3)]
    assert answered == [4, 8, 12]
    # The model went to each client once.
    assert sum(MODEL in m.content for m in grid.sent) == 3
