"""Values for worker processes, whose arrays lie in memory once for all of them.

What is pickled for a worker is a copy in every one. Here arrays go into a file that the workers
map, and what is pickled says where (PEP 574, out-of-band buffers). They are read-only there. The
file holds arrays alone: what is pickled comes through the pipe of the process that started them.
"""

import mmap
import os
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkstemp
from typing import Any, Final, final

# Smaller arrays are pickled with the rest.
LEAST_BYTES: Final = 1 << 16
# Of where an array begins.
ALIGNED: Final = 64


@final
@dataclass(frozen=True)
class Shared:
    """A value as it is handed to a worker.

    head    the pickled value without its large arrays
    places  of these in the file, first byte and end
    """

    path: Path
    head: bytes
    places: tuple[tuple[int, int], ...]

    def value(self) -> Any:
        """Its arrays are there as long as the process keeps them, also when the file is gone."""
        if not self.places:
            return pickle.loads(self.head)  # noqa: S301 - from the process that started this one
        with self.path.open("rb") as opened:
            mapped = memoryview(mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ))
        arrays = [mapped[start:end] for start, end in self.places]
        return pickle.loads(self.head, buffers=arrays)  # noqa: S301 - as above

    def remove(self) -> None:
        """Its file, wherever that is done first."""
        self.path.unlink(missing_ok=True)


@contextmanager
def shared(value: Any) -> Iterator[Shared]:
    """What workers take the value from, in the block; nothing is left after it.

    Raises OSError where there is no room for the file.
    """
    number, name = mkstemp(prefix="vicinal-shared-")
    path = Path(name)
    try:
        with os.fdopen(number, "wb") as opened:
            places: list[tuple[int, int]] = []

            def kept(buffer: pickle.PickleBuffer) -> bool:
                """Whether an array stays where it is pickled; others are written."""
                with buffer.raw() as raw:
                    if raw.nbytes < LEAST_BYTES:
                        return True
                    opened.write(bytes(-opened.tell() % ALIGNED))
                    start = opened.tell()
                    opened.write(raw)
                    places.append((start, opened.tell()))
                return False

            head = pickle.dumps(value, protocol=5, buffer_callback=kept)
        yield Shared(path, head, tuple(places))
    finally:
        path.unlink(missing_ok=True)
