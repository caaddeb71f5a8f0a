"""The command `vicinal`, as a process: help, errors as one line, exit codes."""

import os
import platform
import re
import resource
import signal
import subprocess
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import pytest

from common.processes import core_count
from sims.cli import COMMANDS

ROOT = Path(__file__).resolve().parents[2]

# Adds a command `probe` whose body is BODY, as sims/commands/<name>.py would hold it.
PROBE = """
import os, sys, types
import typer
import sims.cli as cli

probe = types.ModuleType("sims.commands.probe")
probe.app = typer.Typer(add_completion=False)

@probe.app.command()
def main(name: str = "nobody", rest: list[str] = typer.Argument(None)) -> None:
    {body}

sys.modules["sims.commands.probe"] = probe
cli.COMMANDS["probe"] = cli.Command("sims.commands.probe", "Probe.")
cli.register("probe", cli.COMMANDS["probe"])
sys.argv[0] = "vicinal"
cli.main()
"""


def vicinal(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return _run([sys.executable, "-m", "sims.cli", *arguments], **environment)


def probe(body: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return _run([sys.executable, "-c", PROBE.format(body=body), *arguments])


def _run(command: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "100", **environment},
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=120,
    )


def test_help_lists_the_commands_in_order_and_fast() -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = vicinal("--help")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # Processor time: a busy machine does not add to it.
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert done.returncode == 0, done.stderr
    listed = re.findall(r"^[│\s]*([a-z]+)  +\S", done.stdout, flags=re.MULTILINE)
    assert list(COMMANDS) == listed
    assert seconds < 3, "torch alone takes longer to load; on an idle core this is 0.4 s"


def test_the_console_script_is_installed() -> None:
    done = _run([str(Path(sys.executable).parent / "vicinal"), "--version"])
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "vicinal 0.1.0")


def test_the_version_says_what_it_runs_on() -> None:
    first, system, libraries = vicinal("--version").stdout.splitlines()
    assert first == f"vicinal {version('vicinal')}"
    assert system.startswith(f"Python {platform.python_version()}, {platform.platform()}, ")
    assert system.endswith(f" {core_count()} cores")
    assert f"numpy {version('numpy')}, torch {version('torch')}, " in libraries


def test_without_a_command_help_is_shown() -> None:
    done = vicinal()
    assert done.returncode == 2
    assert "evaluate" in done.stdout + done.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_its_module(name: str) -> None:
    assert find_spec(COMMANDS[name].module) is not None


def test_an_unknown_command_names_the_nearest() -> None:
    done = vicinal("evalute")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("vicinal: error: ") and "'evaluate'" in done.stderr


def test_arguments_reach_the_command_untouched() -> None:
    done = probe("print(name, rest)", "probe", "--name", "ann", "x", "--", "--debug", "-k")
    assert (done.returncode, done.stdout) == (0, "ann ['x', '--debug', '-k']\n")


def test_a_command_shows_its_own_help() -> None:
    done = probe("pass", "probe", "--help")
    assert done.returncode == 0
    assert "vicinal probe [OPTIONS]" in done.stdout and "--name" in done.stdout


@pytest.mark.parametrize(
    ("body", "code", "line"),
    [
        ("from common.errors import InputError; raise InputError('say k')", 2, "error: say k"),
        ("from common.errors import VicinalError; raise VicinalError('no')", 1, "error: no"),
        (
            "from common.errors import InputError; raise InputError('a ' + chr(27) + ']0;x')",
            2,
            r"error: a \x1b]0;x",
        ),
        (
            "import errno; raise OSError(errno.ENOSPC, 'No space left on device', 'm.bin')",
            1,
            "error: m.bin: No space left on device; free some space and run it again",
        ),
        ("open('/nowhere/at/all')", 1, "error: /nowhere/at/all: No such file or directory"),
        (
            "import nowhere.at_all",
            1,
            "error: this needs nowhere, which is not installed here: pip install 'vicinal[all]'",
        ),
        (
            "import server.nowhere",
            1,
            "error: unexpected ModuleNotFoundError: No module named 'server.nowhere' (a bug; "
            "`vicinal --debug …` shows where)",
        ),
        ("raise KeyboardInterrupt", 130, "interrupted"),
        ("raise typer.Exit(3)", 3, None),
        (
            "raise ValueError('two\\nlines')",
            1,
            "error: unexpected ValueError: two lines (a bug; `vicinal --debug …` shows where)",
        ),
    ],
)
def test_what_fails_is_one_line_and_a_code(body: str, code: int, line: str | None) -> None:
    done = probe(body, "probe")
    assert (done.returncode, done.stderr) == (code, f"vicinal: {line}\n" if line else "")


def test_a_wrong_option_is_one_line() -> None:
    done = probe("pass", "probe", "--nmae", "x")
    assert done.returncode == 2
    assert done.stderr.startswith("vicinal: error: ") and done.stderr.count("\n") == 1
    assert "--name" in done.stderr and "`vicinal probe --help`" in done.stderr


def test_debug_adds_the_traceback() -> None:
    done = probe("raise ValueError('x')", "--debug", "probe")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("vicinal: error: unexpected ValueError: x")


def test_ctrl_c_ends_with_130() -> None:
    body = "import time; print('up', flush=True); time.sleep(60)"
    command = [sys.executable, "-c", PROBE.format(body=body), "probe"]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, "vicinal: interrupted\n")


