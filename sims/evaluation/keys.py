"""What each key of a result means: of `vicinal evaluate --json`, `simulate --json` and a grid.

In names, words in capitals stand for several keys: CONDITION for those of CONDITIONS, METRIC for
those of METRICS, BASELINE for names of baselines. A dot leads into an object. `docs/reference.md`
is printed from here, and tests hold results against it.
"""

from typing import Final

from sims.evaluation.scores import HARMS

# Every condition is measured with the same users, targets and list length.
CONDITIONS: Final = {
    "clean": "the model trained without fakes, not defended",
    "clean_defended": "the model trained without fakes, defended; without a defense as `clean`",
    "undefended": "the attacked model, plainly trained and not defended",
    "defended": "the attacked model, defended; without a defense as `undefended`",
    "popularity": "items ranked by their number of ratings, fakes' included",
}

# Of each there is an interval. Without a word about it, a metric is a share in 0–1.
METRICS: Final = {
    "hit_ratio": "share of the users who have not rated a target and see it in their list, mean "
    "over targets; null where there are none",
    "hit_ratio_10": "the same of the first 10 items",
    "hit_ratio_50": "of the first 50, also where lists are shorter",
    "hit_ratio_inside": "of the attack's audience alone; null where that is everybody",
    "hit_ratio_outside": "of everybody else",
    "accuracy": "share of the users whose held-out item is in their list",
    "accuracy_thresholded": "the same over users who liked their held-out item",
    "accuracy_tail": "the same over users whose held-out item has fewer than 50 ratings by real "
    "users",
    "recall_10": "share of the users whose held-out item is among the first 10",
    "recall_50": "among the first 50, also where lists are shorter",
    "ndcg_10": "mean of 1 / log2(rank + 1) of the held-out item among the first 10, else 0",
    "mrr": "mean of 1 / rank of the held-out item among the first 50 or K, else 0",
    "unsupported_share": "share of the lists that is items without support; null where nothing is "
    "fine-tuned",
}
# Of these there is none.
WHOLE: Final = {
    "coverage": "share of all items that are in somebody's list",
    "hit_ratio_worst_group": "`hit_ratio` of that group of users of like taste where it is highest "
    "(lowest where the attack demotes)",
    "worst_group_size": "how many users that group has",
}

# What was asked for.
ASKED: Final = {
    "dataset": "name or file of the data set",
    "model": "name of the recommender, or the file and function of one's own, `FILE.py:FUNCTION`",
    "attack": "name of the attack, none, `file:PATH`, or `FILE.py:FUNCTION` of one's own",
    "defense": "name of the defense",
    "preset": "name of the preset that the vicinal settings began as, `own` for a model of one's "
    "own; in a grid empty without rvd",
    "release": "what devices are given where rvd defends: rows of neighbors, or a book",
    "seed": "of the split, the targets, the attack and the training",
    "k": "neighbors in a neighborhood, the user itself included",
    "unrated_weight": "α: weight of the items that a neighbor did not rate",
    "steps": "T: fine-tuning steps",
    "min_support": "m: neighbors who must have rated an item",
    "proximal_weight": "λ: how firmly a copy is held near the model",
    "neighbors_by": "`ratings`, `embedding` or `random`: where users are near each other",
    "assumed_fakes": "φ: share of all accounts that may be fakes; 0 admits every item",
    "margin": "s: raters that an item needs beyond the assumed fakes",
    "candidates": "C: unrated items looked for among the nearest users; 0 counts all users",
    "exploration": "ρ: share of users for whom an item needs no raters",
    "row_cap": "ratings of a neighbor that a device is sent, at most; 0: all",
    "fold_in": "whether devices make vectors of users of the rows, and are sent none",
    "tolerated_fakes": "f: how many accounts that share is",
    "list_length": "K: items in a recommendation",
}

# How it was trained; of an evaluation alone.
TRAINED: Final = {
    "train": "`central`, or `federated`: clients trained it together",
    "federated": "settings of the federated training, as `rounds=100`, with spaces between; else "
    "empty",
    "update_attack": "what malicious clients sent instead of updates of their own, or none",
    "update_attack_options": "its options, as `mined=10`, with spaces between",
    "malicious_share": "malicious clients ÷ real users, where no fakes have ratings",
}

