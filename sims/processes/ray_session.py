"""Ray: of our own, quiet, closed to others and gone afterwards; or a cluster that is there."""

import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from inspect import isgeneratorfunction
from pathlib import Path
from typing import Any, Final

from common.errors import VicinalError
from common.processes import ROOT, Pinned
from sims.processes.marked import (
    interruptible,
    interrupts_put_off,
    stop_processes,
    uninterrupted,
)

LIBRARY: Final = "ray"
STOP_SECONDS: Final = 5
OBJECT_STORE_BYTES: Final = 100 << 20  # a task's arguments and answers are a few kilobytes
_MARK: Final = "VICINAL_RAY"
# Read when ray is imported and by the processes that it starts.
_ENVIRONMENT: Final = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # else a warning about a default to come
    "RAY_DEDUP_LOGS": "0",
    "NO_PROXY": "127.0.0.1,localhost",
    "no_proxy": "127.0.0.1,localhost",
}


def _imported() -> Any:
    """Ray, which takes seconds and reads the environment. Raises VicinalError."""
    try:
        # By a name: `evaluate` is there without it.
        return import_module(LIBRARY)
    except ModuleNotFoundError:
        raise VicinalError(
            "this needs ray, which is not installed here: pip install 'vicinal[all]'"
        ) from None


@contextmanager
def ray_session(*, processes: int, address: str | None = None) -> Iterator[Any]:
    """The module ray, connected: to `address`, or to a Ray of `processes` that is stopped again.

    Raises VicinalError when Ray does not start or is not reached.
    """
    mark = secrets.token_hex(8)
    # For what `shipped` pins. Ray puts the driver's folder before it.
    path = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), ROOT]))
    added = {**_ENVIRONMENT, _MARK: mark, "PYTHONPATH": path}
    if address is None:
        # Ray listens on all interfaces and runs what it is sent: only from us.
        added |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": _token()}
    before = {name: os.environ.get(name) for name in added}
    os.environ.update(added)
    # Sockets lie below it, and a socket's path must be short.
    folder = tempfile.mkdtemp(prefix="vicinal-", dir="/tmp" if Path("/tmp").is_dir() else None)
    try:
        # Half an import or half a start could not be stopped again.
        with interrupts_put_off():
            ray = _imported()

            quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "CRITICAL"}
            own = {
                "num_cpus": processes,
                "num_gpus": 0,
                "include_dashboard": False,
                "object_store_memory": OBJECT_STORE_BYTES,
                "_temp_dir": folder,
            }
            try:
                ray.init(
                    **({"address": address} if address else {**own, "address": "local"}), **quiet
                )
            except Exception as error:
                reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
                where = f"no Ray at {address}" if address else "Ray did not start"
                raise VicinalError(f"{where}: {reason}") from error
        # After ray.init, which sets a handler of its own.
        with interruptible():
            yield ray
    finally:
        with uninterrupted():
            _stop(mark)
            shutil.rmtree(folder, ignore_errors=True)
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})


def shipped(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of ours as Ray's workers find it, in whatever folder the driver was started.

    Ray pickles a function inside another by its contents, before its arguments.
    """
    pinned = Pinned(function)

    def task(*arguments: Any) -> Any:
        return pinned(*arguments)

    def tasks(*arguments: Any) -> Iterator[Any]:
        yield from pinned(*arguments)

    return tasks if isgeneratorfunction(function) else task


@cache
def _token() -> str:
    # One for all sessions of this process, because Ray reads it once.
    return secrets.token_hex(32)


def _stop(mark: str) -> None:
    ray = _imported()

    ray.shutdown()
    stop_processes(f"{_MARK}={mark}", grace=STOP_SECONDS)
