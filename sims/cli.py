"""The command `vicinal`.

A command is one line in COMMANDS and one module in sims/commands that exposes a Typer app
named `app`. An app with one command is invoked by the name in COMMANDS alone
(`vicinal evaluate …`), an app with several by that name and theirs (`vicinal data fetch …`).
A module is imported when its command runs, so that `vicinal --help` answers at once.

Exit codes: 0 done, 1 failed, 2 bad input, 130 interrupted. What fails ends in one line on
stderr that says what to do; `vicinal --debug …` prints the traceback before it.

typer brings its own click since 0.26 and needs the real one before: nothing here imports click.
"""

import errno
import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated, Final, NamedTuple, cast

import typer
from typer.core import TyperGroup

from common.errors import VicinalError
from common.processes import core_count
from common.text import one_line
from common.threads import limit_threads
from sims.commands.help import command_of
from sims.recorded import installed_versions
from sims.terminal import QUIET, set_quiet, write_anything

INTERRUPTED = 130
OUR_PACKAGES = ("common", "server", "client", "sims")
# What a shell sets when it asks for completions: the question, and the line so far.
COMPLETE: Final = "_VICINAL_COMPLETE"
# Of an error: a list of all columns of a file is long, too.
MOST_OF_LINE: Final = 4000
LINES: Final = ("COMP_WORDS", "_TYPER_COMPLETE_ARGS")
# What typer raises for a wrong command line, whichever click it comes from.
_CommandLineError = cast(
    "type[typer.BadParameter]",
    next(base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException"),
)


class Command(NamedTuple):
    """Where a command's app is, its line in `vicinal --help`, and the extra that it needs."""

    module: str
    summary: str
    extra: str = "all"


COMMANDS = {
    "demo": Command(
        "sims.commands.demo",
        "The whole path with real processes: poison, train, defend on devices, compare.",
    ),
    "data": Command("sims.commands.data", "Fetch or describe a data set of ratings.", "server"),
    "model": Command(
        "sims.commands.model",
        "Bring in a model that another library trained, to serve and measure it here.",
        "server",
    ),
    "attack": Command(
        "sims.commands.attack", "Write a profiles file: the ratings of fake users.", "server"
    ),
    "evaluate": Command(
        "sims.commands.evaluate",
        "Measure one attack against one defense on one data set.",
        "server",
    ),
    "compare": Command(
        "sims.commands.compare", "Test whether two results of the same users differ.", "server"
    ),
    "certify": Command(
        "sims.commands.certify", "Say what fakes cannot promote, whatever they rate.", "server"
    ),
    "audit": Command(
        "sims.commands.audit", "Say what a release gives away of its users.", "server"
    ),
    "grid": Command(
        "sims.commands.grid", "Measure many cells in parallel; tables with the paper's numbers."
    ),
    "figure": Command("sims.commands.figure", "Draw a picture of results, as PNG or SVG."),
    "report": Command(
        "sims.commands.report", "Write one page of a grid or a run that can be handed on."
    ),
    "track": Command(
        "sims.commands.track", "Write results to MLflow or TensorBoard afterwards.", "track"
    ),
    "serve": Command(
        "sims.commands.serve", "Run the gRPC server that ships offload packages.", "server"
    ),
    "gateway": Command(
        "sims.commands.gateway", "Answer HTTP requests with what a server recommends.", "gateway"
    ),
    "device": Command("sims.commands.device", "Run users' devices against a server.", "server"),
    "certs": Command(
        "sims.commands.certs",
        "Make certificates for a server and devices, for development.",
        "server",
    ),
    "token": Command(
        "sims.commands.token",
        "Print a token that binds a device to its users, or an operator's.",
        "server",
    ),
    "tally": Command(
        "sims.commands.tally", "Say what devices reported, and what liars can move.", "server"
    ),
    "simulate": Command("sims.commands.simulate", "Run a fleet of clients in Flower's simulation."),
    "cluster": Command(
        "sims.commands.cluster", "Run several servers that are one on this machine, and kill one."
    ),
    "fleet": Command(
        "sims.commands.fleet", "Deploy a fleet with Flower on this machine, and check its tally."
    ),
    "latency": Command(
        "sims.commands.latency", "Measure answers of the server against answers of devices."
    ),
}

app = typer.Typer(
    name="vicinal",
    help="Real-time Vicinal Defense: repair a poisoned recommender at inference, user by user.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["--help", "-h"]},
    pretty_exceptions_enable=False,
    suggest_commands=_CommandLineError.__module__.startswith("typer."),  # click's own suggest
)


def _print_version(context: typer.Context, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        found = installed_versions()
        system = f"Python {found.pop('python')}, {found.pop('system')}"
        typer.echo(f"vicinal {found.pop('vicinal')}\n{system}, {core_count()} cores")
        typer.echo(", ".join(f"{name} {number}" for name, number in found.items()))
        raise typer.Exit


@app.callback()
def _global_options(
    debug: Annotated[
        bool, typer.Option("--debug", help="Print the traceback of what fails.")
    ] = False,
    quiet: Annotated[
        bool,
        typer.Option(
            "--quiet", "-q", envvar=QUIET, help="No progress and no notes: results and errors."
        ),
    ] = False,
    show_version: Annotated[
        bool,
        typer.Option(
            "--version",
            "-V",
            callback=_print_version,
            is_eager=True,
            help="Print the version and what it runs on, and exit.",
        ),
    ] = False,
) -> None:
    """Options that stand before the command; `run` reads `debug` from the context."""
    set_quiet(quiet)


def register(name: str, entry: Command) -> None:
    """Add a stand-in for a command, which hands every argument on to the module's own app."""

    def load_and_invoke(context: typer.Context) -> None:
        try:
            command = command_of(entry.module)
            with command.make_context(name, list(context.args), parent=context.parent) as inner:
                command.invoke(inner)
        except ModuleNotFoundError as error:
            package = (error.name or "").partition(".")[0]
            if package in OUR_PACKAGES:
                raise
            raise VicinalError(
                f"this needs {package}, which is not installed here: "
                f"pip install 'vicinal[{entry.extra}]'"
            ) from error

    app.command(
        name,
        help=entry.summary,
        add_help_option=False,
        context_settings={
            "allow_extra_args": True,
            "allow_interspersed_args": False,
            "ignore_unknown_options": True,
        },
    )(load_and_invoke)


for _name, _entry in COMMANDS.items():
    register(_name, _entry)


def complete() -> None:
    """Answer a shell that asks for completions, and exit.

    The stand-ins know no options: those on the line give way to the commands themselves.
    """
    root = typer.main.get_command(app)
    words = {word for name in LINES for word in os.environ.get(name, "").split()}
    if isinstance(root, TyperGroup):
        for name in words & COMMANDS.keys():
            root.commands[name] = command_of(COMMANDS[name].module)
    root.main([], prog_name="vicinal")


def _usage_line(error: typer.BadParameter) -> str:
    context = getattr(error, "ctx", None)
    path = context.command_path if context else "vicinal"
    return f"{error.format_message().rstrip('.')} (see `{path} --help`)"


def _system_line(error: OSError) -> str:
    reason = error.strerror or str(error) or type(error).__name__
    if error.errno == errno.ENOSPC:
        reason += "; free some space and run it again"
    return f"{error.filename}: {reason}" if error.filename else reason


def _fail(error: BaseException, line: str, code: int, *, debug: bool) -> int:
    if debug:
        traceback.print_exception(error)
    typer.echo(f"vicinal: {one_line(line, MOST_OF_LINE)}", err=True)
    return code


def run(arguments: Sequence[str]) -> int:
    """Run the command that `arguments` (without the program's name) ask for; its exit code."""
    limit_threads()
    root = typer.main.get_command(app)
    debug = False
    try:
        with root.make_context("vicinal", list(arguments)) as context:
            debug = bool(context.params["debug"])
            root.invoke(context)
    except typer.Exit as error:
        return error.exit_code
    except _CommandLineError as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            error.show()
            return error.exit_code
        return _fail(error, f"error: {_usage_line(error)}", error.exit_code, debug=debug)
    except (KeyboardInterrupt, typer.Abort) as error:
        return _fail(error, "interrupted", INTERRUPTED, debug=debug)
    except VicinalError as error:
        return _fail(error, f"error: {error}", error.exit_code, debug=debug)
    except BrokenPipeError:
        # Whoever read the output has left; Python's own flush at exit must not complain either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        return _fail(error, f"error: {_system_line(error)}", 1, debug=debug)
    except Exception as error:  # noqa: BLE001 - the last stop: a line, not a traceback
        name = type(error).__name__
        line = f"error: unexpected {name}: {error} (a bug; `vicinal --debug …` shows where)"
        return _fail(error, line, 1, debug=debug)
    return 0


def main() -> None:
    """Entry point of the console script."""
    write_anything()
    if COMPLETE in os.environ:
        complete()
    code = run(sys.argv[1:])
    if code == INTERRUPTED:
        # A library that was broken off, Ray say, might crash in the interpreter's own end.
        with suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    main()
