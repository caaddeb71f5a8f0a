"""Ray: of our own, quiet, closed to others and gone afterwards; or a cluster that is there."""

import os
import re
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

import grpc

from common.errors import InputError, VicinalError
from common.processes import ROOT, Pinned
from common.text import one_line
from sims.processes.marked import (
    interruptible,
    interrupts_put_off,
    stop_processes,
    uninterrupted,
)

LIBRARY: Final = "ray"
STOP_SECONDS: Final = 5
OBJECT_STORE_BYTES: Final = 100 << 20  # a task's arguments and answers are a few kilobytes
# Until a cluster says that it is there.
REACHED_SECONDS: Final = 10.0
MOST_PORT: Final = 65535
_ADDRESS: Final = re.compile(r"[A-Za-z0-9._-]{1,253}:[0-9]{1,5}|\[[0-9a-fA-F:.]{2,45}\]:[0-9]{1,5}")
# Answered by the head of a cluster, without a token by a refusal.
_ALIVE: Final = "/ray.rpc.NodeInfoGcsService/CheckAlive"
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
def ray_session(
    *, processes: int, address: str | None = None, gpus: int | None = 0
) -> Iterator[Any]:
    """The module ray, connected: to `address`, or to a Ray of `processes` that is stopped again.

    gpus  that a Ray of this machine may use; None: those that it finds

    Raises InputError where there is no Ray at the address, VicinalError when one does not start.
    """
    if address is not None:
        require_ray(address)
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
                "num_gpus": gpus,
                "include_dashboard": False,
                "object_store_memory": OBJECT_STORE_BYTES,
                "_temp_dir": folder,
            }
            try:
                _forget_token(ray)
                ray.init(
                    **({"address": address} if address else {**own, "address": "local"}), **quiet
                )
            except Exception as error:
                reason = one_line(str(error).strip() or repr(error))
                if address is not None:
                    raise InputError(f"Ray at {address}: {reason}") from error
                raise VicinalError(f"Ray did not start: {reason}") from error
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


def require_ray(address: str) -> None:
    """Raises InputError where no Ray answers: ray.init would wait for one, and hear no Ctrl-C."""
    # gRPC takes a port's last 16 bits.
    if not _ADDRESS.fullmatch(address) or int(address.rpartition(":")[2]) > MOST_PORT:
        raise InputError(f"no Ray at {address!r:.80}: give HOST:PORT of its head, as 10.0.0.1:6379")
    options = [("grpc.enable_http_proxy", 0)]
    with grpc.insecure_channel(address, options=options) as channel:
        ask = channel.unary_unary(_ALIVE)
        try:
            ask(b"", timeout=REACHED_SECONDS)
        except grpc.RpcError as error:
            code = error.code() if isinstance(error, grpc.Call) else grpc.StatusCode.UNKNOWN
            if code is not grpc.StatusCode.UNAUTHENTICATED:
                reason = one_line(error.details() or code.name)
                raise InputError(f"no Ray at {address}: {reason}") from error


def _forget_token(ray: Any) -> None:
    """Let Ray read its token anew, which it does once in a process.

    Without this, a process that was connected to another cluster has that one's token, or none.
    """
    ray._raylet.AuthenticationTokenLoader.instance().reset_cache()
    ray._raylet.Config.initialize("")


@cache
def _token() -> str:
    # One for all sessions of this process: what runs of an earlier one must not be locked out.
    return secrets.token_hex(32)


def _stop(mark: str) -> None:
    ray = _imported()

    ray.shutdown()
    stop_processes(f"{_MARK}={mark}", grace=STOP_SECONDS)
