"""Users who come after a training: `python -m benchmarks.serving.newcomers`.

How well they are answered from a vector that was folded in, beside what they would get if the model
had been trained on them; and what `serve --refresh-every` costs beside a training.
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.report import Section, progress, run, table
from client.stores.ratings import LocalRatings
from common.ranking import Counts
from common.ratings import RatingMatrix
from common.vicinal.settings import VicinalSettings
from server.growing import with_later
from server.model_store import ModelStore
from server.preparing import Source, load_source, prepare, refresh, trained
from server.recommending.recommender import Recommender
from server.training.train import TrainingSettings
from sims.evaluation.experiment import prepare as prepared_experiment
from sims.evaluation.measuring import Condition, EvaluationSetup, measure_here
from sims.evaluation.study import Study

# Of all users, who come later.
SHARE: Final = 0.1
MODELS: Final = ("mf", "ease")
SEED: Final = 0
# Of the cost: how many users are new, of a csv of this shape.
GROWING: Final = "synthetic:6040x3706x1000209"
SHORT_GROWING: Final = "synthetic:300x200"
NEW: Final = (1, 60, 600)
LENGTH: Final = 50
HEADS: Final = (
    "model",
    "undefended: trained",
    "undefended: later",
    "defended: trained",
    "defended: later",
    "in common",
)

INTRODUCTION: Final = """\
## Users who come after a training

