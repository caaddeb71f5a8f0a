"""What a model is: how it encodes a user and how it scores items.

A model's forward pass is written once over arrays, so that torch trains and numpy serves the
same lines. Every model here is an encoder of one layer, which turns a user's ratings and the
user's own parameters into a vector, and a decoder of one layer, which scores items against it:

    a_u = v_u + x_u W + b        pre-activation, of the parts that the model has
    z_u = a_u or sigmoid(a_u)    the embedding, in which neighbors are sought (paper, Alg. 1, l. 8)
    y_ui = z_u · q_i + c_i       c where there are biases
    r̂_ui = y_ui or sigmoid(y_ui)

Shapes: U users, I items, d embedding width, B rows.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, final

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import NDArray

from common.names import unknown

# An array of numpy or torch.
Array = Any
Parameters = Mapping[str, Array]


@final
@dataclass(frozen=True)
class Model:
    """One architecture; tables are named, and a user table has one row per user.

    name
    inputs          x_u: the ratings; `rated`, ones scaled by (|N_u| + 1)^-½; or none
    user_vector     whether there is v_u (user_embedding), which stays on the server
    biases          whether there are b (hidden_bias) and c (item_bias)
    sigmoid_hidden  whether z = sigmoid(a)
    sigmoid_output  whether r̂ = sigmoid(y)
    tables          whether it has parameters; without, scores come from a neighborhood's rows alone
                    (common.vicinal.ease)
    """

    name: str
    inputs: Literal["none", "rated", "ratings"] = "none"
    user_vector: bool = False
    biases: bool = False
    sigmoid_hidden: bool = False
    sigmoid_output: bool = False
    tables: bool = True

    def user_shapes(self, users: int, width: int) -> dict[str, tuple[int, ...]]:
        """Shapes of the parameters that belong to single users and stay on the server."""
        return {"user_embedding": (users, width)} if self.user_vector else {}

    def shared_shapes(self, items: int, width: int) -> dict[str, tuple[int, ...]]:
        """Shapes of the parameters that every device gets."""
        if not self.tables:
            return {}
        shapes: dict[str, tuple[int, ...]] = {"item_embedding": (items, width)}
        if self.inputs != "none":
            shapes["input_embedding"] = (items, width)
        if self.biases:
            shapes |= {"hidden_bias": (width,), "item_bias": (items,)}
        return shapes

    @property
    def item_tables(self) -> frozenset[str]:
        """Shared parameters with one row per item."""
        return frozenset(self.shared_shapes(1, 1)) - {"hidden_bias"}

    def input_rows(self, ratings: Array) -> Array:
        """X for rows of ratings as fractions of the maximum, 0 where there is none, [B, I]."""
        if self.inputs == "ratings":
            return ratings
        xp = array_namespace(ratings)
        rated = xp.astype(ratings > 0, ratings.dtype)
        return rated / (rated.sum(-1)[:, None] + 1) ** 0.5

    def input_values(self, ratings: Array, counts: Array) -> Array:
        """X at observed ratings [N], of rows with `counts` [N] ratings each, [N]."""
        return ratings if self.inputs == "ratings" else (counts + 1) ** -0.5

    def encode(self, parameters: Parameters, ratings: Array | None) -> Array:
        """Embeddings [B, d]; `parameters` holds user parameters of the B rows only.

        `ratings` [B, I] are fractions of the maximum, 0 where there is none; a model without
        inputs does not look at them.
        """
        hidden = parameters["user_embedding"] if self.user_vector else 0
        if self.inputs != "none":
            hidden = hidden + self.input_rows(ratings) @ parameters["input_embedding"]
        if self.biases:
            hidden = hidden + parameters["hidden_bias"]
        return sigmoid(hidden) if self.sigmoid_hidden else hidden

    def decode(self, parameters: Parameters, embedding: Array) -> Array:
        """Predicted ratings of all items, as fractions of the maximum, [B, I]."""
        scores = embedding @ parameters["item_embedding"].T
        if self.biases:
            scores = scores + parameters["item_bias"]
        return sigmoid(scores) if self.sigmoid_output else scores

    def decode_pairs(self, parameters: Parameters, embedding: Array, items: Array) -> Array:
        """Predicted ratings of one item a row, [B], for embeddings [B, d]."""
        scores = (embedding * parameters["item_embedding"][items]).sum(-1)
        if self.biases:
            scores = scores + parameters["item_bias"][items]
        return sigmoid(scores) if self.sigmoid_output else scores


def sigmoid(values: Array) -> Array:
    """1/(1 + e^-x), written so that no value overflows."""
    return 0.5 * array_namespace(values).tanh(0.5 * values) + 0.5


def sigmoid_in_place(values: NDArray[np.float32]) -> None:
    """The same of numpy's arrays, without another array."""
    values *= 0.5
    np.tanh(values, out=values)
    values *= 0.5
    values += 0.5


_ALL: Final = (
    # r̂_ui = p_u · q_i, without biases
    Model("mf", user_vector=True),
    # r̂_ui = q_i · (|N_u| + 1)^-½ Σ_{j ∈ N_u} w_j (Paterek 2007, without biases)
    Model("nsvd", inputs="rated"),
    # U-AutoRec (Sedhain et al. 2015): sigmoid hidden layer, linear output
    Model("autorec", inputs="ratings", biases=True, sigmoid_hidden=True),
    # CDAE (Wu et al. 2016): a vector for each user, sigmoid on both layers
    Model(
        "cdae",
        inputs="ratings",
        user_vector=True,
        biases=True,
        sigmoid_hidden=True,
        sigmoid_output=True,
    ),
)
MODELS: Final[dict[str, Model]] = {model.name: model for model in _ALL}
# Models without parameters, solved anew for every request: a device needs rows only.
CLOSED_FORM: Final[dict[str, Model]] = {"ease": Model("ease", tables=False)}
# Recommenders that differ in their training alone: the model that their parameters are served as.
SERVED_AS: Final[dict[str, str]] = {"ials": "mf", "bpr": "mf", "lightgcn": "mf"}


# `imported:NAME` names a model that others trained (server.importing), which is served as mf.
IMPORTED: Final = "imported:"


def architecture(name: str) -> str:
    """The entry of MODELS that a model's name stands for; any other name is left as it is.

    >>> architecture("imported:als"), architecture("nsvd")
    ('mf', 'nsvd')
    """
    return "mf" if name.startswith(IMPORTED) else name


def model_named(name: str) -> Model:
    """Raises InputError for a name that is neither in MODELS nor in CLOSED_FORM."""
    models = {**MODELS, **CLOSED_FORM}
    if name not in models:
        raise unknown("model", name, models)
    return models[name]
