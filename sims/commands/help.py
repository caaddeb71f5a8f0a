"""What the commands declare on the command line, and their help made readable.

typer keeps the line breaks of a docstring's later paragraphs, writes types and ranges in its own
words, which differ between its versions, takes `synthetic[:UxI[xN]]` for markup and, before 0.26
with click 8.5, loses the help of arguments. `command_of` mends that for every command at once.
"""

import inspect
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple, get_args, get_origin, get_type_hints

import typer
from rich.markup import escape
from typer.core import TyperGroup
from typer.models import ArgumentInfo, OptionInfo

# What stands for a value in the help, by its type; a flag takes none.
METAVARS: Final[dict[type, str]] = {int: "N", float: "X", str: "TEXT", Path: "PATH"}


class Declared(NamedTuple):
    """One option or argument of a command: its type, what typer is told of it, and its default.

    default is inspect.Parameter.empty for one that has to be given
    """

    name: str
    annotation: Any
    info: OptionInfo | ArgumentInfo
    default: Any

    @property
    def spellings(self) -> list[str]:
        """As one writes it: `--output`, `-o`; of an argument its metavar."""
        if isinstance(self.info, ArgumentInfo):
            return [self.metavar]
        # typer keeps the first of them where defaults once stood.
        given = [self.info.default, *(self.info.param_decls or ())]
        names = [name for name in given if isinstance(name, str) and name.startswith("-")]
        names.sort(key=lambda name: not name.startswith("--"))
        return names or [f"--{self.name.replace('_', '-')}"]

    @property
    def value_type(self) -> type:
        """Of one value: int of `list[int] | None`."""
        kind = self.annotation
        while parts := [part for part in get_args(kind) if part is not type(None)]:
            (kind,) = parts
        found: type = kind
        return found

    @property
    def metavar(self) -> str:
        """What stands for a value; empty for a flag."""
        if self.info.metavar:
            return self.info.metavar
        if isinstance(self.info, ArgumentInfo):
            return self.name.upper()
        if self.value_type is Path and not self.info.dir_okay:
            return "FILE"
        return METAVARS.get(self.value_type, "")


def declared(command: Callable[..., Any]) -> Iterator[Declared]:
    """What a command's function takes from the command line, in order."""
    function = inspect.unwrap(command)
    hints = get_type_hints(function, include_extras=True)
    for name, parameter in inspect.signature(function).parameters.items():
        hint = hints.get(name)
        if get_origin(hint) is not Annotated:
            continue
        kind, *notes = get_args(hint)
        for info in notes:
            if isinstance(info, OptionInfo | ArgumentInfo):
                yield Declared(name, kind, info, parameter.default)


def command_of(module: str) -> Any:
    """The command of a module that exposes an `app`, as typer makes it, with readable help."""
    command = typer.main.get_command(import_module(module).app)
    parts = command.commands.values() if isinstance(command, TyperGroup) else ()
    for part in (command, *parts):
        _mend(part)
    return command


def flowing(text: str) -> str:
    r"""A docstring's paragraphs in a line each, for the terminal to break.

    >>> flowing("First\n    line.\n\n    Second\n    paragraph.")
    'First line.\n\nSecond paragraph.'
    """
    return "\n\n".join(" ".join(part.split()) for part in inspect.cleandoc(text).split("\n\n"))


def _mend(command: Any) -> None:
    if command.help:
        command.help = escape(flowing(command.help))
    if command.callback is None:
        return
    told = {one.name: one for one in declared(command.callback)}
    for parameter in command.params:
        if (one := told.get(parameter.name)) is not None:
            parameter.help = escape(one.info.help or "")
            parameter.metavar = one.metavar or None
