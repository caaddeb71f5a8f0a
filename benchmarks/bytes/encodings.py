"""Encodings and deltas of model versions, measured: `python -m benchmarks.bytes.encodings`.

Prints a Markdown section of two tables. The first holds what a device answers with a version that
it fetched as float16 or int8 against what it answers with float32. The second trains a version
without 1 % of the ratings, retrains it on all of them (server.preparing) and counts the
bytes that bring a device from the one to the other, in the way that common/versions/transfers.py
chose and in the ways that it did not.
"""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Final

import numpy as np
import typer
from backports import zstd
from numpy.typing import NDArray

from benchmarks.report import progress, table
from client.device import answer
from common.models import MODELS
from common.ranking import Counts
from common.ratings import RatingMatrix
from common.threads import limit_threads
from common.versions.encodings import ENCODINGS, decode_form, encode_form, form_of
from common.versions.transfers import LEVEL, pack, planes, split
from common.versions.version import ModelVersion
from common.vicinal.settings import PRESETS, preset
from server.model_store import ModelStore
from server.preparing import EPOCHS, RATE_SHARE, warm_started
from server.recommending.recommender import Recommender
from server.training.train import TrainingSettings, train
from sims.evaluation.cell import sample
from sims.evaluation.experiment import Experiment, Prepared, prepare

NEW_SHARE: Final = 0.01
HEADS: Final = ("model", "preset", "encoding", "bytes", "packed", "overlap", "HR", "accuracy")
DELTA_HEADS: Final = ("model", "encoding", "packed", "xor", "xor, planes", "rows", "chosen")
WARM_HEADS: Final = ("model", "training", "int8 delta", "HR", "accuracy")

Answers = tuple[list[NDArray[np.int64]], Counts]


def answered(
    version: ModelVersion,
    recommender: Recommender,
    prepared: Prepared,
    name: str,
    users: NDArray[np.int64],
) -> Answers:
    """Top K and counts of users whose devices have `version`, with the server's neighborhoods."""
    settings = preset(name, model=version.manifest.model)
    lists, counts = [], Counts.none(len(prepared.watched))
    for user in users.tolist():
        items, one = answer(
            version,
            recommender.neighborhood(user, settings),
            settings,
            rated=prepared.local.train.items_of(user),
            held_out=prepared.local.held_out_of(user),
            watched=prepared.watched,
            list_length=prepared.experiment.list_length,
        )
        lists.append(items)
        counts += one
    return lists, counts


def overlap(lists: list[NDArray[np.int64]], others: list[NDArray[np.int64]]) -> float:
    """The mean share of a list that the other one holds too."""
    pairs = zip(lists, others, strict=True)
    return float(np.mean([np.isin(mine, theirs).mean() for mine, theirs in pairs]))


def encoding_rows(
    prepared: Prepared, recommender: Recommender, users: NDArray[np.int64]
) -> Iterator[list[str]]:
    """The first table's lines of one model."""
    version, model = recommender.version, prepared.experiment.model
    whole = len(encode_form(version, "float32"))
    for name in PRESETS[model]:
        original = answered(version, recommender, prepared, name, users)
        for encoding in ENCODINGS:
            progress(f"{model} {name} {encoding}")
            data = encode_form(version, encoding)
            form = form_of(data, encoding)
            decoded = decode_form(data, form, version=version.digest)
            lists, counts = (
                original
                if encoding == "float32"
                else answered(decoded, recommender, prepared, name, users)
            )
            sizes = (len(data) / whole, len(pack(data, encoding)) / whole)
            values = (*sizes, overlap(original[0], lists), counts.hit_ratio, counts.accuracy)
            yield [model, name, encoding, *(f"{value:.3f}" for value in values)]


def without_some(ratings: RatingMatrix, users: int) -> RatingMatrix:
    """The ratings without a share of those of the first `users`."""
    rng = np.random.default_rng(0)
    keep = (rng.random(len(ratings)) >= NEW_SHARE) | (ratings.users >= users)
    indptr = np.concatenate([[0], np.cumsum(keep)])[ratings.indptr]
    return RatingMatrix(
        indptr, ratings.items[keep], ratings.levels[keep], ratings.item_count, ratings.scale
    )


