"""Vicinal fine-tuning by full-batch Adam, gradients by hand: the optimiser of autoencoders.

As with Adagrad a parameter without a gradient never moves, since the state is fresh and nothing
decays: only touched rows are held (common.vicinal.optimizers).
"""

from typing import Final

import numpy as np

from common.vicinal.optimizers import TouchedCopy

# As published (Kingma and Ba 2015, Algorithm 1).
FIRST_DECAY: Final = 0.9
SECOND_DECAY: Final = 0.999
EPSILON: Final = 1e-8


def adam_steps(copy: TouchedCopy, steps: int, learning_rate: float) -> None:
    """Full-batch Adam on L_N from a fresh state (moments 0), all tables at once.

    Moments are kept as sums, Σ βⁿ g, which are the published means over 1 − β: two passes fewer.
    """
    firsts = {name: np.zeros_like(table) for name, table in copy.tables.items()}
    seconds = {name: np.zeros_like(table) for name, table in copy.tables.items()}
    scratch = {name: np.empty_like(table) for name, table in copy.tables.items()}
    for step in range(1, steps + 1):
        # Both moments start at 0 and are divided by how much of a mean they are by now.
        first_scale = (1 - FIRST_DECAY) / (1 - FIRST_DECAY**step)
        root_scale = ((1 - SECOND_DECAY) / (1 - SECOND_DECAY**step)) ** 0.5
        epsilon = EPSILON / copy.gradient_factor / root_scale
        for name, gradient in copy.gradients().items():
            first, second, root = firsts[name], seconds[name], scratch[name]
            first *= FIRST_DECAY
            first += gradient
            np.multiply(gradient, gradient, out=root)
            second *= SECOND_DECAY
            second += root
            np.sqrt(second, out=root)
            root += epsilon
            np.divide(first, root, out=root)
            root *= learning_rate * first_scale / root_scale
            copy.tables[name] -= root
