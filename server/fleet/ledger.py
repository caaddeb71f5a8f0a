"""What was counted so far, so that each user counts once, also in a run that was broken off.

A line of JSON for each piece of work that was answered, after one that says what was asked. A run
that asks the same goes on where the file ends; one that asks anything else begins a new one.
"""

import os
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from typing import IO, Annotated, Final, Self, final

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from common.files import read_file
from common.ranking import Counts

MAX_BYTES: Final = 1 << 30


class Entry(BaseModel):
    """One piece of work: some users of a partition, answered in a round.

    answers  reports by question and answer instead of counts (common.report_privacy)
    asked    how many clients were asked it, each of whom may have told something
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    round: Annotated[int, Field(ge=1)]
    partition: Annotated[int, Field(ge=0)]
    users: list[Annotated[int, Field(ge=0)]]
    counts: Counts
    answers: list[Annotated[int, Field(ge=0)]] | None = None
    asked: Annotated[int, Field(ge=1)] = 1


class Release(BaseModel):
    """What was counted so far was told, with noise."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    released: Annotated[int, Field(ge=0)]


_LINE: Final[TypeAdapter[Entry | Release]] = TypeAdapter(Entry | Release)


class _Header(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    asked: str


@final
class Ledger:
    """Counts by round and partition; a context manager.

    path     of the file; None keeps it in memory alone
    asked    digest of all that counts depend on
    resumed  users that an earlier run has answered
    """

    def __init__(self, path: Path | None, asked: str) -> None:
        """Raises OSError."""
        self._counted: defaultdict[int, set[int]] = defaultdict(set)
        self._totals: dict[tuple[int, int], Counts] = {}
        self.entries: list[Entry] = []
        self.releases: list[Release] = []
        self._path = path
        self._file: IO[bytes] | None = None
        self.resumed = 0
        if path is None:
            return
        header = _Header(asked=asked)
        lines: list[BaseModel] = [header]
        for each in _read(path, header):
            if isinstance(each, Release):
                self.releases.append(each)
                lines.append(each)
            elif self._count(each):
                lines.append(each)
        self.resumed = sum(map(len, self._counted.values()))
        # Written anew without what may be torn at its end.
        self._file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")
        self._file.writelines(f"{line.model_dump_json()}\n".encode() for line in lines)
        self._file.flush()

    def add(self, entry: Entry) -> bool:
        """Count it, unless any of its users is counted in that round; whether it was."""
        if not self._count(entry):
            return False
        self._write(entry)
        return True

    def release(self) -> None:
        """Note that what is counted is told now."""
        made = Release(released=len(self.entries))
        self.releases.append(made)
        self._write(made)

    def _write(self, line: BaseModel) -> None:
        if self._file is not None:
            self._file.write(f"{line.model_dump_json()}\n".encode())
            self._file.flush()

    def counted(self, server_round: int) -> set[int]:
        """Users answered in a round."""
        return self._counted[server_round]

    def total(self, server_round: int, watched: int, partition: int | None = None) -> Counts:
        """Counts of a round, of one partition or of all."""
        none = Counts.none(watched)
        if partition is not None:
            return self._totals.get((server_round, partition), none)
        of_round = (each for (made, _), each in self._totals.items() if made == server_round)
        return sum(of_round, none)

    def finish(self) -> None:
        """All was answered: there is nothing to go on with."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def _count(self, entry: Entry) -> bool:
        counted = self._counted[entry.round]
        if counted.intersection(entry.users) or len(set(entry.users)) != len(entry.users):
            return False
        counted.update(entry.users)
        self.entries.append(entry)
        key = entry.round, entry.partition
        before = self._totals.get(key)
        self._totals[key] = entry.counts if before is None else before + entry.counts
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        if self._file is not None:
            self._file.close()


def _read(path: Path, header: _Header) -> list[Entry | Release]:
    """What was answered of the same; nothing of what was torn, and of what comes after it."""
    entries: list[Entry | Release] = []
    with suppress(ValidationError, FileNotFoundError):
        first, *lines = read_file(path, most=MAX_BYTES).splitlines() or [b""]
        if _Header.model_validate_json(first) == header:
            for line in lines:
                entries.append(_LINE.validate_json(line))  # noqa: PERF401 - until one fails
    return entries
