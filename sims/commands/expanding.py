"""A command's dataclass of options, as options of its own."""

import inspect
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints


def expanded(
    *, without: tuple[str, ...] = (), **defaults: Any
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Let a command take a dataclass of options as one parameter.

    On the command line each of its fields is an option of its own. `defaults` are of this command,
    where they differ from the dataclass's; `without` are fields that are no options of it.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        hints = get_type_hints(command, include_extras=True)
        parameters: list[inspect.Parameter] = []
        grouped: dict[str, tuple[Any, list[str]]] = {}
        for name, parameter in inspect.signature(command).parameters.items():
            kind: Any = hints[name]
            if not is_dataclass(kind):
                parameters.append(_keyword(name, kind, parameter.default))
                continue
            types = get_type_hints(kind, include_extras=True)
            wanted = [field for field in fields(kind) if field.name not in without]
            grouped[name] = kind, [field.name for field in wanted]
            parameters += [
                _keyword(field.name, types[field.name], defaults.pop(field.name, field.default))
                for field in wanted
            ]
        if defaults:
            raise TypeError(f"{command.__name__} has no options {', '.join(defaults)}")

        def flat(**given: Any) -> None:
            for name, (kind, names) in grouped.items():
                given[name] = kind(**{each: given.pop(each) for each in names})
            command(**given)

        flat.__name__, flat.__doc__ = command.__name__, command.__doc__
        flat.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        flat.__annotations__ = {each.name: each.annotation for each in parameters}
        return flat

    return decorate


def _keyword(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
    )
