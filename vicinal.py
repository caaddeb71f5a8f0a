"""Real-time Vicinal Defense: repair a poisoned recommender at inference, on the user's own device.

    import vicinal as vc
    python -m vicinal …       the command line, as `vicinal …`

Importing it loads no library: what is asked for is loaded then. It finds its own code also where
the user's folder holds a `server.py` or a `common/` (common/pinning.py).
"""

import runpy
from pathlib import Path

__all__: list[str] = []

# By its path and before all else: until it has run, `common` may be the user's.
pin = runpy.run_path(str(Path(__file__).absolute().parent / "common" / "pinning.py"))["pin"]


def main() -> None:
    """Entry point of the command `vicinal`."""
    from sims.cli import main as run  # noqa: PLC0415 - a program that imports vicinal needs no Typer

    run()


if __name__ == "__main__":
    main()
