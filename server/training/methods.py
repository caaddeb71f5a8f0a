"""The settings of each robust training; all are part of a training's digest."""

from typing import Annotated, Final, Literal, final

from pydantic import BaseModel, ConfigDict, Field

from server.training.ranking import Bpr, Ials, LightGcn, Ranking

# Fake users as a share of the real ones where nobody says otherwise; never what a test injects.
ASSUMED_FAKES: Final = 0.03

_FIXED = ConfigDict(extra="forbid", frozen=True)


@final
class Apr(BaseModel):
    """Adversarial training (He et al. 2018, "Adversarial Personalized Ranking", eq. 6–9).

    In the form for ratings: L(θ) + λ L(θ + Δ), Δ the worst change of at most ε a row.
    """

    model_config = _FIXED

    method: Literal["apr"] = "apr"
    epsilon: float = Field(default=0.1, gt=0, allow_inf_nan=False, description="ε, norm of a row")
    weight: float = Field(default=1.0, ge=0, allow_inf_nan=False, description="λ of the loss at Δ")
    warm_up: int = Field(default=10, ge=0, description="epochs before, with λ = 0")


@final
class Ltsmf(BaseModel):
    """Least trimmed squares (Cheng and Hurley 2010, "Robust Collaborative Recommendation …").

    Only the h = ⌈(1 − τ) N⌉ ratings of the smallest residuals are fitted.
    """

    model_config = _FIXED

    method: Literal["ltsmf"] = "ltsmf"
    trimmed: float = Field(default=0.1, ge=0, lt=1, description="τ, share of ratings left out")
    regularization: float = Field(
        default=1e-4, ge=0, allow_inf_nan=False, description="of squared rows, trimmed or not"
    )
    warm_up: int = Field(default=5, ge=0, description="epochs before, on all ratings")


@final
class Rmf(BaseModel):
    """Robust matrix factorization (Bampis et al. 2017): R ≈ UUᵀR.

    R is the whole matrix of ratings, as the paper's Appendix C has it, or with `biases` what is
    left over after global mean and biases. An attack moves its targets' biases first, so that
    its hit ratio is near 1 with them (docs/decisions/0008-robust-baselines.md).
    """

    model_config = _FIXED

    method: Literal["rmf"] = "rmf"
    rank: int = Field(default=12, ge=1, le=1024, description="columns of U")
    rounds: int = Field(default=50, ge=1, description="imputations of what is not rated")
    updates: int = Field(default=20, ge=1, description="multiplicative updates in a round")
    biases: bool = Field(default=False, description="take mean and biases out of R before")
    damping: float = Field(
        default=25.0, ge=0, allow_inf_nan=False, description="ratings that pull a bias to 0"
    )


@final
class Unrated(BaseModel):
    """The base model trained with the vicinal objective's unrated weight on all users.

    Of the robust trainings the only one that every model has.
    """

    model_config = _FIXED

    method: Literal["unrated"] = "unrated"
    weight: float = Field(default=0.4, ge=0, le=1, description="α of what is not rated")


# α where another one than for mf was chosen (sims.selection.presets).
UNRATED_WEIGHTS: Final = {"cdae": 0.1}


@final
class Private(BaseModel):
    """An item table that says little of any one account (server.training.private).

    Without a secret the noise follows from the training's seed, which is none: for experiments.
    """

    model_config = _FIXED

    method: Literal["private"] = "private"
    epsilon: float = Field(default=8.0, gt=0, le=1e4, description="ε")
    delta: float = Field(default=1e-5, gt=0, lt=1, description="δ")
    secret: str = Field(default="", description="what the noise is drawn from, beside the seed")


@final
class Vat(BaseModel):
    """Vulnerability-aware adversarial training (Zhang et al. 2024, "Improving the Shortest Plank").

    In the form for ratings: L(θ) + λ L(θ + Δ), Δ of length ε g_u for every pair (u, i), where
    g_u = σ((L̄ − L_u) / L_u) is larger for users whom the model fits well (section 4.2).
    """

    model_config = _FIXED

    method: Literal["vat"] = "vat"
    epsilon: float = Field(default=0.05, gt=0, allow_inf_nan=False, description="ε, the paper's ρ")
    weight: float = Field(default=1.0, ge=0, allow_inf_nan=False, description="λ of the loss at Δ")
    warm_up: int = Field(default=5, ge=0, description="epochs before, with λ = 0")


Training = Annotated[
    Apr | Ials | Ltsmf | Private | Rmf | Unrated | Vat, Field(discriminator="method")
]


@final
class Pca(BaseModel):
    """A detector before training: suspects are left out (Mehta and Nejdl 2009, PCASelectUsers)."""

    model_config = _FIXED

    method: Literal["pca"] = "pca"
    share: float = Field(
        default=ASSUMED_FAKES, ge=0, le=1, description="fakes to be expected ÷ real users"
    )
    components: int = Field(default=2, ge=1, le=64, description="principal components looked at")
    then: Training | None = Field(default=None, description="how the others are trained")


Robust = Annotated[
    Apr | Ials | Ltsmf | Private | Rmf | Unrated | Vat | Pca, Field(discriminator="method")
]


def rounds_of(method: Robust | Ranking | None) -> int | None:
    """How many rounds or epochs a training has of its own; None: those of the base model."""
    if isinstance(method, Pca):
        return rounds_of(method.then)
    if isinstance(method, Ials | Rmf):
        return method.rounds
    if isinstance(method, Private):
        return 1
    return method.epochs if isinstance(method, Bpr | LightGcn) else None
