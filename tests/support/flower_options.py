"""The options of Flower's programs, to compare with what pages and messages name."""

from functools import cache
from typing import Any

import typer
from flwr.cli.app import app as flwr
from flwr.superlink.cli.flower_superlink import _parse_args_run_superlink
from flwr.supernode.cli.flower_supernode import _parse_args_run_supernode


@cache
def flower_options() -> set[str]:
    """All of Flower's programs: `flwr` and its commands, the SuperLink and the SuperNode."""
    found = {"--help", "-h"}
    for parser in (_parse_args_run_superlink(), _parse_args_run_supernode()):
        found |= set(parser._option_string_actions)
    waiting: list[Any] = [typer.main.get_command(flwr)]
    while waiting:
        command = waiting.pop()
        found |= {name for each in command.params for name in each.opts}
        waiting += getattr(command, "commands", {}).values()
    return found
