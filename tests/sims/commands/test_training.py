"""`vicinal evaluate --train federated`: its options, and a small run to the end."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from common.errors import InputError
from server.federated.settings import Federated
from sims.cli import app
from sims.commands.training import TrainingFlags
from sims.federated.model import FleetTraining


def evaluated(folder: Path, *options: str) -> dict[str, object]:
    file = folder / "result.json"
    words = [
        *("evaluate", "--dataset", "synthetic:100x150", "--train", "federated"),
        *(
            "--training-rounds",
            "5",
            "--store",
            str(folder / "store"),
            "--processes",
            "1",
            "--json",
            str(file),
            *options,
        ),
    ]
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    found: dict[str, object] = json.loads(file.read_text())
    return found


def test_both_kinds_of_poisoning_meet_one_defense(tmp_path: Path) -> None:
    result = evaluated(tmp_path, "--update-attack", "pieck-uea", "--aggregate", "median")
    assert (result["train"], result["update_attack"], result["fakes"]) == (
        "federated",
        "pieck-uea",
        3,
    )
    assert "aggregate=median clients=256" in str(result["federated"]).replace("rounds=5 ", "")
    assert "mined=10 rounds=10 public=0.01" in str(result["update_attack_options"])
    assert result["defense"] == "rvd"
    stored = {path.name for path in (tmp_path / "store" / "trained").iterdir()}
    # Of the clean and of the attacked model; once more, nothing is trained.
    assert len(stored) == 2
    again = evaluated(tmp_path, "--update-attack", "pieck-uea", "--aggregate", "median")
    assert again["hit_ratio"] == result["hit_ratio"]
    assert {path.name for path in (tmp_path / "store" / "trained").iterdir()} == stored


def test_malicious_clients_without_ratings_are_beside_the_users(tmp_path: Path) -> None:
    result = evaluated(
        tmp_path,
        *("--attack", "none", "--update-attack", "pieck-uea", "--malicious-share", "20%"),
        *("--update-attack-option", "rounds=1", "--unrated-drawn", "0", "--baselines", "none"),
        *("--defense", "none"),
    )
    ratios = result["hit_ratio"]
    assert isinstance(ratios, dict)
    assert (result["fakes"], result["malicious_share"]) == (0, 0.2)
    assert ratios["undefended"] > ratios["clean"]


@pytest.mark.parametrize(
    ("flags", "attack", "told"),
    [
        ({"train": "federal"}, "none", "did you mean federated"),
        (
            {"training_rounds": 3},
            "none",
            "--training-rounds is of a fleet: give --train federated, too",
        ),
        ({"train": "federated", "aggregate": "medain"}, "none", "median"),
        ({"train": "federated", "update_attack": "pieck"}, "none", "pieck-ipe"),
        ({"train": "federated", "malicious_share": "3%"}, "none", "give an --update-attack, too"),
        (
            {"train": "federated", "malicious_share": "3%", "update_attack": "pieck-ipe"},
            "mixrand",
            "the fakes of --attack are the malicious clients",
        ),
        (
            {"train": "federated", "malicious_share": "60%", "update_attack": "pieck-ipe"},
            "none",
            "malicious share 0.6: choose",
        ),
        ({"train": "federated", "local_rate": -1.0}, "none", "federated training, rate: "),
        ({"train": "federated", "update_attack_option": ["a=3"]}, "none", "has no options"),
        (
            {
                "train": "federated",
                "update_attack": "pieck-ipe",
                "update_attack_option": ["mined"],
            },
            "none",
            "--update-attack-option 'mined': write name=value",
        ),
    ],
)
def test_what_does_not_fit_is_told(flags: dict[str, object], attack: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        TrainingFlags(**flags).fleet(attack)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--model", "nsvd"], "--train federated trains mf only, not nsvd"),
        (["--defense", "rmf+rvd"], "a fleet has robust aggregation"),
        (["--defense", "pca+rvd"], "a fleet has robust aggregation"),
    ],
)
def test_what_no_fleet_trains_is_refused(options: list[str], told: str) -> None:
    words = ["evaluate", "--dataset", "synthetic:100x150", "--train", "federated", *options]
    done = CliRunner().invoke(app, words)
    assert isinstance(done.exception, InputError) and told in str(done.exception)


def test_defaults_are_those_that_the_help_names() -> None:
    fleet = TrainingFlags(train="federated").fleet("mixrand")
    assert fleet == FleetTraining(Federated())
    shown = CliRunner().invoke(app, ["evaluate", "--help"]).output
    # However wide the terminal is that rich has seen.
    told = " ".join(shown.replace("│", " ").split())
    settings = Federated()
    for words in (
        f"default: {settings.rounds}.",
        f"default: {settings.clients}.",
        f"default: {settings.steps}.",
        f"default: {settings.rate:g}.",
        f"default: {settings.unrated:g};",
        f"default: {settings.malicious_share:.0%}.",
        f"default: {settings.aggregate}.",
    ):
        assert words in told
