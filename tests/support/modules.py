"""Modules of the tests as processes of their own."""

import os
from pathlib import Path
from typing import Final

from common.processes import module_command

ROOT: Final = Path(__file__).resolve().parents[2]
ENVIRONMENT: Final = {**os.environ, "OMP_NUM_THREADS": "1"}


def command(module: str, *arguments: str) -> list[str]:
    """`python -m MODULE …`, wherever it is run."""
    return module_command(module, *arguments)
