"""Yelp's public review file: one JSON object a line with user_id, business_id, stars, date."""

import json
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from common.errors import InputError
from server.data.reading import MIB, open_maybe_gzip
from server.data.rows import MAX_ROWS, RatingRows, checked

SUFFIXES = (".json", ".jsonl")
MAX_BYTES = 16 * 1024 * MIB
MAX_LINE_BYTES = 1 * MIB


def read_reviews(path: Path, *, max_bytes: int | None = None) -> RatingRows:
    """Every user's latest review of every business, read line by line (.gz too).

    Yelp lets a user review a business again, and its file keeps both: the later date wins, the
    later line among equal dates. Raises InputError naming file, line and reason.
    """
    limit = MAX_BYTES if max_bytes is None else max_bytes
    reviews: list[tuple[int, str, str, float, int]] = []
    size = 0
    with open_maybe_gzip(path) as opened:
        number = 0
        while line := opened.readline(MAX_LINE_BYTES + 1):
            number += 1
            size += len(line)
            if len(line) > MAX_LINE_BYTES:
                raise InputError(f"{path} line {number}: longer than {MAX_LINE_BYTES // MIB} MiB")
            if size > limit or len(reviews) >= MAX_ROWS:
                raise InputError(f"{path}: larger than {limit // MIB} MiB; filter it first")
            try:
                reviews.append((number, *_review(line)))
            except KeyError as missing:
                raise InputError(f"{path} line {number}: no field {missing}") from None
            except (ValueError, OverflowError, RecursionError):
                raise InputError(
                    f"{path} line {number}: not a review: needs text user_id and business_id, a "
                    "number of stars and a date such as 2018-07-07 22:09:11"
                ) from None
    if not reviews:
        raise InputError(f"{path}: the file is empty")
    columns = ["line", "user", "item", "rating", "timestamp"]
    table = pl.DataFrame(reviews, schema=columns, orient="row", infer_schema_length=None)
    latest = table.sort("timestamp", maintain_order=True).unique(
        ["user", "item"], keep="last", maintain_order=True
    )
    return checked(latest.sort("line"), str(path))


def _review(line: bytes) -> tuple[str, str, float, int]:
    """(user, business, stars, seconds since 1970) of one line; ValueError if it is no review."""
    review = json.loads(line)
    if not isinstance(review, dict):
        raise ValueError
    user, business, stars, date = (
        review[key] for key in ("user_id", "business_id", "stars", "date")
    )
    if not all(isinstance(text, str) for text in (user, business, date)):
        raise ValueError
    if isinstance(stars, bool) or not isinstance(stars, int | float):
        raise ValueError
    # JSON can spell lone surrogates, which no text column holds: encoding refuses them.
    (user + business).encode()
    moment = datetime.fromisoformat(date)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return user, business, float(stars), int(moment.timestamp())
