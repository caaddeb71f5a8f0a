"""Processes of the latency laboratory: devices with a share of a core, children, cores."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from common.errors import VicinalError
from common.processes import process_status
from sims.latency.conditions import limited
from sims.latency.device import AnswerTiming, Job, play
from sims.processes.children import Children, split_cores
from sims.processes.marked import family


class Clock:
    """Time that passes only in sleep and in answers."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def timings(answer_seconds: float, *, rate: float = 1.0, fails: bool = False, **job: Any) -> Any:
    clock = Clock()

    def answer(_user: int) -> AnswerTiming:
        clock.now += answer_seconds
        if fails:
            raise VicinalError("nobody is there")
        return AnswerTiming(answer_seconds, answer_seconds, answer_seconds, 0)

    options = {"seconds": 100.0, "most": 10_000, "seed": 3, **job}
    return play(
        Job("", "", "", "paper", rate=rate, **options), answer, 40, clock=clock, sleep=clock.sleep
    ), clock


def test_a_device_answers_at_random_times_and_counts_from_them() -> None:
    done, clock = timings(0.001)
    assert 70 < len(done.answers) < 130 and done.late < 5
    assert all(one.total == pytest.approx(0.001) for one in done.answers)
    assert clock.now <= 100.1


def test_a_device_that_is_busy_stands_for_another_one() -> None:
    done, _ = timings(2.0)
    # Each begins when the one before is done; none counts the other's time.
    assert done.late > 20 and max(one.total for one in done.answers) == pytest.approx(2.0)
    assert timings(0.1, fails=True)[0].failed > 50
    assert len(timings(0.1, most=2)[0].answers) == 2


def spinning(seconds: float) -> subprocess.Popen[bytes]:
    code = f"import time\nend=time.time()+{seconds}\nwhile time.time()<end: pass"
    return subprocess.Popen([sys.executable, "-c", code])


def test_a_held_process_gets_its_share_at_most_and_is_let_go() -> None:
    process = spinning(60)
    try:
        time.sleep(0.3)
        begun, before = time.monotonic(), process_status(process.pid).seconds
        with limited(process.pid, 0.2):
            time.sleep(1.0)
        share = (process_status(process.pid).seconds - before) / (time.monotonic() - begun)
        # Of a core that others use too, it may get less.
        assert 0 < share < 0.45
        state = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0]
        assert state in "RS"
    finally:
        process.kill()
        process.wait()


def test_children_are_stopped_whatever_happens(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), Children(tmp_path) as children:
        child = children.start("http.server", "0", "--bind", "127.0.0.1", name="web")
        assert child.pid in {process.pid for process in family(os.getpid())}
        raise ZeroDivisionError
    assert child.ended
    left = Children(tmp_path).start("http.server", "0", "--bind", "127.0.0.1", name="web")
    with Children(tmp_path) as children:
        assert left.ended
        gone = children.start("no.such.module", name="gone")
        with pytest.raises(VicinalError, match=r"gone ended early: .*No module named"):
            gone.line()


def test_a_child_whose_environment_is_not_there_yet_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in the moment in which the system loads its program."""
    monkeypatch.setattr("sims.processes.marked._has", lambda _pid, _mark: False)
    with Children(tmp_path) as children:
        child = children.start("http.server", "0", "--bind", "127.0.0.1", name="web")
    assert child.ended


def test_cores_are_split_in_halves() -> None:
    cores = split_cores()
    assert cores.server and cores.others
    assert cores.apart == (len(os.sched_getaffinity(0)) > 1)