def delta_rows(model: str, old: ModelVersion, new: ModelVersion) -> Iterator[list[str]]:
    """The second table's lines: bytes by each way ÷ those of the form."""
    for encoding in ENCODINGS:
        before, after = encode_form(old, encoding), encode_form(new, encoding)
        _, lanes_before = split(before, encoding)
        header, lanes = split(after, encoding)
        changed = lanes ^ lanes_before
        width = lanes.dtype.itemsize * old.manifest.width
        rows = changed.view(np.uint8)[: changed.nbytes // width * width].reshape(-1, width)
        some = rows.any(axis=1)
        kept = np.packbits(some).tobytes() + rows[some].tobytes()
        ways = (
            len(pack(after, encoding)),
            *(
                len(zstd.compress(header + data, LEVEL))
                for data in (changed.tobytes(), planes(changed), kept)
            ),
            len(pack(after, encoding, before)),
        )
        yield [model, encoding, *(f"{size / len(after):.3f}" for size in ways)]


def retrained(
    prepared: Prepared, anew: Recommender, store: ModelStore, users: NDArray[np.int64]
) -> tuple[list[list[str]], list[list[str]]]:
    """The second and the third table's lines of one model."""
    model, ratings = prepared.experiment.model, prepared.poisoned
    progress(f"{model} retraining")
    dataset, seed = prepared.experiment.dataset, prepared.experiment.seed
    settings = TrainingSettings.on(dataset, model=model, seed=seed)
    old_ratings = without_some(ratings, prepared.user_count)
    old = store.save(train(old_ratings, settings))
    served = Recommender(old, old_ratings, prepared.user_count)
    deltas: list[list[str]] = []
    warm: list[list[str]] = []
    models = [("without them", served), ("anew", anew)]
    for share in (1.0, RATE_SHARE):
        stored = store.save(
            warm_started(
                served, ratings, served.user_count, dataset=dataset, seed=seed, rate_share=share
            )
        )
        models.append(
            (f"warm, rate × {share:g}", Recommender(stored, ratings, prepared.user_count))
        )
    for label, recommender in models:
        before, after = (encode_form(one.version, "int8") for one in (served, recommender))
        _, counts = answered(recommender.version, recommender, prepared, "vicinal", users)
        size = len(pack(after, "int8", before)) / len(after)
        cells = ("" if recommender is served else f"{size:.3f}", f"{counts.hit_ratio:.3f}")
        warm.append([model, label, *cells, f"{counts.accuracy:.3f}"])
    deltas += delta_rows(model, old.version, models[-1][1].version)
    return deltas, warm


def main(
    dataset: Annotated[str, typer.Option("--dataset")] = "ml-100k",
    users: Annotated[
        int | None, typer.Option("--users", min=1, help="A sample; default: all.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
    short: Annotated[bool, typer.Option("--short", help="mf on little synthetic data.")] = False,
) -> None:
    """Attack with mixrand, encode, retrain, print a section."""
    limit_threads()
    if short:
        dataset = "synthetic:300x200"
    first: list[list[str]] = []
    second: list[list[str]] = []
    third: list[list[str]] = []
    with TemporaryDirectory() as folder, ModelStore(Path(folder)) as store:
        for model in ["mf"] if short else MODELS:
            progress(f"{model} training")
            prepared = prepare(Experiment(dataset, model, seed=seed))
            asked = sample(prepared, users)
            recommender = prepared.train(store)
            first += encoding_rows(prepared, recommender, asked)
            deltas, warm = retrained(prepared, recommender, store, asked)
            second += deltas
            third += warm
    typer.echo("## Encodings and deltas of versions\n")
    typer.echo(f"{dataset}, mixrand, seed {seed}, K = 50, {users or 'all'} users. Bytes are shares")
    typer.echo("of float32's; overlap is with float32's lists.\n")
    typer.echo(table(HEADS, first, texts=3))
    typer.echo(f"\nA version after {EPOCHS} warm-started epochs with {NEW_SHARE:.0%} new ratings,")
    typer.echo("for a device that holds the version before. Shares of the form's bytes.\n")
    typer.echo(table(DELTA_HEADS, second, texts=2))
    typer.echo("\nThe same versions' answers, preset vicinal.\n")
    typer.echo(table(WARM_HEADS, third, texts=2))


if __name__ == "__main__":
    typer.run(main)