def test_a_reader_that_leaves_is_no_error() -> None:
    body = "[print('x' * 1000) for _ in range(1000)]"
    command = [sys.executable, "-c", PROBE.format(body=body), "probe"]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(timeout=60) == 1


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_short_too_and_offers_no_completion(name: str) -> None:
    long, short = vicinal(name, "--help"), vicinal(name, "-h")
    assert (short.returncode, short.stdout) == (0, long.stdout)
    assert f"Usage: vicinal {name} " in short.stdout
    assert "completion" not in short.stdout


def test_the_short_options_stand_before_the_command() -> None:
    assert vicinal("-V").stdout == vicinal("--version").stdout
    assert "evaluate" in vicinal("-h").stdout
    assert "--seed" in vicinal("data", "describe", "-h").stdout


NOTES = (
    "from sims.progress import shown; report = shown(); "
    "report.__enter__()('count', 1, 1); report.__exit__(None, None, None); print('result'); "
    "raise OSError('broken')"
)


@pytest.mark.parametrize(
    ("options", "notes"), [((), "count …\ncount: done (1)\n"), (("-q",), ""), (("--quiet",), "")]
)
def test_quiet_leaves_results_and_errors(options: tuple[str, ...], notes: str) -> None:
    done = probe(NOTES, *options, "probe")
    assert (done.returncode, done.stdout) == (1, "result\n")
    assert done.stderr == f"{notes}vicinal: error: broken\n"


def test_processes_that_are_started_are_quiet_too() -> None:
    assert probe("print(os.environ['VICINAL_QUIET'])", "-q", "probe").stdout == "1\n"
    done = _run([sys.executable, "-c", PROBE.format(body=NOTES), "probe"], VICINAL_QUIET="1")
    assert (done.stdout, done.stderr) == ("result\n", "vicinal: error: broken\n")


def test_quiet_fetches_without_a_word(tmp_path: Path) -> None:
    nowhere = {
        "VICINAL_CACHE": str(tmp_path / "cache"),
        "HTTPS_PROXY": "http://127.0.0.1:9",
        "https_proxy": "http://127.0.0.1:9",
        "PIP_NO_INDEX": "1",
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_FIND_LINKS": str(tmp_path),
    }
    done = vicinal("--quiet", "data", "fetch", "ml-1m", **nowhere)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert done.stderr.startswith("vicinal: error: ml-1m: no source answered")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_an_output_of_another_encoding_is_written_to_the_end(encoding: str) -> None:
    done = vicinal("data", "describe", "synthetic:20x30", PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stderr) == (0, "")
    assert "1-5 in steps of 1" in done.stdout and "digest" in done.stdout


def test_what_no_encoding_can_say_is_spelled_out() -> None:
    body = r"print('a… α \udcff 日'); print('é', file=sys.stderr)"
    done = probe(body, "probe")
    assert (done.stdout, done.stderr) == ("a… α \\xff 日\n", "é\n")
    assert _run(
        [sys.executable, "-c", PROBE.format(body=body), "probe"], PYTHONIOENCODING="ascii"
    ).stdout == ("a... alpha \\xff ?\n")


COMPLETER = """
source "$1"
shift
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
registered=($(complete -p vicinal))
"${registered[-2]}" vicinal
echo "${COMPREPLY[@]}"
"""


@pytest.fixture
def shell(tmp_path: Path) -> dict[str, str]:
    """An environment for bash whose `vicinal` is this checkout's."""
    script = tmp_path / "vicinal"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m sims.cli "$@"\n')
    script.chmod(0o755)
    return {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "HOME": str(tmp_path),
    }


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        (["ev"], {"evaluate"}),
        ([""], set(COMMANDS)),
        (["--ver"], {"--version"}),
        (["evaluate", "--data"], {"--dataset"}),
        (["--quiet", "device", "--users", "1", "--sto"], {"--store", "--store-bytes"}),
        (["data", ""], {"fetch", "describe", "ids"}),
        (["data", "describe", "--sc"], {"--scale"}),
    ],
)
def test_bash_completes_commands_and_their_options(
    line: list[str], offered: set[str], shell: dict[str, str], tmp_path: Path
) -> None:
    # A second command keeps bash there: the shell is found among the process's parents.
    done = _run(["bash", "--norc", "-c", "vicinal --show-completion; exit $?"], **shell)
    assert done.returncode == 0, done.stderr
    (tmp_path / "script").write_text(done.stdout)
    command = ["bash", "--norc", "-c", COMPLETER, "bash", str(tmp_path / "script"), "vicinal"]
    done = _run([*command, *line], **shell)
    assert (set(done.stdout.split()), done.stderr) == (offered, "")


def test_completion_is_installed_for_the_next_shell(shell: dict[str, str], tmp_path: Path) -> None:
    done = _run(["bash", "--norc", "-c", "vicinal --install-completion; exit $?"], **shell)
    assert (done.returncode, done.stderr) == (0, "")
    command = f'source "{tmp_path}/.bashrc"; complete -p vicinal'
    assert "vicinal" in _run(["bash", "--norc", "-c", command], **shell).stdout


def test_an_interrupt_before_the_command_line_is_there_is_one_line_too() -> None:
    code = (
        "import sys, types, vicinal\n"
        "class Loading(types.ModuleType):\n"
        "    def __getattr__(self, name):\n"
        "        raise KeyboardInterrupt\n"
        "sys.modules['sims.cli'] = Loading('sims.cli')\n"
        "vicinal.main()\n"
    )
    done = _run([sys.executable, "-c", code])
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "vicinal: interrupted\n")
