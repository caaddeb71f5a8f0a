"""Times of ratings as seconds since 1970: numbers of any unit, and dates."""

from typing import Final

import polars as pl

from common.errors import InputError

# Beyond 2^53 a time that another program holds as a float is no longer exact.
MAX_TIME: Final = 2**53
PER_SECOND: Final = {
    "seconds": 1,
    "milliseconds": 10**3,
    "microseconds": 10**6,
    "nanoseconds": 10**9,
}
# Of 1973–2286 in each unit; these ranges do not meet, and nobody rated in the year 5138.
_LEAST: Final = 10**8
_MOST: Final = 10**10
# As in Yelp's, Netflix's, Goodreads' and Amazon's files; the last number is a fraction or a zone.
FORMATS: Final = (
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%dT%H:%M:%S%.f",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%d",
    "%Y/%m/%d %H:%M:%S",
    "%Y/%m/%d",
    "%Y%m%d",
    "%m %d, %Y",
    "%B %d, %Y",
    "%d %B %Y",
    "%b %d, %Y",
    "%d %b %Y",
    "%d-%b-%Y",
    "%Y-%m-%dT%H:%M",
    "%Y-%m-%d %H:%M:%S UTC",
    "%Y.%m.%d",
)
# Days and months in figures, in either order; what follows the year.
_FIGURES: Final = r"^([0-9]{1,2})([./-])([0-9]{1,2})[./-]([0-9]{4}|[0-9]{2})(?:[ T,]|$)"
_CLOCKS: Final = ("", " %H:%M:%S", " %H:%M", " %I:%M:%S %p", " %I:%M %p", " %H:%M:%S%.f")
DATES: Final = ("date", "day-first", "month-first")
ZONED: Final = (
    "%a %b %d %H:%M:%S %z %Y",
    "%a, %d %b %Y %H:%M:%S %z",
    "%Y-%m-%dT%H:%M:%S%.f%#z",
    "%Y-%m-%d %H:%M:%S%.f%#z",
)


def as_seconds(times: pl.Series, unit: str | None) -> tuple[pl.Series, pl.Series, list[str]]:
    """Seconds [N], where there is none a null; which of them are wrong [N]; and notes.

    times  whole numbers, floats, or text of numbers or dates
    unit   of reading options; None recognizes it

    Raises InputError where days and months cannot be told apart.
    """
    if unit in DATES:
        return _dates(times, unit)
    whole, wrong = _numbers(times)
    if wrong.all() and times.dtype == pl.String and len(times):
        return _dates(times, unit)
    if wrong.any():
        return whole, wrong, []
    found = unit or _unit(whole)
    seconds = whole // PER_SECOND[found]
    note = [] if unit or found == "seconds" else [f"times are taken for {found} (--time-unit)"]
    return seconds, wrong, note


def _numbers(times: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Whole numbers, and which are none that can be a time."""
    if times.dtype.is_integer():
        whole = times.cast(pl.Int64, strict=False)
        return whole, whole.is_null()
    if times.dtype == pl.String:
        whole = times.cast(pl.Int64, strict=False)
        if not whole.is_null().any():
            return whole, whole.is_null()
    floats = times.cast(pl.Float64, strict=False)
    wrong = (floats.is_null() | ~(floats.abs() <= MAX_TIME)).fill_null(True)
    exact = floats.set(wrong, None).floor().cast(pl.Int64)
    if times.dtype == pl.String:
        exact = whole.fill_null(exact) if not wrong.all() else exact
        wrong = exact.is_null()
    return exact, wrong


def _unit(whole: pl.Series) -> str:
    """The unit in which all of them, but for 0, lie in 1973–2286; else seconds."""
    some = whole.filter(whole != 0)
    if len(some):
        least, most = int(some.min()), int(some.max())  # type: ignore[arg-type]
        for unit, count in PER_SECOND.items():
            if count * _LEAST <= least and most <= count * _MOST:
                return unit
    return "seconds"


def _dates(times: pl.Series, unit: str | None) -> tuple[pl.Series, pl.Series, list[str]]:
    """By the first form that all dates have; wrong are those that the best one does not read."""
    best: pl.Series | None = None
    times = times.cast(pl.String)
    figures, notes = _in_figures(times, unit)
    forms = figures or FORMATS
    for form, zoned in [*((each, False) for each in forms), *((each, True) for each in ZONED)]:
        try:
            parsed = times.str.to_datetime(
                form, strict=False, time_unit="us", time_zone="UTC" if zoned else None
            )
        except pl.exceptions.PolarsError:
            continue
        if best is None or parsed.null_count() < best.null_count():
            best = parsed
        if not parsed.null_count():
            break
    assert best is not None
    seconds = best.dt.epoch("s")
    return seconds, seconds.is_null(), notes


def _in_figures(times: pl.Series, unit: str | None) -> tuple[list[str], list[str]]:
    """Forms of dates as 22.06.2015 and 6/22/2015, and a note; none where they are others.

    Raises InputError where the day may be the month, and nobody says which it is.
    """
    parts = times.str.extract_groups(_FIGURES).struct.unnest()
    parts.columns = ["first", "mark", "second", "year"]
    if parts["mark"].null_count():
        return [], []
    first, second = (parts[each].cast(pl.Int32).max() for each in ("first", "second"))
    assert isinstance(first, int) and isinstance(second, int)
    mark, notes = parts["mark"][0], []
    if mark == "." or unit == "day-first" or (unit != "month-first" and first > 12):
        days_first = True
    elif unit == "month-first" or second > 12:
        days_first = False
    else:
        raise InputError(
            f"dates as {times[0][:20]} may begin with the day or with the month: give --time-unit "
            "day-first or month-first"
        )
    if mark != "." and unit not in DATES[1:]:
        notes.append(f"dates begin with the {'day' if days_first else 'month'} (--time-unit)")
    year = "%Y" if parts["year"].str.len_chars().min() == 4 else "%y"
    day = f"%d{mark}%m{mark}{year}" if days_first else f"%m{mark}%d{mark}{year}"
    return [f"{day}{clock}" for clock in _CLOCKS], notes


def unreadable(found: object) -> str:
    """What to say of a time that is none."""
    text = repr(found)
    short = text if len(text) <= 40 else text[:37] + "..."
    return (
        f"timestamp {short} is not a finite number, nor a date as 2018-07-07 22:09:11; to go "
        "without times, name the other columns with --columns"
    )
