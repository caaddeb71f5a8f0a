"""What to say of a name that is on no list: the nearest that is, and the whole list."""

from collections.abc import Iterable
from difflib import get_close_matches

from common.errors import InputError
from common.text import one_line

# A stranger's name may be long; lines are not.
_SHOWN = 80
_LISTED = 100


def unknown(
    kind: str,
    name: str,
    known: Iterable[str],
    *,
    where: str = "",
    offer: str = "choose one of",
    more: str = "",
) -> InputError:
    """The error to raise for a name that is not among those known.

    where  it was given; offer: what to do with those known; more: what may be given besides

    >>> print(unknown("model", "MFF", ["mf", "nsvd"], more=", or your own"))
    unknown model 'MFF': did you mean mf? choose one of mf, nsvd, or your own
    """
    # A server's names are a stranger's, too.
    names = [one_line(each, _SHOWN) for each in known]
    near = nearest(name, names)
    hint = f"did you mean {near}? " if near else ""
    place = f"{where}: " if where else ""
    return InputError(
        f"{place}unknown {kind} {name[:_SHOWN]!r}: {hint}{offer} {_listed(names)}{more}"
    )


def _listed(names: list[str]) -> str:
    some = ", ".join(names[:_LISTED])
    return some if len(names) <= _LISTED else f"{some} … ({len(names)} in all)"


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The name that was probably meant, whatever its case; None when none is near.

    >>> nearest("fm", ["mf", "nsvd"])
    'mf'
    """
    return next(iter(near_ones(name, known, most=1)), None)


def near_ones(name: str, known: Iterable[str], *, most: int = 3) -> list[str]:
    """The names that may have been meant, the likeliest first.

    >>> near_ones("ml-1", ["ml-1m", "yelp", "ml-100k"])
    ['ml-1m', 'ml-100k']
    """
    names = {one.lower(): one for one in known}
    given = name[:_SHOWN].lower()
    near = get_close_matches(given, names, most)
    # Two letters the other way round have too little in common for difflib.
    swapped = [one for one in names if given and sorted(one) == sorted(given)]
    return [names[one] for one in dict.fromkeys(near + swapped)][:most]
