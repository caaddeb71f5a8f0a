"""Options of how the model is trained: in one place, or by a fleet of clients.

What is not given stays as server.federated.settings has it.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from common.errors import InputError
from sims.commands.options import parse_share

if TYPE_CHECKING:  # heavy, and of no use until a command runs
    from sims.federated.model import FleetTraining

_PANEL: Final = "Training in a fleet (--train federated)"


def _option(name: str, help_text: str, **more: Any) -> Any:
    return typer.Option(name, help=help_text, rich_help_panel=_PANEL, **more)


@dataclass(frozen=True)
class TrainingFlags:
    """`--train`, and the options that go with `--train federated` alone."""

    train: Annotated[
        str,
        typer.Option(
            "--train",
            help="Where the model is trained: central, or federated: clients keep their ratings "
            "and send updates of mf's items (docs/how-to/federated.md).",
            metavar="WHERE",
        ),
    ] = "central"
    aggregate: Annotated[
        str | None,
        _option(
            "--aggregate",
            "How updates are put together: fedavg median trimmed-mean krum multikrum bulyan; "
            "default: fedavg.",
            metavar="NAME",
        ),
    ] = None
    update_attack: Annotated[
        str | None,
        _option(
            "--update-attack",
            "What malicious clients send: pipattack fedrecattack pieck-ipe pieck-uea, or none; "
            "with --attack its fakes are the malicious clients; default: none.",
            metavar="NAME",
        ),
    ] = None
    update_attack_option: Annotated[
        list[str] | None,
        _option(
            "--update-attack-option",
            "An option of the update attack, as mined=20; repeat for several.",
            metavar="NAME=VALUE",
        ),
    ] = None
    malicious_share: Annotated[
        str | None,
        _option(
            "--malicious-share",
            "Malicious clients as a share of the users, with --attack none; default: 3%.",
            metavar="SHARE",
        ),
    ] = None
    training_rounds: Annotated[
        int | None,
        _option("--training-rounds", "Rounds of training; default: 40.", min=1, max=100_000),
    ] = None
    clients_per_round: Annotated[
        int | None,
        _option("--clients-per-round", "Clients asked in a round; default: 256.", min=1),
    ] = None
    local_steps: Annotated[
        int | None,
        _option("--local-steps", "Steps of a client in a round; default: 1.", min=1, max=1000),
    ] = None
    local_rate: Annotated[
        float | None, _option("--local-rate", "Rate of those steps, of items; default: 1.")
    ] = None

    unrated_drawn: Annotated[
        float | None,
        _option(
            "--unrated-drawn",
            "Items not rated that a client draws for each of its ratings; default: 8; 0 fits the "
            "ratings alone.",
        ),
    ] = None

    def fleet(self, attack: str) -> "FleetTraining | None":
        """None for central training. `attack` is of the ratings, by name. Raises InputError."""
        from common.names import unknown
        from sims.federated.model import CENTRAL, FEDERATED

        if self.train not in (CENTRAL, FEDERATED):
            raise unknown("training", self.train, (CENTRAL, FEDERATED))
        given = {
            name: value
            for name, value in vars(self).items()
            if name != "train" and value not in (None, [])
        }
        if self.train == CENTRAL:
            if given:
                name = next(iter(given)).replace("_", "-")
                raise InputError(f"--{name} is of a fleet: give --train federated, too")
            return None
        return _fleet(self, attack)


def _fleet(flags: TrainingFlags, attack: str) -> "FleetTraining":
    from server.federated.settings import federated_of
    from sims.attacks.options import parse_options
    from sims.evaluation.experiment import NO_ATTACK
    from sims.federated.model import FleetTraining
    from sims.federated.registry import NO_UPDATE_ATTACK

    share = parse_share("--malicious-share", flags.malicious_share)
    update_attack = flags.update_attack or NO_UPDATE_ATTACK
    if share is not None and attack != NO_ATTACK:
        raise InputError(
            "--malicious-share: the fakes of --attack are the malicious clients; say how many with "
            "--attack-size, or give --attack none"
        )
    if share is not None and update_attack == NO_UPDATE_ATTACK:
        raise InputError("--malicious-share: give an --update-attack, too")
    settings = federated_of(
        aggregate=flags.aggregate,
        rounds=flags.training_rounds,
        clients=flags.clients_per_round,
        steps=flags.local_steps,
        rate=flags.local_rate,
        unrated=flags.unrated_drawn,
    )
    alone = attack == NO_ATTACK and update_attack != NO_UPDATE_ATTACK
    return FleetTraining(
        settings,
        update_attack,
        parse_options(flags.update_attack_option or [], name="--update-attack-option"),
        (settings.malicious_share if share is None else share) if alone else 0.0,
    )
