"""Known names of the columns of a rating file."""

from collections.abc import Sequence

from common.errors import InputError

# What a column may be called; case, spaces, hyphens, underscores and a ":type" are ignored.
COLUMN_NAMES = {
    "user": ("user", "userid", "uid", "reviewerid"),
    "item": ("item", "itemid", "iid", "movie", "movieid", "business", "businessid", "product",
             "productid", "bookid", "asin"),
    "rating": ("rating", "ratings", "stars", "score", "overall"),
    "timestamp": ("timestamp", "time", "unixreviewtime"),
}  # fmt: skip


def column_positions(names: Sequence[str], where: str) -> dict[str, int]:
    """Where the column of each role stands.

    Raises InputError for an unknown column, a role played twice, or one that nobody plays.
    """
    roles = [_role(name) for name in names]
    wanted = "user, item, rating and perhaps timestamp"
    if not any(roles):
        shown = ", ".join(map(repr, names))
        raise InputError(f"{where}: neither a rating nor names of columns ({wanted}): {shown:.60}")
    positions: dict[str, int] = {}
    for at, (name, role) in enumerate(zip(names, roles, strict=True)):
        if role is None or role in positions:
            fault = "unknown" if role is None else "second"
            raise InputError(f"{where}: {fault} column {name[:40]!r}; keep {wanted}")
        positions[role] = at
    if missing := [role for role in ("user", "item", "rating") if role not in positions]:
        raise InputError(f"{where}: no column for {' and '.join(missing)}")
    return positions


def _role(name: str) -> str | None:
    plain = name.split(":", maxsplit=1)[0].lower()
    for ignored in " -_":
        plain = plain.replace(ignored, "")
    return next((role for role, names in COLUMN_NAMES.items() if plain in names), None)
