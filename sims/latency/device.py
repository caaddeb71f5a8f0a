"""One device process of the latency laboratory: `python -m sims.latency.device`.

Reads a Job as one line of JSON from stdin, gets ready, says `ready`, begins at the next line, and
writes its DeviceTimings as JSON. It runs the device's own code, for one user after the other. Each
user stands for a device of its own: a question that is due while the one before is still worked on
begins when that is done, and the time until then does not count.
"""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, NamedTuple

import numpy as np

from client.link.connection import Connection
from client.session import Session
from client.stores.ratings import LocalRatings, read_local_ratings
from client.stores.versions import VersionStore
from common.errors import VicinalError
from common.threads import limit_threads

# A device that waits longer for a server has given up.
PATIENCE_SECONDS: Final = 20.0


@dataclass(frozen=True)
class Job:
    """What one device process asks, and when.

    server   HOST:PORT, through a network or not
    ratings  device file (client.stores.ratings); store: folder of model versions
    seconds  in which questions come, `rate` a second at random times; one at least, `most` at most
    cold     every question meets a device that has no model version, nor a connection
    """

    server: str
    ratings: str
    store: str
    preset: str
    seconds: float
    rate: float
    most: int
    seed: int = 0
    cold: bool = False


class AnswerTiming(NamedTuple):
    """Seconds of one answer, and bytes received for the model version.

    total      from the question to the ranked list
    computed   of it, fine-tuning and ranking; `processor` is processor time of that
    """

    total: float
    computed: float
    processor: float
    model_bytes: int


@dataclass
class DeviceTimings:
    """answers in order; failed: questions without one; late: begun after another was done."""

    answers: list[AnswerTiming] = field(default_factory=list)
    failed: int = 0
    late: int = 0


def play(
    job: Job,
    answer: Callable[[int], AnswerTiming],
    users: int,
    *,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> DeviceTimings:
    """Ask at random times. An answer's total counts from the question's own time."""
    rng = np.random.default_rng(job.seed)
    timings = DeviceTimings()
    start = clock()
    due = start
    while len(timings.answers) + timings.failed < job.most:
        if timings.answers or timings.failed:
            due += float(rng.exponential(1 / job.rate))
        if due > start + job.seconds:
            break
        now = clock()
        timings.late += now > due
        sleep(max(0.0, due - now))
        due = max(now, due)
        begun = clock()
        try:
            one = answer(int(rng.integers(users)))
        except VicinalError:
            timings.failed += 1
        else:
            timings.answers.append(one._replace(total=one.total + begun - due))
    return timings


def warm(session: Session, user: int) -> AnswerTiming:
    """The question of a device that has the version and a connection."""
    start, processor = time.perf_counter(), time.process_time()
    answered = session.answer_one(user)
    return _timing(start, processor, answered.computed, 0)


def cold(job: Job, local: LocalRatings, user: int) -> AnswerTiming:
    """The first question of a device: connect, fetch the version, then as always."""
    with TemporaryDirectory(prefix="vicinal-cold-") as folder:
        start, processor = time.perf_counter(), time.process_time()
        with Connection(job.server, patience=PATIENCE_SECONDS) as connection:
            session = Session(connection, VersionStore(Path(folder)), local, preset=job.preset)
            answered = session.answer_one(user)
        return _timing(start, processor, answered.computed, session.cold_bytes)


def _timing(start: float, processor: float, computed: float, model_bytes: int) -> AnswerTiming:
    spent = time.process_time() - processor
    return AnswerTiming(time.perf_counter() - start, computed, spent, model_bytes)


def run(job: Job) -> DeviceTimings:
    """Raises VicinalError when there is no server to begin with."""
    local = read_local_ratings(Path(job.ratings))
    with Connection(job.server, patience=PATIENCE_SECONDS) as connection:
        session = Session(connection, VersionStore(Path(job.store)), local, preset=job.preset)
        users = session.description.user_count
        if not job.cold:
            # What the first question alone finds to do: eigenbases, caches of libraries.
            warm(session, 0)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdin.readline()
        if job.cold:
            return play(job, lambda user: cold(job, local, user), users)
        return play(job, lambda user: warm(session, user), users)


def main() -> None:
    limit_threads()
    job: dict[str, Any] = json.loads(sys.stdin.readline())
    json.dump(asdict(run(Job(**job))), sys.stdout)


if __name__ == "__main__":
    main()
