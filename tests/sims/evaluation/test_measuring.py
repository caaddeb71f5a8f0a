"""Measuring over processes: the sum of every user's answer, or one clear error."""

import os
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from common.errors import InputError, VicinalError
from common.ranking import Counts
from common.vicinal.settings import VicinalSettings
from server.model_store import ModelStore
from sims.evaluation.experiment import Experiment, prepare
from sims.evaluation.measuring import USERS_PER_TASK, Condition, EvaluationSetup, measure
from sims.processes.workers import HERE, Workers

CONDITIONS: tuple[Condition, ...] = ("clean", "clean_defended", "undefended", "defended")


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> EvaluationSetup:
    prepared = prepare(Experiment("synthetic:50x80", attack="average", attack_size=0.1))
    with ModelStore(tmp_path_factory.mktemp("store")) as store:
        recommenders = {
            "clean": prepared.train(store, clean=True),
            "poisoned": prepared.train(store),
        }
    settings = VicinalSettings(neighbors=8, unrated_weight=0.1, steps=2)
    return EvaluationSetup(recommenders, prepared.local, settings, prepared.watched, 20)  # type: ignore[arg-type]


def test_counts_are_the_sum_of_every_users_answer(setup: EvaluationSetup) -> None:
    users = np.arange(0, 50, 2)
    assert len(users) > USERS_PER_TASK, "more than one task"
    seen: list[tuple[int, int]] = []
    measured = measure(
        setup,
        CONDITIONS,
        users,
        workers=Workers(2),
        progress=lambda _what, *done: seen.append(done),
    )
    for condition in CONDITIONS:
        expected = sum((setup.answer(condition, user) for user in users.tolist()), Counts.none(5))
        assert measured[condition].counts == expected
        assert expected.users == len(users) == len(measured[condition].seconds)
        assert (measured[condition].seconds > 0).all()
    assert len({str(measured[condition].counts) for condition in CONDITIONS}) == 4
    assert seen[-1] == (100, 100)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_bad_input_in_a_worker_is_bad_input(setup: EvaluationSetup) -> None:
    greedy = replace(setup, settings=replace(setup.settings, neighbors=56))
    with pytest.raises(InputError, match="k = 56 neighbors asked of 55 users"):
        measure(greedy, ["defended"], np.arange(50), workers=HERE)


class Fatal:
    """Ends the process that unpickles it, as the kernel ends one that takes too much memory."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os._exit, (3,)


def test_a_worker_that_dies_is_one_clear_error(setup: EvaluationSetup) -> None:
    fatal: Any = Fatal()
    with pytest.raises(VicinalError, match=r"a worker process died.*fewer --processes"):
        measure(replace(setup, settings=fatal), ["defended"], np.arange(50), workers=Workers(2))
