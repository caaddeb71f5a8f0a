"""`vicinal.evaluate`: one attack, one defense, one data set, as `vicinal evaluate` measures."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from common.errors import InputError
from common.threads import one_thread
from sims.api.attack import named_attack, target_indices, user_indices
from sims.api.data import load
from sims.api.ids import Id
from sims.api.model import own_of
from sims.api.surroundings import reporting, store_folder
from sims.attacks.options import Value
from sims.attacks.profiles import Profiles
from sims.evaluation import study as studies
from sims.evaluation.baselines import baselines_named
from sims.evaluation.defenses import RVD
from sims.evaluation.experiment import NO_ATTACK
from sims.evaluation.report import Evaluation
from sims.numbers import seed_of

# Profiles whose notes do not say how they came about.
UNNAMED: Final = "profiles"


def evaluate(
    data: Any,
    *,
    attack: str | Callable[..., Any] | Profiles = "mixrand",
    defense: str = RVD,
    model: Any = "mf",
    attack_options: Mapping[str, Value] | None = None,
    attack_size: float | None = None,
    targets: Sequence[Id] | None = None,
    preset: str = "vicinal",
    k: int | None = None,
    steps: int | None = None,
    unrated_weight: float | None = None,
    min_support: int | None = None,
    neighbors_by: str | None = None,
    assume_fakes: float | None = None,
    row_cap: int | None = None,
    fold_in: bool = False,
    release: str = "rows",
    list_length: int = 50,
    seed: int = 0,
    users: int | Sequence[Id] | None = None,
    baselines: str | Sequence[str] | None = None,
    store: str | Path | None = None,
    processes: int | None = 1,
    progress: bool = False,
) -> Evaluation:
    """Withhold a rating of every user, attack, train with and without the fakes, and measure.

    data            what `load` gives or takes; a name of synthetic ratings is made with `seed`
    attack          a name, `PATH.py:FUNCTION`, `file:PATH`, a function, what `vicinal.attack`
                    gives, or none
    defense         none, rvd, a robust training of mf, or one with rvd: `rmf+rvd`
    model           what `train` takes by name, or one's own: `PATH.py:FUNCTION`, a function
                    fit(ratings, *, seed), a torch.nn.Module to start from, what `defend` gives
    attack_options  of the attack, by name
    attack_size     fakes as a share of real users; None is 0.03. Profiles and `file:PATH` have
                    their own
    targets         ids of the items to promote; None draws five unpopular ones from the seed
    preset          paper or vicinal; the next eight change it, None keeps what it says
    k               neighbors, capped at the users there are
    steps           of fine-tuning
    unrated_weight  α
    min_support     m, neighbors who must have rated an item
    neighbors_by    ratings, embedding or random: the space in which users are near each other
    assume_fakes    φ, share of all accounts that may be fakes; 0 admits every item
    row_cap         ratings of a neighbor that a device is sent, at most
    fold_in         no vectors of users are sent: devices make them of the rows
    release         rows or book: what devices are given where rvd defends
    list_length     K, items in a recommendation
    seed            of split, targets, attack and training
    users           size of a random sample that is asked, or ids of users; None asks everybody
    baselines       measured beside it: names of popularity, userknn, itemknn and ease, `all`, or
                    `none` (popularity alone); None is popularity, userknn and ease
    store           folder that keeps trained models, so that the same is not trained twice
    processes       that answer users; 1 is this one, None one a core. A script that starts some
                    needs `if __name__ == "__main__":`. The numbers do not depend on it
    progress        whether to show bars

    The same options give the same numbers as `vicinal evaluate` prints. Raises InputError,
    VicinalError when training diverges or a process dies, OSError.
    """
    seed = seed_of(seed)
    loaded = load(data, seed=seed, progress=progress)
    own = own_of(model)
    if own is not None and (preset != "vicinal" or processes not in (None, 1)):
        raise InputError(
            "a model of your own has no presets, and answers in this process: leave out "
            "preset and processes"
        )
    name, function, profiles = "", None, None
    if isinstance(attack, Profiles):
        name, profiles = attack.notes.get("attack", UNNAMED), attack
        # They are some, whatever their notes say.
        name = UNNAMED if name == NO_ATTACK else name
        if attack_options or targets is not None or attack_size is not None:
            raise InputError(
                "attack: these profiles are made; leave out attack_options, attack_size and targets"
            )
    else:
        name, function = named_attack(attack)
    study = studies.Study(
        dataset=data if isinstance(data, str) else loaded.name,
        model=model if own is None else own.name,
        attack=name,
        attack_options=attack_options or {},
        attack_size=attack_size,
        targets=target_indices(loaded, targets),
        defense=defense,
        preset=preset,
        k=k,
        steps=steps,
        unrated_weight=unrated_weight,
        min_support=min_support,
        neighbors_by=neighbors_by,
        assume_fakes=assume_fakes,
        row_cap=row_cap,
        fold_in=fold_in,
        release=release,
        list_length=list_length,
        seed=seed,
        users=user_indices(loaded, users),
        baselines=baselines_named(baselines),
        reading=loaded.reading,
    )
    with one_thread(), store_folder(store) as folder, reporting(progress) as report:
        return studies.evaluate(
            study,
            folder,
            dataset=loaded,
            attack=function,
            profiles=profiles,
            model=own,
            processes=processes,
            progress=report,
        )
