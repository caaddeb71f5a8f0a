"""Times of ratings as seconds since 1970: numbers of any unit, and dates."""

from typing import Final

import polars as pl

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
)
ZONED: Final = (
    "%a %b %d %H:%M:%S %z %Y",
    "%Y-%m-%dT%H:%M:%S%.f%#z",
    "%Y-%m-%d %H:%M:%S%.f%#z",
)


def as_seconds(times: pl.Series, unit: str | None) -> tuple[pl.Series, pl.Series, list[str]]:
    """Seconds [N], where there is none a null; which of them are wrong [N]; and notes.

    times  whole numbers, floats, or text of numbers or dates
    unit   of reading options; None recognizes it
    """
    if unit == "date":
        return _dates(times)
    whole, wrong = _numbers(times)
    if wrong.all() and times.dtype == pl.String and len(times):
        return _dates(times)
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


def _dates(times: pl.Series) -> tuple[pl.Series, pl.Series, list[str]]:
    """By the first form that all dates have; wrong are those that the best one does not read."""
    best: pl.Series | None = None
    times = times.cast(pl.String)
    for form, zoned in [*((each, False) for each in FORMATS), *((each, True) for each in ZONED)]:
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
    return seconds, seconds.is_null(), []


def unreadable(found: object) -> str:
    """What to say of a time that is none."""
    text = repr(found)
    short = text if len(text) <= 40 else text[:37] + "..."
    return (
        f"timestamp {short} is not a finite number, nor a date as 2018-07-07 22:09:11; to go "
        "without times, name the other columns with --columns"
    )
