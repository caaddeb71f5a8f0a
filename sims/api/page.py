"""docs/api.md: each public name with its signature and what its docstring says.

What is written around those blocks, examples among it, is the page's own. tests/test_docs_api.py
holds the page to it, and writes it anew when run as `python -m tests.test_docs_api`.
"""

import inspect
import re
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any, Final

_BLOCK: Final = re.compile(r"^(## `(\w+)`\n\n```text\n).*?(^```)", re.DOTALL | re.MULTILINE)


def renewed(page: str, named: Callable[[str], Any]) -> str:
    """The page with every block as the code says now; `named` gives the object of a heading."""
    return _BLOCK.sub(lambda found: f"{found[1]}{block(found[2], named(found[2]))}{found[3]}", page)


def block(name: str, thing: Any) -> str:
    """Signature and docstring; of a class its public methods and properties, too."""
    if not inspect.isclass(thing):
        return f"{_signature(name, thing)}\n\n{inspect.getdoc(thing)}\n"
    base = f"({thing.__bases__[0].__name__})" if issubclass(thing, Exception) else ""
    parts = [f"class {name}{base}\n\n{inspect.getdoc(thing)}\n", *_members(thing)]
    return "\n".join(parts)


def _members(thing: type) -> Iterator[str]:
    for name, member in vars(thing).items():
        function = getattr(member, "__func__", member)
        if name.startswith("_"):
            continue
        if isinstance(member, property | cached_property):
            yield f".{name}\n{_indented(inspect.getdoc(member))}"
        elif inspect.isfunction(function):
            shown = f"{thing.__name__}.{name}" if isinstance(member, classmethod) else f".{name}"
            yield f"{_signature(shown, function)}\n{_indented(inspect.getdoc(function))}"


def _signature(name: str, function: Callable[..., Any]) -> str:
    """Without types; a line for each parameter where one line is too long for all."""
    signature = inspect.signature(function)
    parameters = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for parameter in signature.parameters.values()
        if parameter.name not in ("self", "cls")
    ]
    plain = signature.replace(parameters=parameters, return_annotation=inspect.Signature.empty)
    short = f"{name}{plain}".replace("'", '"')
    if len(short) <= 96:
        return short
    words = [str(parameter).replace("'", '"') for parameter in parameters]
    first = next(i for i, each in enumerate(parameters) if each.kind is each.KEYWORD_ONLY)
    words.insert(first, "*")
    return "\n".join([f"{name}(", *(f"    {word}," for word in words), ")"])


def _indented(text: str | None) -> str:
    lines = (text or "").splitlines()
    return "".join(f"    {line}".rstrip() + "\n" for line in lines)
