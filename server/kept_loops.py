"""Where numba finds loops that were compiled already, for a copy of this code elsewhere.

Flower unpacks an app anew for every run. numba keeps what it has compiled beside the source, so
each run would compile everything again, which takes seconds. The variable SOURCES names the folder
of the code that was copied; what is kept there belongs to a source of the same content, as numba
checks itself. numba is told by NUMBA_CACHE_LOCATOR_CLASSES to ask here first.
"""

import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Self

from numba.core.caching import InTreeCacheLocator

SOURCES: Final = "VICINAL_SOURCES"


class CopiedFrom(InTreeCacheLocator):
    """Of a function in one of our modules."""

    @classmethod
    def from_function(cls, py_func: Callable[..., Any], py_file: str) -> Self | None:
        """None where the same source is not there, or nothing can be kept beside it."""
        folder = os.environ.get(SOURCES)
        module = inspect.getmodulename(py_file)
        if not folder or module is None:
            return None
        original = Path(folder, *py_func.__module__.split(".")).with_suffix(".py")
        try:
            if original.read_bytes() != Path(py_file).read_bytes():
                return None
            found = cls(py_func, py_file)
            found._cache_path = str(original.with_name("__pycache__"))
            found.ensure_cache_path()  # type: ignore[no-untyped-call]
        except OSError:
            return None
        return found


def environment(sources: Path) -> dict[str, str]:
    """Of processes that run a copy of the code in a folder."""
    ours = f"{CopiedFrom.__module__}.{CopiedFrom.__qualname__}"
    rest = ("UserProvidedCacheLocator", "InTreeCacheLocator", "UserWideCacheLocator")
    return {SOURCES: str(sources), "NUMBA_CACHE_LOCATOR_CLASSES": ",".join((ours, *rest))}