A tenth of the users of {dataset}, drawn at random, come after the training, and are answered as
`serve --refresh-every` answers them. *Trained* is what they would get if the model had been trained
on them, too. Nobody attacks; preset vicinal; accuracy is the share of these {users} users whose
withheld rating is in their list of 50. *In common* is the share of the trained model's own list
that is in the other one, both defended. mf has a vector for each user, which is folded in. ease
has none: its training has merely not seen these users.
"""
COST: Final = """\
What a refresh costs: processor time of reading a csv of {ratings:,} ratings anew ({users:,} users ×
{items:,} items), and of folding users in and writing the edition. A training of a version instead
(mf, preset vicinal) takes {anew:.1f} s after the same reading.
"""


@dataclass(frozen=True)
class Growing:
    """A data set whose last users come later.

    local  what the devices of all users know, new ones last
    """

    name: str
    local: LocalRatings
    known: int

    @property
    def ratings(self) -> RatingMatrix:
        return self.local.train

    @property
    def newcomers(self) -> NDArray[np.int64]:
        return np.arange(self.known, self.ratings.user_count)

    def first(self, count: int) -> RatingMatrix:
        return self.ratings.rows(np.arange(count))


def growing(dataset: str) -> Growing:
    """With a tenth of the users, drawn by the seed, moved to the end."""
    cell = Study(dataset=dataset, attack="none", seed=SEED).cell()
    whole = prepared_experiment(cell.experiment)
    users, local = whole.user_count, whole.local
    later = np.random.default_rng(SEED).choice(users, max(1, round(SHARE * users)), replace=False)
    order = np.concatenate([np.setdiff1d(np.arange(users), later), np.sort(later)])
    moved = LocalRatings(
        local.train.rows(order), local.held_out[order], local.held_out_liked[order]
    )
    return Growing(dataset, moved, users - len(later))


def quality(data: Growing, model: str, folder: Path) -> tuple[tuple[str, ...], dict[str, float]]:
    """A row of the table, and the same as figures."""
    cell = Study(dataset=data.name, model=model, attack="none", seed=SEED).cell()
    settings = cell.settings
    training = TrainingSettings.on(data.name, model=model, seed=SEED, robust=cell.defense.robust)
    with ModelStore(folder / model) as store:
        whole, before = (
            Recommender(trained(ratings, training, store), ratings, ratings.user_count)
            for ratings in (data.ratings, data.first(data.known))
        )
    later = with_later(before, data.ratings.rows(data.newcomers))
    plain = [counts(data, each, settings, "undefended") for each in (whole, later)]
    tuned = [counts(data, each, settings, "defended") for each in (whole, later)]
    lists = [
        [set(each.recommend(user, settings, LENGTH).tolist()) for user in data.newcomers.tolist()]
        for each in (whole, later)
    ]
    shared = [len(one & other) / max(len(one), 1) for one, other in zip(*lists, strict=True)]
    found = {
        HEADS[1]: plain[0].accuracy,
        HEADS[2]: plain[1].accuracy,
        HEADS[3]: tuned[0].accuracy,
        HEADS[4]: tuned[1].accuracy,
        HEADS[5]: float(np.mean(shared)),
    }
    return (model, *(f"{value:.3f}" for value in found.values())), found


def counts(
    data: Growing, recommender: Recommender, settings: VicinalSettings, condition: Condition
) -> Counts:
    """Of the newcomers."""
    setup = EvaluationSetup({"poisoned": recommender}, data.local, settings, (), LENGTH)
    return measure_here(setup, [condition], data.newcomers)[condition].counts


def costs(shape: str, news: tuple[int, ...], folder: Path) -> str:
    """The second table, and what it is about."""
    file, serving = folder / "ratings.csv", folder / "serving"
    write(file, load_source(shape, seed=SEED).ratings)
    cell = Study(dataset=shape, attack="none", seed=SEED).cell()
    training = TrainingSettings.on("", model="mf", seed=SEED, robust=cell.defense.robust)
    start = time.process_time()
    ratings = load_source(str(file)).ratings
    read = time.process_time() - start
    known = ratings.user_count - max(news)
    with ModelStore(folder / "store") as store:
        start = time.process_time()
        before = Source(ratings.rows(np.arange(known)), known)
        prepare(serving, store, before, training, {"vicinal": cell.settings})
        anew = time.process_time() - start
    rows = []
    for new in news:
        source = Source(ratings.rows(np.arange(known + new)), known + new)
        start = time.process_time()
        edition = refresh(serving, source)
        seconds = time.process_time() - start
        if edition.users != known + new:
            raise RuntimeError(f"{edition.users} users are served, not {known + new}")
        rows.append((f"{new:,}", f"{read:.2f}", f"{seconds:.2f}"))
    users, items = ratings.user_count, ratings.item_count
    about = COST.format(ratings=len(ratings), users=users, items=items, anew=anew)
    return f"{about}\n{table(('new users', 'read, s', 'folded in, s'), rows, texts=0)}"


def write(file: Path, ratings: RatingMatrix) -> None:
    """As csv, with ids in the order of the indices."""
    values = ratings.scale.values[ratings.levels].astype(np.int64)
    columns = np.stack([ratings.users, ratings.items, values], axis=1)
    lines = "\n".join(f"{user:06d},{item:06d},{value}" for user, item, value in columns.tolist())
    file.write_text(f"user,item,rating\n{lines}\n", encoding="ascii")


def section(short: bool) -> Section:
    """Both tables."""
    dataset = "ml-100k" if "VICINAL_DATA" in os.environ else "synthetic:943x1682x100000"
    dataset, models = ("synthetic:120x90", MODELS[:1]) if short else (dataset, MODELS)
    with TemporaryDirectory(prefix="vicinal-") as name:
        folder, data = Path(name), growing(dataset)
        rows, figures = [], {}
        for model in models:
            progress(f"newcomers: {model}")
            row, figures[model] = quality(data, model, folder)
            rows.append(row)
        progress("newcomers: a refresh")
        shape, news = (SHORT_GROWING, NEW[:1]) if short else (GROWING, NEW)
        second = costs(shape, news, folder)
    text = INTRODUCTION.format(dataset=dataset, users=len(data.newcomers))
    return Section(f"{text}\n{table(HEADS, rows)}\n\n{second}", figures)


if __name__ == "__main__":
    run(section)
