"""Options of a fleet's rounds (`vicinal simulate --rounds`), and what is done with them."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from common.errors import InputError
from sims.commands.options import parse_share

if TYPE_CHECKING:  # heavy, and of no use until a command runs
    from common.report_privacy import ReportPrivacy
    from sims.evaluation.cell import Cell
    from sims.fleet.resources import Resources
    from sims.fleet.scenario import Scenario
    from sims.tracking.places import Places

_PANEL: Final = "Rounds (--rounds)"


def _option(name: str, help_text: str, **more: Any) -> Any:
    return typer.Option(name, help=help_text, rich_help_panel=_PANEL, **more)


@dataclass(frozen=True)
class RoundsFlags:
    """`--rounds`, and the options that go with it alone."""

    rounds: Annotated[
        int | None,
        _option(
            "--rounds",
            "Rounds, in each of which the server trains again and clients are asked.",
            min=2,
            max=1000,
        ),
    ] = None
    attack_from: Annotated[
        int | None,
        _option("--attack-from", "The first round with fakes; default: 1.", min=1),
    ] = None
    held_back: Annotated[
        str | None,
        _option(
            "--held-back",
            "Share of each user's ratings that arrive after the first round; default: 0.",
            metavar="SHARE",
        ),
    ] = None
    arrive: Annotated[
        str | None,
        _option(
            "--arrive",
            "Which ratings these are: random, or time: the user's newest; default: random.",
            metavar="HOW",
        ),
    ] = None
    retrain: Annotated[
        str | None,
        _option(
            "--retrain",
            "Whether plain training goes on from the version before: warm, or anew; default: warm.",
            metavar="HOW",
        ),
    ] = None
    absent: Annotated[
        str | None,
        _option(
            "--absent",
            "Share of clients that are not there in the first round; default: 0.",
            metavar="SHARE",
        ),
    ] = None
    leave: Annotated[
        str | None,
        _option(
            "--leave",
            "Chance of a client that is there to leave before a round; default: 0.",
            metavar="SHARE",
        ),
    ] = None
    appear: Annotated[
        str | None,
        _option(
            "--appear",
            "Chance of one that is not there to appear before a round; default: 0.",
            metavar="SHARE",
        ),
    ] = None
    fraction: Annotated[
        str | None,
        _option(
            "--fraction",
            "Share of the clients there that are asked in a round; default: all.",
            metavar="SHARE",
        ),
    ] = None
    in_process: Annotated[
        bool,
        _option("--in-process", "Answer without Flower; the counts are the same."),
    ] = False

    @property
    def asked_fraction(self) -> float:
        """Raises InputError."""
        share = parse_share("--fraction", self.fraction)
        if share == 0:
            raise InputError("--fraction 0: somebody has to be asked")
        return 1.0 if share is None else share

    def scenario(self) -> "Scenario | None":
        """None without --rounds. Raises InputError."""
        from server.fleet.run_config import checked
        from sims.fleet.scenario import Scenario

        if self.rounds is None:
            given = [name for name, value in vars(self).items() if value not in (None, False)]
            if given:
                name = given[0].replace("_", "-")
                raise InputError(f"--{name} is of several rounds: give --rounds, too")
            return None
        shares = {
            name: parse_share(f"--{name.replace('_', '-')}", getattr(self, name))
            for name in ("held_back", "absent", "leave", "appear")
        }
        asked = {
            "rounds": self.rounds,
            "attack_from": self.attack_from,
            "arrive": self.arrive,
            "retrain": self.retrain,
            **shares,
        }
        return checked(
            Scenario,
            {key.replace("_", "-"): value for key, value in asked.items() if value is not None},
            where="rounds",
        )


def simulate_rounds(
    flags: RoundsFlags,
    scenario: "Scenario",
    cell: "Cell",
    *,
    folder: Path,
    store: Path,
    clients: int,
    resources: "Resources",
    processes: int | None,
    privacy: "ReportPrivacy",
    min_replies: int,
    accept_failures: bool,
    fresh: bool,
    prepare_only: bool,
    json_file: Path | None,
    places: "Places",
) -> None:
    """Train and ask in rounds; write the history and its picture, and print them."""
    from rich.console import Console

    from common.files import make_folder, write_output
    from common.report_privacy import OPEN
    from server.model_store import ModelStore
    from sims.evaluation.experiment import prepare
    from sims.figures.history import history_figure
    from sims.figures.style import save
    from sims.fleet.history import JSON_FILE, history_of, history_table, write_history
    from sims.fleet.learning import trainer
    from sims.fleet.rounds import prepare_rounds, require_rounds
    from sims.fleet.run import command_line, run_rounds
    from sims.fleet.tallies import answered_here, tallies_of
    from sims.processes.lock import locked
    from sims.progress import shown

    require_rounds(cell)
    if flags.in_process and privacy != OPEN:
        raise InputError("--in-process sends no reports: leave out --report-privacy")
    prepared = prepare(cell.experiment)
    make_folder(folder)
    with locked(folder, " or choose another --folder"), shown() as progress:
        with ModelStore(store) as opened:
            rounds = prepare_rounds(
                folder,
                prepared,
                cell,
                opened,
                scenario,
                clients=clients,
                fraction=flags.asked_fraction,
                privacy=privacy,
                trainer=None
                if flags.in_process
                else trainer(folder / "learning", resources=resources, clients=clients),
                options={
                    "min-replies": min_replies,
                    "accept-failures": accept_failures,
                    "under-way": resources.under_way,
                },
                progress=progress,
            )
        if prepare_only:
            typer.echo(command_line(rounds.files, clients, resources))
            return
        if flags.in_process:
            tallies = answered_here(rounds, processes=processes, resume=not fresh, report=progress)
        else:
            result = run_rounds(rounds, resources=resources, resume=not fresh, report=progress)
            tallies = tallies_of(result)
    history = history_of(
        prepared,
        rounds,
        tallies,
        scenario,
        defense=cell.defense.name,
        preset=cell.preset,
        fraction=flags.asked_fraction,
    )
    write_history(folder, history)
    save(history_figure(history), folder / "history.svg")
    Console().print(history_table(history))
    typer.echo(f"history.json, history.parquet and history.svg are in {folder}")
    if json_file is not None:
        write_output(json_file, (folder / JSON_FILE).read_bytes())
    places.write(history.model_dump(mode="json", by_alias=True), kept=folder / JSON_FILE)
