"""Functions in a user's files, named `PATH.py:FUNCTION`: an attack or a model of one's own.

`resolved` makes such a name absolute and adds what the file holds, `PATH.py:FUNCTION#DIGEST`, so
that another process finds the same code or says that it has changed. `label` is what is shown.
"""

import hashlib
import importlib.util
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

from common.errors import InputError
from common.names import nearest

MAX_BYTES: Final = 4 << 20
DIGEST_LENGTH: Final = 12
# Imported while a file loads, these may lie beside it and must stay.
OURS: Final = ("common", "server", "client", "sims", "benchmarks", "tests", "vicinal")
_NAME: Final = re.compile(r"(.+\.py):([^:#/]*)(?:#([0-9a-f]{12}))?", re.DOTALL)


class Name(NamedTuple):
    """The parts of a name; digest is empty in one that is not resolved."""

    path: Path
    function: str
    digest: str

    @property
    def label(self) -> str:
        """`bandwagon.py:bandwagon`, wherever the file lies."""
        return f"{self.path.name}:{self.function}"


def is_function(name: str) -> bool:
    """Whether it names a function in a file, or was meant to.

    >>> is_function("bandwagon.py:bandwagon"), is_function("bandwagon.py"), is_function("mixrand")
    (True, True, False)
    """
    return not name.startswith("file:") and (
        name.endswith(".py") or _NAME.fullmatch(name) is not None
    )


def label(name: str) -> str:
    """What is shown of any name: of a function its file and its own name, others as they are.

    >>> label("/home/me/bandwagon.py:bandwagon#0123456789ab"), label("mixrand")
    ('bandwagon.py:bandwagon', 'mixrand')
    """
    return _parsed(name).label if _NAME.fullmatch(name) else name


def function_name(name: str) -> str:
    """The function's own name, or the whole of another name: what its random numbers hang on.

    >>> function_name("/home/me/bandwagon.py:bandwagon#0123456789ab"), function_name("mixrand")
    ('bandwagon', 'mixrand')
    """
    return _parsed(name).function if _NAME.fullmatch(name) else name


def stable(name: str) -> str:
    """A resolved name without the folder: the same for the same code, wherever it lies.

    >>> stable("/home/me/bandwagon.py:bandwagon#0123456789ab"), stable("mixrand")
    ('bandwagon.py:bandwagon#0123456789ab', 'mixrand')
    """
    matched = _NAME.fullmatch(name)
    return f"{label(name)}#{matched[3]}" if matched and matched[3] else name


def digest_of(name: str) -> str:
    """Of a resolved name, what tells its file's content; empty for others.

    >>> digest_of("/home/me/bandwagon.py:bandwagon#0123456789ab"), digest_of("mixrand")
    ('0123456789ab', '')
    """
    return _parsed(name).digest if _NAME.fullmatch(name) else ""


def resolved(name: str, folder: Path | None = None) -> str:
    """Absolute, and with the file's digest; other names as they are.

    folder  that relative paths start from; the current one unless given. Raises InputError.
    """
    if not is_function(name):
        return name
    parsed = _parsed(name)
    path = Path.cwd().joinpath(folder or "", parsed.path)
    return f"{path}:{parsed.function}#{parsed.digest or _digest(_read(path, parsed))}"


def load_function(name: str, what: str) -> Callable[..., Any]:
    """The function; `what` it is (attack, model) begins every message.

    While the file is loaded, modules beside it can be imported. Raises InputError for a file that
    is not there, does not load or is not the one that the digest tells, for a function that it does
    not have, and for what cannot be called.
    """
    parsed = _parsed(name)
    shown = f"{what} {parsed.label}"
    try:
        data = _read(parsed.path, parsed)
    except InputError as error:
        raise InputError(f"{what} {error}") from None
    digest = _digest(data)
    if parsed.digest and parsed.digest != digest:
        raise InputError(f"{shown}: {parsed.path} has changed since it was named: start again")
    module = _loaded(parsed.path.absolute(), data, digest, shown)
    functions = [
        key
        for key, value in vars(module).items()
        if callable(value) and getattr(value, "__module__", None) == module.__name__
    ]
    if not hasattr(module, parsed.function):
        near = nearest(parsed.function, functions)
        hint = f"did you mean {near}? " if near else ""
        has = ", ".join(functions[:20]) or "no function"
        raise InputError(f"{shown}: no such function in {parsed.path}: {hint}it has {has}")
    function = getattr(module, parsed.function)
    if not callable(function):
        raise InputError(f"{shown}: is a {type(function).__name__}, not a function")
    found: Callable[..., Any] = function
    return found


def failure(error: BaseException, file: str | None) -> str:
    """What an exception of a user's code says, and in which line of it.

    file  the code's; None takes the innermost line
    """
    frames = [(name, number) for name, number in _frames(error) if file in (None, name)]
    where = f" in {Path(frames[-1][0]).name} line {frames[-1][1]}" if frames else ""
    reason = " ".join(str(error).split())[:300]
    return f"{type(error).__name__}{where}{': ' if reason else ''}{reason}"


def _frames(error: BaseException) -> Iterator[tuple[str, int]]:
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        yield error.filename, error.lineno
        return
    for frame, number in traceback.walk_tb(error.__traceback__):
        yield frame.f_code.co_filename, number


def _parsed(name: str) -> Name:
    matched = _NAME.fullmatch(name)
    if not matched or not matched[2].isidentifier():
        file = name.partition(".py")[0] + ".py"
        raise InputError(f"{name!r}: name the function too, as in {Path(file).name}:FUNCTION")
    return Name(Path(matched[1]).expanduser(), matched[2], matched[3] or "")


def _read(path: Path, parsed: Name) -> bytes:
    try:
        with path.open("rb") as opened:
            data = opened.read(MAX_BYTES + 1)
    except OSError as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else error.strerror
        raise InputError(f"{parsed.label}: {path}: {reason}") from None
    if len(data) > MAX_BYTES:
        raise InputError(f"{parsed.label}: {path}: larger than a file of Python can be")
    return data


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:DIGEST_LENGTH]


def _loaded(path: Path, data: bytes, digest: str, shown: str) -> Any:
    # Kept under a name of its own, where dataclasses and pickle look it up.
    name = f"vicinal_own_{path.stem}_{digest}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    with _importable(path.parent):
        sys.modules[name] = module
        try:
            # What the digest tells, though the file may change meanwhile.
            exec(compile(data, str(path), "exec"), vars(module))
        except (Exception, SystemExit) as error:
            del sys.modules[name]
            raise InputError(f"{shown}: does not load: {failure(error, str(path))}") from error
    return module


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Let modules of a folder be imported; afterwards another folder may have some so named."""
    before = set(sys.modules)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        with suppress(ValueError):
            sys.path.remove(str(folder))
        for name in set(sys.modules) - before:
            top = name.partition(".")[0]
            if top not in OURS and top not in before and _lies_in(folder, sys.modules.get(top)):
                del sys.modules[name]


def _lies_in(folder: Path, module: object) -> bool:
    """Whether a top-level module is a file or a folder right there, and nothing installed below."""
    file = getattr(module, "__file__", None)
    if file is None:
        return False
    path = Path(file)
    return folder == (path.parent.parent if path.name == "__init__.py" else path.parent)