# What was found.
FOUND: Final = {
    "source": "where the ratings came from: a file, or how they were made",
    "split": "`published` (the data set's own), `given` (a test file), `random` or `latest`",
    "users": "how many users were measured",
    "fakes": "how many fake users there were",
    "targets": "indices of the target items",
    "goal": "`promote` or `demote`: where the attack wants its targets",
    "audience": "how many users the attack aims at; 0 is everybody",
    **{f"{name}.CONDITION": text for name, text in (METRICS | WHOLE).items()},
    "hit_ratio_per_target": "`hit_ratio` of each of `targets`, under `defended`",
    **{
        f"{over}.{name}": f"how far the hit ratio of `{name}` is above that of `{condition}`; "
        "below it where the attack demotes: positive is harm"
        for over, (condition, names) in HARMS.items()
        for name in names
    },
    "tail_users": "users whose held-out item has fewer than 50 ratings",
    "groups": "groups of like taste that the users fall into",
    "intervals.METRIC.CONDITION": "ends of the 95 % interval over users (1,000 resamples of them); "
    "null where there is nothing to measure",
    **{
        f"intervals.{over}.{name}": f"the same of `{over}`"
        for over, (_, names) in HARMS.items()
        for name in names
    },
    "baselines.BASELINE.METRIC": "the metric of an undefended baseline on the attacked ratings",
    **{f"baselines.BASELINE.{name}": f"`{name}` of a baseline" for name in WHOLE},
    "baselines.BASELINE.intervals.METRIC": "ends of its 95 % interval",
    "fake_neighbor_share": "share of fakes among users' neighbors; 0 without rvd",
}

SECONDS: Final = {
    "seconds.train": "training of all models; near 0 for models from the store",
    "seconds.defend": "everything after it: all users under all conditions",
    "seconds.per_user_p50": "of one user's defended answer, median",
    "seconds.per_user_p99": "of one user's defended answer, 99th percentile",
}

# How a file was read, and what looks wrong in it.
READ: Final = {
    "data_digest": "SHA-256 of all ratings and ids, before anything is held out",
    "target_ids": "ids of the target items; of items without ids the indices",
    "target_items[].index": "index of a target item, as in `targets`",
    "target_items[].id": "its id; the index where there are no ids",
    "target_items[].title": "its title, as --items has it, or null",
    "reading.options": "options of reading that were given, by name",
    "reading.notes": "what was done with the file, as sentences",
    "reading.shift": "what was added to every rating, so that all are positive",
    "warnings": "what looks wrong in the ratings: each with a `code`, of those below, and a `text`",
}

EVALUATION: Final = {
    **ASKED,
    **TRAINED,
    **FOUND,
    **READ,
    "notes": "what was measured otherwise than it was asked for, as sentences",
    **SECONDS,
}

# What messages cost; names are those of `vicinal latency`.
_TIMES: Final = {
    "ms": "from sending work to having its answer, milliseconds",
    "queue_ms": "of that, until the client began; by the client's clock",
    "computed_ms": "of that, the client's work, as it says",
    "transfer_ms": "of that, the way back",
}
_COST: Final = {
    "messages": "messages sent",
    "resent": "of them, sent again, perhaps to another client",
    "failed": "of them, that ended in an error or without a reply that counts",
    "bytes.up": "bytes of replies",
    "bytes.down": "bytes of messages to clients",
    "device_processor_ms": "processor time of a message's work at the client, mean; null: none",
    "latency.answers": "messages whose work was answered",
    "latency.largest_ms": "of the slowest; null: none",
    **{f"latency.{name}.p50": f"{text}: median" for name, text in _TIMES.items()},
    **{
        f"latency.{name}.p99": f"{text}: 99th percentile; null for fewer than 100"
        for name, text in _TIMES.items()
    },
}

