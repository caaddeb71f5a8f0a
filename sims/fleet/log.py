"""What a server app says in the log of its run."""

import sys


def measures_line(hit_ratio: float, accuracy: float, length: int) -> str:
    """What a log says of lists of that length."""
    return f"HR@{length} {hit_ratio:.3f}, accuracy@{length} {accuracy:.3f}"


def tell(line: str) -> None:
    """A line into the run's log, which Flower mirrors from stdout."""
    sys.stdout.write(f"vicinal: {line}\n")
    sys.stdout.flush()
