"""Real-time Vicinal Defense: repair a poisoned recommender at inference, on the user's own device.

    import vicinal as vc
    python -m vicinal …       the command line, as `vicinal …`

docs/api.md shows every name. Importing it loads no library: what is asked for is loaded then. It
finds its own code also where the user's folder holds a `server.py` or a `common/`
(common/pinning.py).
"""

import importlib
import runpy
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

# By its path and before all else: until it has run, `common` may be the user's.
pin = runpy.run_path(str(Path(__file__).absolute().parent / "common" / "pinning.py"))["pin"]

if TYPE_CHECKING:
    from common.errors import InputError, VicinalError
    from common.ratings import RatingMatrix, RatingScale
    from server.data.datasets import Dataset
    from sims.api.attack import attack
    from sims.api.comparison import Comparison, compare
    from sims.api.data import load
    from sims.api.evaluation import evaluate
    from sims.api.model import Model, Recommendations, defend, train
    from sims.api.picture import Picture, picture
    from sims.attacks.budget import Budget
    from sims.attacks.profiles import Profiles
    from sims.evaluation.report import Evaluation

__all__ = [
    "load",
    "attack",
    "train",
    "evaluate",
    "compare",
    "defend",
    "picture",
    "Dataset",
    "RatingMatrix",
    "RatingScale",
    "Profiles",
    "Budget",
    "Model",
    "Recommendations",
    "Evaluation",
    "Comparison",
    "Picture",
    "InputError",
    "VicinalError",
]

_PLACES = {
    "load": "sims.api.data",
    "attack": "sims.api.attack",
    "train": "sims.api.model",
    "evaluate": "sims.api.evaluation",
    "compare": "sims.api.comparison",
    "defend": "sims.api.model",
    "picture": "sims.api.picture",
    "Dataset": "server.data.datasets",
    "RatingMatrix": "common.ratings",
    "RatingScale": "common.ratings",
    "Profiles": "sims.attacks.profiles",
    "Budget": "sims.attacks.budget",
    "Model": "sims.api.model",
    "Recommendations": "sims.api.model",
    "Evaluation": "sims.evaluation.report",
    "Comparison": "sims.api.comparison",
    "Picture": "sims.api.picture",
    "InputError": "common.errors",
    "VicinalError": "common.errors",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'vicinal' has no attribute {name!r}")
    try:
        module = importlib.import_module(_PLACES[name])
    except ModuleNotFoundError as error:
        library = (error.name or "a library").partition(".")[0]
        told = f"vicinal.{name} needs {library}: pip install 'vicinal[all]'"
        raise ImportError(told, name=error.name) from error
    globals()[name] = value = getattr(module, name)
    return value


def __dir__() -> list[str]:
    return [*__all__, *(name for name in globals() if name.startswith("__"))]


def main() -> None:
    """Entry point of the command `vicinal`."""
    try:
        # Here, because a program that imports vicinal needs no Typer.
        from sims.cli import main as run  # noqa: PLC0415
    except KeyboardInterrupt:
        # As sims.cli ends what is interrupted, which is not there yet.
        sys.stderr.write("vicinal: interrupted\n")
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