FLEET: Final = {
    **ASKED,
    **{name: FOUND[name] for name in ("source", "split", "users", "targets")},
    **READ,
    "clients": "virtual clients who shared the users out",
    "hit_ratio.defended": FOUND["hit_ratio.CONDITION"],
    "hit_ratio_per_target": FOUND["hit_ratio_per_target"],
    "accuracy.defended": FOUND["accuracy.CONDITION"],
    "accuracy_thresholded.defended": FOUND["accuracy_thresholded.CONDITION"],
    "counts.COUNT": "the sums that the rest is computed from",
    "version": "SHA-256 of the model version",
    "answered": "users who were answered",
    "resumed": "of them, by an earlier run that was broken off",
    "broken_off": "why the run ended before all were asked; null where it did not",
    "failures[].partition": "of the client that failed; null where it is not known",
    "failures[].client": "its node id in Flower; null where nobody was there",
    "failures[].users": "who were not answered",
    "failures[].reason": "one line",
    "partitions[].partition": "p: the users u with u mod clients = p",
    "partitions[].users": "how many these are",
    "partitions[].answered": "how many of them were answered",
    "partitions[].counts.COUNT": "of them alone",
    **_COST,
    "per_client[].client": "node id in Flower",
    "per_client[].partition": "that it plays; null for one that left",
    **{f"per_client[].{key}": f"of it: {text}" for key, text in _COST.items()},
    "report_privacy.kind": "what reports keep to themselves: none, secagg, central or local",
    "report_privacy.epsilon": "of central and local; null without noise",
    "report_privacy.spent.most": "epsilon that a user has spent at most, over all receipts",
    "report_privacy.spent.mean": "the same on average",
    "report_privacy.error": "standard error of hit_ratio, accuracy and accuracy_thresholded; null "
    "without noise. With noise, counts are null",
    "report_privacy.hits": "of each target, users as estimated; null without noise",
    "report_privacy.outcomes": "users as estimated: without a held-out item; with one that was not "
    "liked and not hit, not liked and hit, liked and not hit, liked and hit; null without noise",
    "server_processor_seconds": "processor time of the server app",
    "seconds.fleet": "from the first message to the last answer, without Flower's start",
}

_NOT_IN_GRIDS: Final = ("source", "split", "hit_ratio_per_target", "tolerated_fakes")
# Of a cell's file; a column of results.parquet has `_` where a key has a dot.
GRID: Final = {
    "format": "of the file; another one is refused",
    **{name: text for name, text in ASKED.items() if name not in _NOT_IN_GRIDS},
    "attack_size": "fakes as a share of real users",
    "attack_options": "options of the attack; as JSON in results.parquet",
    "step_rule": "curvature, adagrad, adam or closed-form",
    "learning_rate": "of adagrad and adam; 0 for curvature",
    "proximal_weight": "λ: what holds the copy near the model",
    "model_digest": "of a model's file, where the model is a function in one; else empty",
    "attack_digest": "the same for the attack",
    "error": "why the cell failed; empty for one that was measured",
    "warnings": READ["warnings"],
    **{name: text for name, text in FOUND.items() if name not in _NOT_IN_GRIDS},
    **SECONDS,
}

# Of `vicinal compare --json`.
COMPARED: Final = {
    "first": "what the first file is of",
    "second": "what the second file is of",
    "users": "how many users were compared",
    "differences[].metric": "as of an evaluation",
    "differences[].first": "its value in the first file",
    "differences[].second": "its value in the second file",
    "differences[].difference": "second less first",
    "differences[].low": "lower end of its 95 % interval, from resampled users",
    "differences[].high": "upper end",
    "differences[].p": "of no difference: a permutation test, two-sided",
    "differences[].only_first": "of accuracy, users whose held-out item is in the first's list "
    "alone; else null",
    "differences[].only_second": "in the second's list alone",
}
# Of a row that `--per-user` writes: a user under a condition.
PER_USER: Final = {
    "user": "index of the user",
    "condition": "one of CONDITION, or the name of a baseline",
    "rank": "of the held-out item, from 1; 0 beyond the first 50 or K, null where none is held out",
    "liked": "whether the held-out item was liked",
    "tail": "whether it has fewer than 50 ratings by real users",
    "hits": "targets in the list",
    "eligible": "targets that the user has not rated",
    "target_ranks": "of each target, from 1; 0 beyond the first 50 or K, −1 where the user has "
    "rated it",
    "shown": "items in the list",
    "unsupported": "of these, items without support; null where nothing is fine-tuned",
    "group": "group of users of like taste, 0 the largest",
    "inside": "whether the attack aims at the user; null where it aims at everybody",
    "format": "of the file; another one is refused",
    "digest": "of the ratings trained on without fakes, and of the held-out items",
    **{name: ASKED[name] for name in ("dataset", "model", "attack", "defense", "preset", "seed")},
    "list_length": ASKED["list_length"],
    "targets": "indices of the target items, with spaces between",
    "user_id": "id of the user; the index where there are no ids",
    "target_ids": "ids of the target items, a list",
    "target_titles": "their titles, a list; null where --items has none",
    "goal": FOUND["goal"],
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
