"""How the vicinal defense trains the model that it tunes, where a preset asks for another way.

Chosen on validation items (sims/selection/presets.py, docs/decisions/0023-admission.md): a model
that was trained with what is not rated, too, leaves the fine-tune less to repair.
"""

from typing import Final

from server.training.methods import Training, Unrated
from server.training.ranking import Ials

# By model, then by preset; what is not here is trained as it was published.
BASES: Final[dict[str, dict[str, Training]]] = {
    "mf": {"vicinal": Ials(confidence=4.0, regularization=40.0)},
    "nsvd": {"vicinal": Unrated(weight=0.2)},
    "autorec": {"vicinal": Unrated(weight=0.2)},
    "cdae": {"vicinal": Unrated(weight=0.05)},
}


def base_training(model: str, preset: str) -> Training | None:
    """How a preset trains a model; None is as it was published."""
    return BASES.get(model, {}).get(preset)
