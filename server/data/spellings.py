"""Ratings and ids as people spell them: words, true and false, 80%, 4/5; '7' in quotes, and 7.0.

What is done holds for a whole column or not at all, and a note says it. Work is by distinct text.
"""

import re
from collections.abc import Mapping
from typing import Final

import numpy as np
import polars as pl

from server.data.texts import Coded, as_floats

# What stands where there is nothing, in any case.
NOTHING: Final = ("", "na", "n/a", "<na>", "nan", "null", "none", "nil", "\\n", "undefined")
TRUTH: Final = {"true": 1.0, "false": 0.0}
_DECIMAL_COMMA: Final = re.compile(r"[+-]?[0-9]+(,[0-9]+)?", re.ASCII)
_PERCENT: Final = r"^[+-]?[0-9]+([.,][0-9]+)?\s*%$"
_SHARE: Final = re.compile(
    r"([0-9]+(?:\.[0-9]+)?)\s*(?:(?:/|out of)\s*([0-9]+)\s*)?(?:stars?)?", re.ASCII | re.IGNORECASE
)
_WHOLE: Final = r"^-?[0-9]+\.0+$"
_SINGLE: Final = r"(?s)^'.*'$"


def is_nothing(text: str) -> bool:
    r"""Whether a text stands for no value.

    >>> is_nothing("NULL"), is_nothing(r"\N"), is_nothing("0")
    (True, True, False)
    """
    return text.strip().lower() in NOTHING


def ratings_of(column: pl.Series, words: Mapping[str, float]) -> tuple[pl.Series, list[str]]:
    """Numbers, null where there is none, and notes.

    words  what texts mean, in lower case
    """
    numbers = as_floats(column)
    if column.dtype not in (pl.String, pl.Categorical) or not (words or numbers.null_count()):
        return numbers, []
    if column.null_count():
        column = column.cast(pl.String).fill_null("")
    found = Coded.of(column)
    texts = [text.strip() for text in found.texts]
    said = {text: words[text.lower()] for text in texts if text.lower() in words}
    if not said and any(map(is_nothing, texts)):
        texts = [text if not is_nothing(text) else "" for text in texts]
    meant, notes = (said, []) if said else _meant([text for text in texts if text])
    if not meant:
        return numbers, []
    values = [meant.get(text) if text in meant else _number(text) for text in texts]
    spread = found.spread(np.array([np.nan if each is None else each for each in values]))
    return pl.Series(column.name, spread).fill_nan(None), notes


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _meant(texts: list[str]) -> tuple[dict[str, float], list[str]]:
    """What all of some texts mean, where they are spelled alike, and a note."""
    if not texts:
        return {}, []
    if all(text.lower() in TRUTH for text in texts):
        return {text: TRUTH[text.lower()] for text in texts}, ["ratings are true, 1, or false, 0"]
    if all(re.search(_PERCENT, text, re.ASCII) for text in texts):
        return {text: float(text.rstrip(" %").replace(",", ".")) for text in texts}, [
            "ratings are percentages"
        ]
    if any("," in text for text in texts) and all(map(_DECIMAL_COMMA.fullmatch, texts)):
        return {text: float(text.replace(",", ".")) for text in texts}, [
            "ratings have decimal commas"
        ]
    shares = [_SHARE.fullmatch(text) for text in texts]
    wholes = {each[2] for each in shares if each}
    # Plain numbers are there beside words that mean nothing of this.
    if (
        not all(text.replace(".", "").isdecimal() for text in texts)
        and all(shares)
        and len(wholes) == 1
    ):
        whole = wholes.pop()
        return {text: float(each[1]) for text, each in zip(texts, shares, strict=True) if each}, [
            "ratings are counts of stars" if whole is None else f"ratings are of {whole}"
        ]
    return {}, []


def plain_ids(column: pl.Series, kind: str) -> tuple[pl.Series, list[str]]:
    """Ids as codes, without what a program added to all of them, and notes.

    kind  user or item
    """
    found = Coded.of(column)
    texts = found.texts
    if not len(texts):
        return column, []
    if texts.str.contains(_WHOLE).all():
        plain, note = texts.str.replace(r"\.0+$", ""), f"{kind}s as 7.0 are read as 7"
    elif texts.str.contains(_SINGLE).all() and texts.str.len_chars().min() != 1:
        plain = texts.str.slice(1, texts.str.len_chars() - 2)
        note = f"quotes around {kind}s are left out"
    else:
        return column, []
    if plain.n_unique() < len(plain) or (plain == "").any():
        return column, []
    codes = column.to_physical()
    places = pl.Series(found.places).gather(codes)
    return plain.gather(places).cast(pl.Categorical).alias(column.name), [note]
