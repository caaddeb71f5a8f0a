"""Reasons over HTTP."""

import numpy as np
import pytest

from server.recommending.reasons import explained
from tests.support.gateways import OWN, Pair, error


def test_why_says_what_grpc_says(guarded: Pair) -> None:
    asked = {"user": "u/9", "preset": "vicinal", "items": ["b5", 40, "b59"]}
    reply = guarded.gateway.ask("POST", "/v1/why", asked, token=OWN)
    assert reply.status == 200
    told = reply.json
    assert told["user"] == {"index": 9, "id": "u/9"}
    assert [each["item"]["index"] for each in told["reasons"]] == [5, 40, 59]
    assert [each["item"]["title"] for each in told["reasons"]] == ["Title 5", "Title 40", None]
    recommender, settings = (
        guarded.scene.recommender,
        guarded.scene.description().presets["vicinal"],
    )
    expected = explained(recommender, 9, settings, np.array([5, 40, 59]))
    for got, right in zip(told["reasons"], expected.reasons, strict=True):
        assert (got["supporters"], got["raters"]) == (right.supporters, right.raters)
        assert got["price"] == right.price and got["text"].endswith(".")
    assert told["certificate"] == expected.form and told["neighbors"] == settings.neighbors - 1


def test_why_is_guarded_as_a_list_is(guarded: Pair) -> None:
    asked = {"user": 3, "preset": "paper", "items": [1]}
    assert error(guarded.gateway.ask("POST", "/v1/why", asked)) == (401, "UNAUTHENTICATED")
    other = {**asked, "user": 11}
    reply = guarded.gateway.ask("POST", "/v1/why", other, token=OWN)
    assert error(reply) == (403, "PERMISSION_DENIED")


@pytest.mark.parametrize(
    "items", [[], ["b9"], [60], [-1], list(range(101)), "b9", [1.5], [4294967296]]
)
def test_items_that_cannot_be_explained(plain: Pair, items: object) -> None:
    asked = {"user": 3, "preset": "paper", "items": items}
    assert error(plain.gateway.ask("POST", "/v1/why", asked)) == (400, "INVALID_ARGUMENT")
