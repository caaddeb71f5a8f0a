"""What each key of a result means: of `vicinal evaluate --json`, `simulate --json` and a grid.

In names, words in capitals stand for several keys: CONDITION for those of CONDITIONS. A dot leads
into an object. `docs/reference.md` is printed from here, and tests hold results against it.
"""

from typing import Final

# Every condition is measured with the same users, targets and list length.
CONDITIONS: Final = {
    "clean": "the model trained without fakes, not defended",
    "clean_defended": "the model trained without fakes, defended; without a defense as `clean`",
    "undefended": "the attacked model, plainly trained and not defended",
    "defended": "the attacked model, defended; without a defense as `undefended`",
    "popularity": "items ranked by their number of ratings, fakes' included",
}

# What was asked for.
ASKED: Final = {
    "dataset": "name or file of the data set",
    "model": "name of the recommender, or the file and function of one's own, `FILE.py:FUNCTION`",
    "attack": "name of the attack, none, `file:PATH`, or `FILE.py:FUNCTION` of one's own",
    "defense": "name of the defense",
    "preset": "name of the preset that the vicinal settings began as, `own` for a model of one's "
    "own; in a grid empty without rvd",
    "seed": "of the split, the targets, the attack and the training",
    "k": "neighbors in a neighborhood, the user itself included",
    "unrated_weight": "α: weight of the items that a neighbor did not rate",
    "steps": "T: fine-tuning steps",
    "min_support": "m: neighbors who must have rated an item",
    "list_length": "K: items in a recommendation",
}

# What was found.
FOUND: Final = {
    "source": "where the ratings came from: a file, or how they were made",
    "split": "`published` (the data set's own) or `random`",
    "users": "how many users were measured",
    "fakes": "how many fake users there were",
    "targets": "indices of the target items",
    "hit_ratio.CONDITION": "share of the users who have not rated a target and see it in their "
    "list, mean over targets; null where there are none",
    "hit_ratio_per_target": "the same for each of `targets`, under `defended`",
    "accuracy.CONDITION": "share of the users whose held-out item is in their list",
    "accuracy_thresholded.CONDITION": "the same over users who liked their held-out item",
    "fake_neighbor_share": "share of fakes among users' neighbors; 0 without rvd",
}

SECONDS: Final = {
    "seconds.train": "training of all models; near 0 for models from the store",
    "seconds.defend": "everything after it: all users under all conditions",
    "seconds.per_user_p50": "of one user's defended answer, median",
    "seconds.per_user_p99": "of one user's defended answer, 99th percentile",
}

EVALUATION: Final = {
    **ASKED,
    **FOUND,
    "notes": "what was measured otherwise than it was asked for, as sentences",
    **SECONDS,
}

FLEET: Final = {
    **ASKED,
    **{name: FOUND[name] for name in ("source", "split", "users", "targets")},
    "clients": "virtual clients who shared the users out",
    "hit_ratio.defended": FOUND["hit_ratio.CONDITION"],
    "hit_ratio_per_target": FOUND["hit_ratio_per_target"],
    "accuracy.defended": FOUND["accuracy.CONDITION"],
    "accuracy_thresholded.defended": FOUND["accuracy_thresholded.CONDITION"],
    "counts.COUNT": "the sums that the rest is computed from",
    "version": "SHA-256 of the model version",
    "seconds.fleet": "from the first message to the last answer, without Flower's start",
}

_NOT_IN_GRIDS: Final = ("source", "split", "hit_ratio_per_target")
# Of a cell's file; a column of results.parquet has `_` where a key has a dot.
GRID: Final = {
    "format": "of the file; another one is refused",
    **ASKED,
    "attack_size": "fakes as a share of real users",
    "attack_options": "options of the attack; as JSON in results.parquet",
    "step_rule": "curvature, adagrad or adam",
    "learning_rate": "of adagrad and adam; 0 for curvature",
    "proximal_weight": "λ: what holds the copy near the model",
    "model_digest": "of a model's file, where the model is a function in one; else empty",
    "attack_digest": "the same for the attack",
    "error": "why the cell failed; empty for one that was measured",
    **{name: text for name, text in FOUND.items() if name not in _NOT_IN_GRIDS},
    **SECONDS,
}

# COUNT, wherever a result has `counts`: sums over users (common.ranking.Counts).
COUNTS: Final = {
    "eligible": "for each watched item, users who have not rated it",
    "hits": "for each watched item, eligible users who have it in their list",
    "users": "users with a held-out item",
    "user_hits": "of these, whose list has it",
    "liked": "users who liked their held-out item",
    "liked_hits": "of these, whose list has it",
    "on_device": "users answered on the device, from a package just fetched",
    "stale": "users answered from a package of before",
    "by_server": "users answered by the server",
}
