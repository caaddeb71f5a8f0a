"""`vicinal`, but every training ends after one epoch or round:
`python -m benchmarks.scale.cut_short evaluate …`.

All else is as it is: what is read, held in memory, searched and measured.
"""

from typing import Any, Final

from common.ratings import RatingMatrix
from server import preparing
from server.model_store import TrainedModel
from server.training.methods import rounds_of
from server.training.train import TrainingSettings, train
from sims.cli import main

ONE: Final = {"epochs": 1, "rounds": 1}


def one_round(ratings: RatingMatrix, settings: TrainingSettings, **named: Any) -> TrainedModel:
    """server.training.train.train with one epoch or round."""
    update: dict[str, Any] = {"epochs": 1}
    for name in ("robust", "ranking"):
        method = getattr(settings, name)
        if rounds_of(method) is not None:
            kept = {each: one for each, one in ONE.items() if hasattr(method, each)}
            update[name] = method.model_copy(update=kept)
    return train(ratings, settings.model_copy(update=update), **named)


if __name__ == "__main__":
    setattr(preparing, "train", one_round)  # noqa: B010 - mypy: it is a function of a module
    main()
