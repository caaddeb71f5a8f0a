"""A server killed in the middle of reports, again and again, and started on the same tally."""

import random
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from client.link.connection import Connection, report_of
from common.errors import VicinalError
from common.ranking import Counts
from server.reports.reading import read_counts
from server.trust.receipts import Receipts
from tests.support.modules import ENVIRONMENT, ROOT, command
from tests.support.receipts import KEY, receipts_for
from tests.support.serving import WATCHED

REPORTS, SENDERS, KILLS = 240, 4, 3


def start(folder: Path, port: int) -> tuple[subprocess.Popen[bytes], int]:
    (folder / "ready").unlink(missing_ok=True)
    process = subprocess.Popen(
        command("tests.faults.support.reporting", str(folder), str(port)),
        cwd=ROOT,
        env=ENVIRONMENT,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while not (folder / "ready").exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    return process, int((folder / "ready").read_text())


def counts_of(number: int) -> Counts:
    """Of two users, different for different reports."""
    return Counts((2, 1), (number % 3, number % 2), 2, number % 3, on_device=2)


def test_no_report_is_lost_or_counted_twice_when_the_server_is_killed(tmp_path: Path) -> None:
    process, port = start(tmp_path, 0)
    acknowledged: list[int] = []
    deadline = time.monotonic() + 120
    with Connection(f"127.0.0.1:{port}") as first:
        description = first.describe()

    receipts = Receipts(KEY)
    reports = [
        report_of(
            description,
            "paper",
            f"{number:032x}",
            counts_of(number),
            receipts_for(receipts, description.version, "paper", [3, 4]),
        )
        for number in range(REPORTS)
    ]

    def send(numbers: range) -> None:
        """Repeat every report, as a device does, until the server says that it has it."""
        with Connection(f"127.0.0.1:{port}", patience=2) as connection:
            for number in numbers:
                while not acknowledged_after(connection, number):
                    assert time.monotonic() < deadline
                acknowledged.append(number)
                # Some ask again although they have been answered.
                if number % 7 == 0:
                    acknowledged_after(connection, number)

    def acknowledged_after(connection: Connection, number: int) -> bool:
        try:
            connection.send_report(reports[number])
        except VicinalError:
            return False
        return True

    try:
        with ThreadPoolExecutor(SENDERS) as pool:
            parts = [range(place, REPORTS, SENDERS) for place in range(SENDERS)]
            senders = [pool.submit(send, numbers) for numbers in parts]
            for kill in range(KILLS):
                while len(acknowledged) < (kill + 1) * REPORTS // (KILLS + 2):
                    assert time.monotonic() < deadline
                    time.sleep(0.005)
                time.sleep(random.Random(kill).uniform(0, 0.02))
                process.send_signal(signal.SIGKILL)
                process.wait()
                process, _ = start(tmp_path, port)
            for sender in senders:
                sender.result(timeout=60)
        path = tmp_path / "tally.sqlite"
        counted, total = read_counts(path, description.version, "paper")
    finally:
        process.kill()
        process.wait()
    expected = Counts.none(len(WATCHED))
    for number in range(REPORTS):
        expected += counts_of(number)
    assert len(acknowledged) == counted == REPORTS
    assert total == expected
