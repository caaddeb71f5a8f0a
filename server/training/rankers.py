"""Which function trains which ranking."""

from collections.abc import Callable
from typing import Final

from server.training.bpr import train_bpr
from server.training.descent import Factors
from server.training.ials import train_ials
from server.training.lightgcn import train_lightgcn
from server.training.ranking import Bpr, Ials, LightGcn, RankingType

# By the class of its settings; each takes ratings, settings, width, seed and progress.
RANKERS: Final[dict[RankingType, Callable[..., Factors]]] = {
    Ials: train_ials,
    Bpr: train_bpr,
    LightGcn: train_lightgcn,
}
