"""How a server puts clients' updates of the items' table together, by Flower's own functions.

Clients send the rows of some items only. **A row that was not sent is no vote**: a rule gets the
rows of an item that were sent, and an item that nobody sent stays as it is. So a row moves as far
as the clients that hold it agree on, however few they are (FedSubAvg, Ding et al. 2022,
"Federated Submodel Optimization for Hot and Cold Data Features"). Were a missing row a vote for 0,
the median of nearly every item would be 0, and nothing were learned.

    fedavg        mean of the rows
    median        of every coordinate (Yin et al. 2018)
    trimmed-mean  of every coordinate without its largest and smallest share (the same)
    krum          the one update that is nearest to others (Blanchard et al. 2017)
    multikrum     mean of the rows of all updates but the f that are farthest from others
    bulyan        of those that multikrum selects, the mean of the coordinates that are nearest to
                  their median (El Mhamdi et al. 2018)

Krum's distance is between whole updates, and there what was not sent is 0: the update does not
change it. Everywhere f = ⌈share · n⌉ of n updates are taken for malicious. **They may all have
sent the same row**: malicious clients choose their rows, and f is not less for one that few sent.

Shapes: n updates, I items, m rows of an item, d embedding width.
"""

import math
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from flwr.app import Array, ArrayRecord, RecordDict
from flwr.server.strategy.aggregate import aggregate_median
from flwr.serverapp.strategy.bulyan import aggregate_n_closest_weights
from flwr.serverapp.strategy.fedtrimmedavg import trim_mean
from flwr.serverapp.strategy.multikrum import select_multikrum
from numpy.typing import NDArray

from common.errors import InputError
from common.federated import Table, Update
from server.federated.settings import rule_named, suspected

# Rows of one item, [m, d], and f, to one row.
RowRule = Callable[[Table, int], NDArray[np.floating]]
# Updates, how many of them may be malicious, items and width, to those that count.
Selection = Callable[[Sequence[Update], int, int, int], Sequence[Update]]


def mean_row(rows: Table, _malicious: int) -> NDArray[np.floating]:
    """FedAvg of a row; every client has one vote, however much it rated."""
    found: NDArray[np.floating] = rows.mean(0)
    return found


def median_row(rows: Table, _malicious: int) -> NDArray[np.floating]:
    """FedMedian of a row."""
    return aggregate_median([([row], 1) for row in rows])[0]


def trimmed_row(rows: Table, malicious: int) -> NDArray[np.floating]:
    """FedTrimmedAvg of a row, which cuts what may be malicious off at both ends.

    Of fewer than 2 f + 1 rows it leaves the middle one or two.
    """
    # Half a row more, so that whole rows are cut whatever the quotient is rounded to.
    most = min(malicious, (len(rows) - 1) // 2)
    return trim_mean(rows, min((most + 0.5) / len(rows), 0.499)) if most else rows.mean(0)


def closest_row(rows: Table, malicious: int) -> NDArray[np.floating]:
    """The second step of Bulyan: the mean of all but 2 f values of a coordinate, near the median.

    Of fewer than 2 f + 1 rows it is the value nearest to the median.
    """
    kept = max(len(rows) - 2 * malicious, 1)
    median = median_row(rows, malicious)
    return aggregate_n_closest_weights([median], [[row] for row in rows], kept)[0]


def everybody(updates: Sequence[Update], _f: int, _items: int, _width: int) -> Sequence[Update]:
    """No selection."""
    return updates


def krum(updates: Sequence[Update], malicious: int, items: int, width: int) -> list[Update]:
    """The update with the least distance to its n − f − 2 nearest."""
    return _selected(updates, malicious, 1, items, width)


def multikrum(updates: Sequence[Update], malicious: int, items: int, width: int) -> list[Update]:
    """All but f, by the same measure."""
    return _selected(updates, malicious, max(len(updates) - malicious, 1), items, width)


def bulyan(updates: Sequence[Update], malicious: int, items: int, width: int) -> list[Update]:
    """The first step of Bulyan: θ = n − 2 f updates. Raises InputError for fewer than 4 f + 3."""
    if len(updates) < 4 * malicious + 3:
        raise InputError(
            f"bulyan: {len(updates)} clients a round with {malicious} malicious ones among them "
            f"are too few, it needs {4 * malicious + 3}: ask more, or take another --aggregate"
        )
    return _selected(updates, malicious, len(updates) - 2 * malicious, items, width)


# By the name that --aggregate takes: which updates count, and what becomes of an item's rows.
RULES: Final[dict[str, tuple[Selection, RowRule]]] = {
    "fedavg": (everybody, mean_row),
    "median": (everybody, median_row),
    "trimmed-mean": (everybody, trimmed_row),
    "krum": (krum, mean_row),
    "multikrum": (multikrum, mean_row),
    "bulyan": (bulyan, closest_row),
}


def aggregated(
    updates: Sequence[Update],
    rule: str,
    *,
    item_count: int,
    width: int,
    malicious_share: float,
    row_norm: float = math.inf,
) -> Update:
    """One update of all that clients sent in a round, which the server adds to its table.

    malicious_share  of the updates, that may be malicious: f ÷ n
    row_norm         C, which honest clients keep: longer rows are cut to it

    Raises InputError for an update that does not fit the table, for a rule that has another name,
    and for too few updates for it.
    """
    select, row_of = RULES[rule_named(rule)]
    checked = [each.of_table(item_count, width).clipped(row_norm) for each in updates]
    if not checked:
        return Update(np.zeros(0, dtype=np.int64), np.zeros((0, width), dtype=np.float32))
    malicious = suspected(len(checked), malicious_share)
    chosen = select(checked, malicious, item_count, width)
    items = np.concatenate([each.items for each in chosen])
    order = np.argsort(items, kind="stable")
    rows = np.concatenate([each.rows for each in chosen])[order]
    named, starts = np.unique(items[order], return_index=True)
    parts = np.split(rows, starts[1:]) if len(named) else []
    found = [row_of(part, malicious) for part in parts]
    whole = np.array(found, dtype=np.float32).reshape(len(named), width)
    return Update(named, whole)


def _selected(
    updates: Sequence[Update], malicious: int, count: int, items: int, width: int
) -> list[Update]:
    """Flower's selection, of whole tables."""
    contents = []
    for place, update in enumerate(updates):
        table = np.zeros((items, width), dtype=np.float32)
        table[update.items] = update.rows
        # The place goes with the table: what is selected comes back in another order.
        record = ArrayRecord({"table": Array(table)})
        contents.append((place, RecordDict({"update": record})))
    places = {id(content): place for place, content in contents}
    chosen = select_multikrum([content for _, content in contents], malicious, count)
    return [updates[places[id(content)]] for content in chosen]
