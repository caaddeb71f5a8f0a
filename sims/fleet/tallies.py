"""What clients count in each round: answered here, or read from what a fleet's server app wrote."""

import hashlib
from collections.abc import Mapping
from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path
from typing import Any

from client.device import answer, answer_from_book
from client.stores.ratings import read_local_ratings
from common.files import read_file
from common.ranking import Counts
from common.report_privacy import SECAGG
from common.vicinal.book import BookReader
from common.vicinal.settings import untuned
from common.wire.book import decode_book, most_bytes
from common.wire.fleet import partition_file_name, round_folder
from server.fleet.ledger import Entry, Ledger
from server.fleet.plan import Condition, deployment_of, progress_file
from server.recommending.recommender import Recommender
from server.versions.deployment import BOOK_FILE, read_deployment
from sims.fleet.rounds import DEFENDED, Rounds
from sims.processes.pools import in_processes
from sims.progress import Report, counter, quiet

# Counts of each client, by round and condition; of all of them together, as if of client 0, where
# nobody knows whose they are.
Tallies = dict[tuple[int, Condition], dict[int, Counts]]


def answered_here(
    rounds: Rounds, *, processes: int | None = None, resume: bool = True, report: Report = quiet
) -> Tallies:
    """What the plan's clients count, answered in processes of this program.

    It goes on where a run of the same plan was broken off. Raises OSError.
    """
    askings = list(rounds.plan.askings)
    asked = hashlib.sha256(
        repr(
            (
                *(rounds.plan.digest, rounds.settings, rounds.watched, rounds.list_length),
                rounds.release,
            )
        ).encode()
    ).hexdigest()
    result = rounds.files.folder / "here.json"
    files = [progress_file(result, each.number, condition) for each, condition in askings]
    if not resume:
        for file in files:
            file.unlink(missing_ok=True)
    advance = counter(report, "answer rounds", sum(len(each.asked) for each, _ in askings))
    advance(0)
    with ExitStack() as stack:
        ledgers = [stack.enter_context(Ledger(file, asked)) for file in files]

        def arrived(found: tuple[int, Entry]) -> None:
            place, entry = found
            ledgers[place].add(entry)
            advance(1)

        calls = list[tuple[Any, ...]]()
        for place, ((planned, condition), ledger) in enumerate(zip(askings, ledgers, strict=True)):
            counted = ledger.counted(planned.number)
            for client in planned.asked:
                if client in counted:  # its first user
                    advance(1)
                else:
                    calls.append((rounds, place, planned.number, condition, client))
        if processes == 1:
            for call in calls:
                arrived(_answered(*call))
        elif calls:
            in_processes(_answered, calls, processes=processes, arrived=arrived)
        tallies: Tallies = {
            (planned.number, condition): {
                client: ledger.total(planned.number, len(rounds.watched), client)
                for client in planned.asked
            }
            for (planned, condition), ledger in zip(askings, ledgers, strict=True)
        }
        for ledger in ledgers:
            ledger.finish()
    return tallies


def _answered(
    rounds: Rounds, place: int, number: int, condition: Condition, client: int
) -> tuple[int, Entry]:
    """One client's counts, from the files that it would have."""
    recommender, book = _deployed(deployment_of(rounds.path, number, condition))
    devices = round_folder(rounds.files.folder / "devices", number)
    local = read_local_ratings(devices / partition_file_name(client, rounds.plan.clients))
    tuned = rounds.plan.tuned and condition == DEFENDED
    settings = rounds.settings if tuned else untuned(rounds.settings)
    users = range(client, recommender.user_count, rounds.plan.clients)
    counts = Counts.none(len(rounds.watched))
    for user in users:
        measured: dict[str, Any] = {
            "held_out": local.held_out_of(user),
            "watched": rounds.watched,
            "list_length": rounds.list_length,
        }
        if book is None:
            neighborhood = recommender.neighborhood(user, settings)
            measured["rated"] = local.items_of(user)
            counts += answer(recommender.version, neighborhood, settings, **measured).counts
        else:
            counts += answer_from_book(book, local.own(user).ratings, **measured).counts
    return place, Entry(round=number, partition=client, users=[*users], counts=counts)


@lru_cache(maxsize=2)
def _deployed(folder: Path) -> tuple[Recommender, BookReader | None]:
    recommender, path = read_deployment(folder), folder / BOOK_FILE
    if not path.exists():
        return recommender, None
    version = recommender.version
    data = read_file(path, most=most_bytes(version.manifest.items))
    book = decode_book(data, version.manifest, version.digest)
    return recommender, BookReader(version.served, book)


def tallies_of(result: Mapping[str, Any]) -> Tallies:
    """The same of the server app's result."""
    return {
        (one["round"], one["condition"]): {0: _counts(one["counts"])}
        if one["report_privacy"]["kind"] == SECAGG
        else {part["partition"]: _counts(part["counts"]) for part in one["partitions"]}
        for one in result["rounds"]
    }


def _counts(told: Mapping[str, Any]) -> Counts:
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in told.items()
    }
    return Counts(**values)
