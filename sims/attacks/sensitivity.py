"""The derivatives of a fitted surrogate by its ratings, without fitting it again.

At a minimum every factor solves its own normal equation, B_u x_u = Σ r_ui y_i over the items of
u and A_i y_i = Σ r_ui x_u over the users of i, with B_u = λI + Σ y_i y_iᵀ and A_i alike. For a
quantity R(x, y) with gradients g, implicit differentiation asks for s and t in

    B_u s_u = g_u + Σ_i [e_ui t_i − (t_i·x_u) y_i]
    A_i t_i = g_i + Σ_u [e_ui s_u − (s_u·y_i) x_u],      e_ui = r_ui − x_u·y_i,

a system with half the Hessian of the fit as its matrix: (s, t) = H⁻¹∇R, an influence function
(Koh & Liang 2017). Sweeps of block Gauss–Seidel solve it, each as cheap as one of ALS. Then

    ∂R/∂r_ui = s_u·y_i + t_i·x_u,     ∂R/∂(weight of r_ui) = e_ui · ∂R/∂r_ui.

Without the sums on the right (users held fixed) this is ∂y_i/∂r_ui = A_i⁻¹x_u of Li et al. 2016.

Shapes: U users, I items, N ratings, d width.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from sims.attacks.surrogate import (
    Factors,
    Floats,
    Sparse,
    inverse_grams,
    pair_products,
    residuals,
    row_indices,
)


@dataclass(frozen=True)
class Sensitivity:
    """s [U, d] and t [I, d] above, and the factors at which they were taken."""

    users: Floats
    items: Floats
    factors: Factors

    def of_values(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> Floats:
        """∂R/∂r_ui for pairs that are rated, [N]."""
        factors = self.factors
        through_users = pair_products(self.users, factors.items, rows, columns)
        return through_users + pair_products(factors.users, self.items, rows, columns)


def sensitivity(
    ratings: Sparse, factors: Factors, by_users: Floats, by_items: Floats, sweeps: int
) -> Sensitivity:
    """Solve for s and t, given the gradients of R by users [U, d] and by items [I, d].

    Exact at a minimum in the limit of many sweeps; a few give most of it, and one gives the
    gradient through an item's own normal equation and its users'.
    """
    rows, columns = row_indices(ratings), ratings.indices
    errors = residuals(ratings, factors)
    across_errors = errors.T.tocsr()
    of_users = inverse_grams(ratings, factors.items, factors.ridge)
    of_items = inverse_grams(ratings.T.tocsr(), factors.users, factors.ridge)

    def coupling(left: Floats, right: Floats) -> Sparse:
        products = pair_products(left, right, rows, columns)
        return csr_array((products, columns, ratings.indptr), ratings.shape)

    users = _times(of_users, by_users)
    items = np.zeros_like(factors.items)
    for _ in range(sweeps):
        mixed = coupling(users, factors.items)
        items = _times(of_items, by_items + across_errors @ users - mixed.T @ factors.users)
        mixed = coupling(factors.users, items)
        users = _times(of_users, by_users + errors @ items - mixed @ factors.items)
    return Sensitivity(users, items, factors)


def _times(matrices: Floats, vectors: Floats) -> Floats:
    """[R, d, d] times [R, d], row by row."""
    product: Floats = np.einsum("rij,rj->ri", matrices, vectors)
    return product
