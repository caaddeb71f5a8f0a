"""Bounds of curvature by which rows are stepped, without a learning rate.

A row's Hessian is one part S that all rows share, α times the Gram matrix of the other side,
plus a part of its own observed ratings, which its trace bounds. In a basis where S is nearly
diagonal, Gershgorin's bound makes it so: every row is stepped by the inverse of its own bound,
and no step raises the objective, for any k, α and data.

Shapes: R rows, d width.
"""

from typing import Final, final

import numpy as np
from numpy.typing import NDArray

Table = NDArray[np.float32]

# Of the mean eigenvalue; far above rounding, far below what a bound would notice.
RAMP: Final = 0.01


def eigenbasis(gram: Table) -> Table:
    """Orthonormal vectors that nearly diagonalize a Gram matrix, in columns, [d, d].

    Where eigenvalues are equal, as 0 is with fewer rows than dimensions, eigenvectors are
    whatever rounding makes of them; a small ramp on the diagonal lets every machine choose alike.
    """
    ramp = np.linspace(0, RAMP * np.trace(gram) / len(gram), len(gram), dtype=gram.dtype)
    return np.linalg.eigh(gram + np.diag(ramp))[1]


@final
class SharedCurvature:
    """The part S [d, d] of a Hessian that all rows share, bounded by a diagonal in a basis."""

    def __init__(self, matrix: Table, basis: Table) -> None:
        self._basis = basis
        # Gershgorin: a symmetric matrix is at most the diagonal of its absolute row sums.
        self._bounds = np.abs(basis.T @ matrix @ basis).sum(axis=1)
        self._mean = np.trace(matrix) / len(matrix)

    def divide(self, gradient: Table, bound: Table, proximal: np.floating) -> Table:
        """Rows g_r (S + (bound_r + proximal)·1)⁻¹, with S bounded, [R, d]; 0 where all is flat.

        A bound of 0 says that the row has no rating of its own. S's mean eigenvalue stands in
        for it: one step would otherwise take all such rows to 0, all alike.
        """
        divided: Table = self.divide_turned(gradient @ self._basis, bound, proximal) @ self._basis.T
        return divided

    def divide_turned(self, gradient: Table, bound: Table, proximal: np.floating | Table) -> Table:
        """The same of rows that are given in the basis, in place."""
        own = np.where(bound > 0, bound, self._mean)[:, None] + proximal
        curvature = own + self._bounds
        if curvature.size and curvature.min() <= 0:
            curvature[curvature <= 0] = 1
        gradient /= curvature
        return gradient
