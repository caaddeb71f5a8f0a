"""The settings of trainings that order items rather than predict ratings.

Each gives factors of users and items, which `calibrated` scales to predict ratings; they are served
as an mf version. What is left open here was chosen on validation items (sims/selection/baselines.py
and docs/decisions/0022-baselines.md). All settings are part of a training's digest.
"""

from typing import Annotated, Final, Literal, final

from pydantic import BaseModel, ConfigDict, Field

_FIXED = ConfigDict(extra="forbid", frozen=True)


@final
class Ials(BaseModel):
    """Alternating least squares for implicit feedback (Hu, Koren and Volinsky 2008, section 4)."""

    model_config = _FIXED

    method: Literal["ials"] = "ials"
    confidence: float = Field(
        default=10.0, gt=0, allow_inf_nan=False, description="α of c = 1 + α r, r in (0, 1]"
    )
    regularization: float = Field(
        default=30.0, gt=0, allow_inf_nan=False, description="λ of all squared factors"
    )
    rounds: int = Field(default=15, ge=1, description="of users, then items")


@final
class Bpr(BaseModel):
    """Bayesian personalized ranking (Rendle et al. 2009, section 4), by Adam.

    In an epoch every rating is compared once with an item that its user has not rated.
    """

    model_config = _FIXED

    method: Literal["bpr"] = "bpr"
    learning_rate: float = Field(default=0.003, gt=0, allow_inf_nan=False)
    regularization: float = Field(
        default=0.01, ge=0, allow_inf_nan=False, description="λ of the squared rows of a comparison"
    )
    batch: int = Field(default=4096, ge=1, description="comparisons a step")
    epochs: int = Field(default=60, ge=1)


@final
class LightGcn(BaseModel):
    """LightGCN (He et al. 2020, section 3): BPR on embeddings spread over the graph of ratings."""

    model_config = _FIXED

    method: Literal["lightgcn"] = "lightgcn"
    layers: int = Field(default=2, ge=1, le=10, description="steps over the graph")
    learning_rate: float = Field(default=0.01, gt=0, allow_inf_nan=False)
    regularization: float = Field(
        default=1e-3, ge=0, allow_inf_nan=False, description="λ, before the embeddings are spread"
    )
    batch: int = Field(default=8192, ge=1, description="comparisons a step")
    epochs: int = Field(default=120, ge=1)


Ranking = Annotated[Ials | Bpr | LightGcn, Field(discriminator="method")]
RankingType = type[Ials] | type[Bpr] | type[LightGcn]
# By the name that --model takes.
RANKINGS: Final[dict[str, RankingType]] = {
    "ials": Ials,
    "bpr": Bpr,
    "lightgcn": LightGcn,
}
