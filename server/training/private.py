"""mf with an item table that says little of any account: a noised Gram matrix, once.

Each user's row of ones is brought to length 1, so that with or without any one account

    A = Σ_u x_u x_uᵀ / ‖x_u‖²

differs by a matrix of Frobenius norm 1 at most. Symmetric noise of deviation σ on the diagonal and
σ / √2 beside it makes what follows 1/σ-GDP (Dwork et al. 2014, "Analyze Gauss"; Dong, Roth and Su
2022, theorem 1): there is one release, and nothing to add up over epochs as in noised descent. Item
vectors are eigenvectors of the noised matrix whose eigenvalues stand out from noise, times the root
of what noise leaves of them (Benaych-Georges and Nadakuditi 2011, section 3.1). A vector of a user
is fitted to the user's own ratings, as a device with a book does it, and stays where they are.

How many accounts there are is public. Fakes are accounts, too: nothing here defends against them.

Shapes: U users, I items, d embedding width.
"""

import hashlib

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.special import log_ndtr, ndtr

from common.ratings import RatingMatrix
from common.vicinal.fold_in import fitted
from server.training.descent import Descent, Factors, Progress
from server.training.methods import Private

# Halvings of an interval of μ.
_HALVINGS = 80


def train_private(
    ratings: RatingMatrix, method: Private, descent: Descent, progress: Progress | None
) -> Factors:
    """The factors; their width is the number of eigenvalues that stand out, d at most."""
    mu = mu_of(method.epsilon, method.delta)
    told = f"{method.secret} {descent.seed}".encode()
    seed = int.from_bytes(hashlib.blake2b(told, digest_size=16).digest(), "little")
    gram = normalized_gram(ratings) + symmetric_noise(
        ratings.item_count, 1 / mu, rng=np.random.default_rng(seed)
    )
    items = item_table(gram, 1 / mu, descent.width)
    around = items.T @ items
    users = np.zeros((ratings.user_count, items.shape[1]), dtype=np.float32)
    for user in range(ratings.user_count):
        rows = ratings.rows([user])
        users[user] = fitted(around, items[rows.items], rows.ratings)[0]
    if progress is not None:
        progress(1, 1)
    return Factors(torch.from_numpy(users), torch.from_numpy(items))


def normalized_gram(ratings: RatingMatrix) -> NDArray[np.float64]:
    """A, of who rated what, [I, I]."""
    lengths = np.sqrt(np.maximum(np.diff(ratings.indptr), 1))
    rows = csr_array(
        (1 / lengths[ratings.users], ratings.items, ratings.indptr),
        shape=(ratings.user_count, ratings.item_count),
    )
    gram: NDArray[np.float64] = (rows.T @ rows).toarray()
    return gram


def symmetric_noise(items: int, sigma: float, *, rng: np.random.Generator) -> NDArray[np.float64]:
    """Of deviation σ on the diagonal and σ / √2 beside it, [I, I]."""
    drawn = np.triu(rng.normal(0.0, sigma / np.sqrt(2), (items, items)), 1)
    return drawn + drawn.T + np.diag(rng.normal(0.0, sigma, items))


def item_table(gram: NDArray[np.float64], sigma: float, width: int) -> NDArray[np.float32]:
    """Item vectors from a noised Gram matrix, [I, d]; one at least."""
    values, vectors = np.linalg.eigh(gram)
    values, vectors = values[::-1][:width], vectors[:, ::-1][:, :width]
    # The largest eigenvalue of the noise alone.
    edge = sigma * np.sqrt(2 * len(gram))
    kept = max(1, int((values > edge).sum()))
    values = values[:kept]
    true = (values + np.sqrt(np.maximum(values**2 - edge**2, 0.0))) / 2
    table: NDArray[np.float32] = (vectors[:, :kept] * np.sqrt(np.maximum(true, 1e-9))).astype(
        np.float32
    )
    return table


def delta_of(mu: float, epsilon: float) -> float:
    """δ of (ε, δ)-differential privacy that μ-GDP gives (Dong, Roth and Su 2022, corollary 1).

    >>> round(delta_of(1.0, 1.0), 4)
    0.1269
    """
    tail = np.exp(epsilon + log_ndtr(-epsilon / mu - mu / 2))
    return float(ndtr(-epsilon / mu + mu / 2) - tail)


def mu_of(epsilon: float, delta: float) -> float:
    """The largest μ that is (ε, δ)-differentially private.

    >>> round(mu_of(1.0, delta_of(0.5, 1.0)), 6)
    0.5
    """
    low, high = 0.0, 1.0
    while delta_of(high, epsilon) < delta:
        high *= 2
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if delta_of(middle, epsilon) <= delta else (low, middle)
    return low
