"""Small files of ratings as people have them, and what reading them gives."""

from pathlib import Path
from typing import Any

import pytest

from common.errors import InputError
from server.data.datasets import Dataset, load_dataset
from server.data.reading_options import ReadingOptions

USERS, ITEMS = 30, 12
# (user, item, stars of 5, seconds): every user rates half of the items.
ROWS = [
    (user, item, 1 + (user * 7 + item * 3) % 5, 1_200_000_000 + 86_400 * user + item)
    for user in range(USERS)
    for item in range(ITEMS)
    if (user + item) % 2
]


def lines(form: str, *head: str, rows: list[tuple[int, int, int, int]] | None = None) -> bytes:
    """A line a rating: `form` has {u}, {i}, {r}, {t} and {n}, the number of the line."""
    body = [form.format(u=u, i=i, r=r, t=t, n=n) for n, (u, i, r, t) in enumerate(rows or ROWS)]
    return "\n".join([*head, *body, ""]).encode()


def read(folder: Path, name: str, data: bytes, **said: Any) -> Dataset:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return load_dataset(str(path), reading=ReadingOptions.of(**said))


def refusal(folder: Path, name: str, data: bytes, **said: Any) -> str:
    with pytest.raises(InputError) as caught:
        read(folder, name, data, **said)
    text = str(caught.value)
    assert "\n" not in text
    return text


def codes(dataset: Dataset) -> list[str]:
    return [doubt.code for doubt in dataset.doubts]


def check(dataset: Dataset, *, users: int = USERS, count: int = len(ROWS)) -> None:
    ratings = dataset.ratings
    assert (ratings.user_count, ratings.item_count, len(ratings)) == (users, ITEMS, count)


# Users who rate otherwise again, later.
AGAIN = [(u, i, 6 - r, t + 500) for u, i, r, t in ROWS[:4] if r != 3]


def crossing(stars: str = '"{r}"') -> bytes:
    """As Book-Crossing writes it."""
    text = lines('"{u}";"{i}é";' + stars, '"User-ID";"ISBN";"Book-Rating"').decode()
    return text.replace("\n", "\r\n").encode("latin-1")


def told(dataset: Dataset) -> dict[tuple[str, str], float]:
    """What the file says: the rating of each user and item, by their ids."""
    ratings = dataset.ratings
    users, items = ratings.user_ids, ratings.item_ids
    assert users is not None and items is not None
    values = ratings.scale.values[ratings.levels] - dataset.shift
    return {
        (users[u], items[i]): round(float(value), 6)
        for u, i, value in zip(ratings.users, ratings.items, values, strict=True)
    }


def meant(user: str = "{u}", item: str = "{i}") -> dict[tuple[str, str], float]:
    """What ROWS say, under such ids."""
    return {(user.format(u=u), item.format(i=i)): float(r) for u, i, r, _ in ROWS}
