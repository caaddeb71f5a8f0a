"""Which release a device takes from a server: rows of neighbors for every user, or a book."""

from common.errors import InputError
from common.vicinal.book import Release
from common.wire.description import Description


def check_release(
    description: Description, wanted: Release | None, *, slim: bool, server: str
) -> None:
    """Raises InputError where a server gives something else than is wanted.

    wanted  None takes what it gives; slim: no model version is held
    """
    if description.book is None:
        if wanted == "book":
            raise InputError(
                f"{server}: it has no book, and would be asked for every user: start it with "
                "`vicinal serve --release book`, or leave out --release"
            )
        return
    if wanted == "rows":
        raise InputError(f"{server}: it gives a book, and no rows: take --release book")
    if slim:
        raise InputError(
            f"{server}: a book goes with the whole model: leave out --slim, and take "
            "--encoding int8 for a small one"
        )
