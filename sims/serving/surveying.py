"""The look that `vicinal serve --survey` takes at each version when it is made."""

from pathlib import Path
from typing import Final

from client.stores.ratings import LocalRatings
from common.files import write_file
from server.recommending.recommender import Recommender
from server.recommending.survey import surveyed, surveys_text
from server.versions.folder import SURVEY_FILE, read_description
from sims.progress import Report, quiet

# A table of all pairs of them takes 200 MB.
MOST_FITTED: Final = 5_000


def look(
    folder: Path,
    recommender: Recommender,
    local: LocalRatings,
    *,
    most: int,
    before: int | None = None,
    progress: Report = quiet,
) -> None:
    """Write what a look at a version found into a serving folder, for each of its presets.

    local   what the users' devices know, withheld items among it
    most    of how many users
    before  users whom the version before had; None: there was none

    A model without parameters of so many items is not looked at: its lists without a defense would
    take a table of all pairs of items. Raises OSError.
    """
    fitted = not recommender.version.served.model.tables
    if fitted and recommender.ratings.item_count > MOST_FITTED:
        return
    version = recommender.version.digest
    description, _ = read_description(folder, version)
    found = {}
    for done, (preset, settings) in enumerate(description.presets.items()):
        progress("look at the version", done, len(description.presets))
        found[preset] = surveyed(
            recommender,
            settings,
            description.watched,
            description.list_length,
            most=most,
            before=before,
            held_out=local.held_out,
        )
    progress("look at the version", len(found), len(found))
    write_file(folder / version / SURVEY_FILE, surveys_text(found).encode())
