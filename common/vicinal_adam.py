"""Vicinal fine-tuning by full-batch Adam, gradients by hand: the optimiser of autoencoders.

As with Adagrad a parameter without a gradient never moves, since the state is fresh and nothing
decays: only touched rows are held (common.vicinal_adagrad).
"""

from typing import Final

import numpy as np

from common.settings import VicinalSettings
from common.vicinal_adagrad import TouchedCopy

# As published (Kingma and Ba 2015, Algorithm 1).
FIRST_DECAY: Final = 0.9
SECOND_DECAY: Final = 0.999
EPSILON: Final = 1e-8


def adam_steps(copy: TouchedCopy, settings: VicinalSettings, learning_rate: float) -> None:
    """Full-batch Adam on L_N from a fresh state (moments 0), all tables at once."""
    firsts = {name: np.zeros_like(table) for name, table in copy.tables.items()}
    seconds = {name: np.zeros_like(table) for name, table in copy.tables.items()}
    for step in range(1, settings.steps + 1):
        # Both moments start at 0 and are divided by how much of a mean they are by now.
        length = learning_rate / (1 - FIRST_DECAY**step)
        spread = (1 - SECOND_DECAY**step) ** 0.5
        for name, gradient in copy.gradients(settings).items():
            kind = gradient.dtype.type
            first, second = firsts[name], seconds[name]
            first += kind(1 - FIRST_DECAY) * (gradient - first)
            second += kind(1 - SECOND_DECAY) * (gradient * gradient - second)
            scale = np.sqrt(second)
            scale /= kind(spread)
            scale += kind(EPSILON)
            copy.tables[name] -= kind(length) * first / scale
