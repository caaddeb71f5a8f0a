"""A study with a book in the place of rows: what is measured, and what is refused."""

from pathlib import Path

import numpy as np
import pytest

from common.errors import InputError
from common.vicinal.settings import preset
from server.model_store import ModelStore
from server.recommending.book import BookRecommender
from server.training.bases import base_training
from sims.evaluation.cell import book_key
from sims.evaluation.experiment import prepare
from sims.evaluation.study import Study, evaluate

STUDY = {"dataset": "synthetic:60x80", "attack": "average", "attack_size": 0.1, "list_length": 10}


def test_defended_answers_come_from_the_book_and_no_others(tmp_path: Path) -> None:
    book = evaluate(Study(**STUDY, release="book"), tmp_path, processes=1)  # type: ignore[arg-type]
    rows = evaluate(Study(**STUDY), tmp_path, processes=1)  # type: ignore[arg-type]
    assert (book.to_json()["release"], rows.to_json()["release"]) == ("book", "rows")
    assert "from a book" in book.title()
    for condition in ("clean", "undefended"):
        np.testing.assert_array_equal(
            book.outcomes[condition].ranks, rows.outcomes[condition].ranks
        )
    prepared = prepare(Study(**STUDY).cell().experiment)  # type: ignore[arg-type]
    how = preset("vicinal")
    with ModelStore(tmp_path) as store:
        trained = prepared.train(store, robust=base_training("mf", "vicinal"))
    answering = BookRecommender(trained, how, book_key(0))
    hits = 0
    for user in range(prepared.user_count):
        held_out = prepared.local.held_out_of(user)
        hits += held_out is not None and held_out.item in answering.recommend(user, how, 10)
    assert book.outcomes["defended"].counts.user_hits == hits > 0
    assert book.outcomes["defended"].counts != rows.outcomes["defended"].counts


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"release": "cells"}, "cells lost to the book"),
        ({"release": "nothing"}, "unknown release 'nothing'"),
        ({"release": "book", "defense": "rmf"}, "it takes rvd"),
        ({"release": "book", "preset": "paper"}, "preset vicinal"),
        ({"release": "book", "model": "ease"}, "rows of others"),
        ({"release": "book", "assume_fakes": 0.0}, "assume some"),
        ({"release": "book", "row_cap": 20}, "a book shows no rows: leave out --row-cap"),
        ({"release": "book", "fold_in": True}, "a book shows no rows"),
        ({"release": "book", "model": "userknn", "defense": "none"}, "it takes rvd"),
    ],
)
def test_what_no_book_can_do_is_told_before_anything_is_loaded(
    change: dict[str, object], line: str
) -> None:
    with pytest.raises(InputError, match=line):
        Study(**{**STUDY, **change}).cell()  # type: ignore[arg-type]
