"""Modules of the tests as processes of their own."""

import os
import sys
from pathlib import Path
from typing import Final

# Where they have to be started, so that Python finds the packages of this checkout.
ROOT: Final = Path(__file__).resolve().parents[2]
ENVIRONMENT: Final = {**os.environ, "OMP_NUM_THREADS": "1"}


def command(module: str, *arguments: str) -> list[str]:
    """`python -m MODULE …`, to be run in ROOT."""
    return [sys.executable, "-m", module, *arguments]
