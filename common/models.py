"""What a model is: how it encodes a user and how it scores items.

A model's forward pass is written once over arrays, so that torch trains and numpy serves
the same lines. Every model here is an encoder, which turns a user's ratings and the user's
own parameters into a vector, and a decoder, which scores items against that vector. The
encoder's output is the embedding in which neighbors are sought (paper, Algorithm 1, line 8).

Shapes: U users, I items, d embedding width, B rows.
"""

from collections.abc import Mapping
from typing import Any, Final, Protocol, final

from common.errors import InputError

# An array of numpy or torch; the forward pass uses only operators that both share.
Array = Any
Parameters = Mapping[str, Array]


class Model(Protocol):
    """One architecture. Parameters are named; a user parameter has one row per user."""

    name: str

    def user_shapes(self, users: int, width: int) -> dict[str, tuple[int, ...]]:
        """Shapes of the parameters that belong to single users and stay on the server."""
        ...

    def shared_shapes(self, items: int, width: int) -> dict[str, tuple[int, ...]]:
        """Shapes of the parameters that every device gets."""
        ...

    def encode(self, parameters: Parameters, ratings: Array | None) -> Array:
        """Embeddings [B, d]; `parameters` holds user parameters of the B rows only."""
        ...

    def decode(self, parameters: Parameters, embedding: Array) -> Array:
        """Predicted ratings of all items, as fractions of the maximum, [B, I]."""
        ...

    def decode_pairs(self, parameters: Parameters, embedding: Array, items: Array) -> Array:
        """Predicted ratings of one item a row, [B], for embeddings [B, d]."""
        ...


@final
class MatrixFactorization:
    """r̂_ui = p_u · q_i, without biases."""

    name = "mf"

    def user_shapes(self, users: int, width: int) -> dict[str, tuple[int, ...]]:
        return {"user_embedding": (users, width)}

    def shared_shapes(self, items: int, width: int) -> dict[str, tuple[int, ...]]:
        return {"item_embedding": (items, width)}

    def encode(self, parameters: Parameters, ratings: Array | None) -> Array:
        return parameters["user_embedding"]

    def decode(self, parameters: Parameters, embedding: Array) -> Array:
        return embedding @ parameters["item_embedding"].T

    def decode_pairs(self, parameters: Parameters, embedding: Array, items: Array) -> Array:
        return (embedding * parameters["item_embedding"][items]).sum(-1)


MODELS: Final[dict[str, Model]] = {"mf": MatrixFactorization()}


def model_named(name: str) -> Model:
    """Raises InputError for a name that is not in MODELS."""
    if name not in MODELS:
        raise InputError(f"unknown model {name!r}: choose one of {', '.join(MODELS)}")
    return MODELS[name]
