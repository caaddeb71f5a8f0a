"""The stranger who asks for everybody."""

from sims.serving.linking import linked


def test_most_rows_are_given_to_whose_they_are() -> None:
    found = linked("synthetic:150x200")
    assert found.users == 150
    assert found.right >= 0.5 * found.users
    assert found.precision > 0.8
