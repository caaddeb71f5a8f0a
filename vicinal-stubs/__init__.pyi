"""What a type checker sees of an installed vicinal (docs/decisions/0038-site.md)."""

from common.errors import InputError as InputError
from common.errors import VicinalError as VicinalError
from common.ratings import RatingMatrix as RatingMatrix
from common.ratings import RatingScale as RatingScale
from server.data.datasets import Dataset as Dataset
from sims.api.attack import attack as attack
from sims.api.comparison import Comparison as Comparison
from sims.api.comparison import compare as compare
from sims.api.data import load as load
from sims.api.evaluation import evaluate as evaluate
from sims.api.model import Model as Model
from sims.api.model import Recommendations as Recommendations
from sims.api.model import defend as defend
from sims.api.model import train as train
from sims.api.picture import Picture as Picture
from sims.api.picture import picture as picture
from sims.attacks.budget import Budget as Budget
from sims.attacks.profiles import Profiles as Profiles
from sims.evaluation.report import Evaluation as Evaluation

def main() -> None: ...
