"""What a server and its clients agree on when mf is trained in the fleet.

The items' table is shared; a user's vector and ratings stay with the client, which sends how its
local steps changed the rows of some items, and nothing else.

Shapes: I items, T rows of an update, d embedding width.
"""

from dataclasses import dataclass
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from common.errors import InputError

Table = NDArray[np.float32]
# What is drawn of a training's seed; the number of a user or of a round follows.
TABLE: Final = 1
VECTOR: Final = 2
ROUND: Final = 3
CLIENT: Final = 4
LAST: Final = 5
ATTACK: Final = 6


def stream(seed: int, *place: int) -> np.random.Generator:
    """One of a training's streams.

    Who knows a client's stream knows which of the rows that it sends were drawn, and so which were
    rated: seeds are for simulations.
    """
    return np.random.default_rng([seed, *place])


def first_rows(count: int, width: int, *, rng: np.random.Generator) -> Table:
    """Rows that nobody has trained, [count, d]: of length 0.1, nearly."""
    return rng.normal(0, 0.1 / np.sqrt(width), (count, width)).astype(np.float32)


def sampled(clients: NDArray[np.int64], count: int, *, rng: np.random.Generator) -> list[int]:
    """A round's clients, ascending; all of them where there are not so many."""
    if count >= len(clients):
        return [int(client) for client in clients]
    return [int(client) for client in np.sort(rng.choice(clients, count, replace=False))]


@final
@dataclass(frozen=True)
class LocalTraining:
    """What a client is told to do in a round; server.federated.settings says what is usual.

    steps           over all that the client looks at, one after the other
    rate            of the items' rows
    user_rate       of the user's own vector
    unrated         items that were not rated, drawn for each rating
    unrated_weight  α of their squared predictions
    row_norm        C: the change of a row is at most so long, in one round
    """

    steps: int
    rate: float
    user_rate: float
    unrated: float
    unrated_weight: float
    row_norm: float


@final
@dataclass(frozen=True)
class Update:
    """How a client would change the items' table: `rows` [T, d] are added to those of `items` [T].

    Items ascend. Raises InputError for what no honest client sends; `of_table` also for items that
    the table does not have, and for another width.
    """

    items: NDArray[np.int64]
    rows: Table

    def __post_init__(self) -> None:
        fits = self.items.ndim == 1 and self.rows.ndim == 2 and len(self.items) == len(self.rows)
        if not fits or (np.diff(self.items) <= 0).any() or (self.items[:1] < 0).any():
            raise InputError("update: rows do not fit the items, which ascend, each once")
        if not np.isfinite(self.rows).all():
            raise InputError("update: a number is not finite")

    def of_table(self, item_count: int, width: int) -> "Update":
        """The same, once it is known to fit. Raises InputError."""
        if self.rows.shape[1] != width or (self.items[-1:] >= item_count).any():
            raise InputError(f"update: is of no table of {item_count} items × {width}")
        return self

    def clipped(self, row_norm: float) -> "Update":
        """With no row longer than `row_norm`."""
        if (self.row_norms <= row_norm).all():
            return self
        return Update(self.items, clipped(self.rows, row_norm))

    @property
    def row_norms(self) -> NDArray[np.float64]:
        """Euclidean length of every row, [T]."""
        return _lengths(self.rows)

    @property
    def norm(self) -> float:
        """Of all rows together."""
        return float(np.sqrt(np.square(self.rows, dtype=np.float64).sum()))


def clipped(rows: Table, most: float) -> Table:
    """Rows of a length of at most `most`, in the direction that they had, [T, d].

    >>> clipped(np.array([[3, 4], [0.3, 0.4]], dtype=np.float32), 1.0).round(2).tolist()
    [[0.6000000238418579, 0.800000011920929], [0.30000001192092896, 0.4000000059604645]]
    """
    lengths = _lengths(rows)
    if (lengths <= most).all():
        return rows
    shares = np.minimum(1, most / np.maximum(lengths, 1e-300))
    short: Table = (rows * shares[:, None]).astype(np.float32)
    return short


def _lengths(rows: Table) -> NDArray[np.float64]:
    found: NDArray[np.float64] = np.sqrt(np.einsum("td,td->t", rows, rows, dtype=np.float64))
    return found
