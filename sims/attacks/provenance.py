"""Which ratings profiles were made for: their indices mean nothing for others."""

from dataclasses import replace
from typing import Final

from common.errors import InputError
from server.data.datasets import Dataset
from server.data.doubts import Doubt
from server.data.ids import data_digest, items_digest
from sims.attacks.profiles import Profiles

# Notes of profiles: of which item has which index, and of all that was attacked.
ITEMS_DIGEST: Final = "items_digest"
DATA_DIGEST: Final = "data_digest"


def of_data(profiles: Profiles, dataset: Dataset) -> Profiles:
    """Made profiles with a note of whose indices they have."""
    digests = {
        ITEMS_DIGEST: items_digest(dataset.ratings),
        DATA_DIGEST: data_digest(dataset.ratings),
    }
    return replace(profiles, notes={**profiles.notes, **digests})


def made_for_others(profiles: Profiles, dataset: Dataset) -> tuple[Doubt, ...]:
    """Raises InputError for profiles whose indices mean other items than those of the data set."""
    told, items = profiles.notes.get(ITEMS_DIGEST), items_digest(dataset.ratings)
    if told is not None and told != items:
        raise InputError(
            f"these profiles are of other items: their {ITEMS_DIGEST} is {told:.16}, that of "
            f"{dataset.name} is {items}; make them again with `vicinal attack`"
        )
    told, whole = profiles.notes.get(DATA_DIGEST), data_digest(dataset.ratings)
    if told is None or told == whole:
        return ()
    text = f"the profiles were made for other ratings of the same items, data digest {told:.16}"
    return (Doubt("other-profiles", text),)
