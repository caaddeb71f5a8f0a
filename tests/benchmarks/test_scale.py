"""What size costs, with the processes that are really measured, on small ratings."""

import pytest

from benchmarks.page import printed


@pytest.mark.slow
@pytest.mark.parametrize(
    ("part", "rows"),
    [
        ("scale.reading", ["| by user | polars |", "| shuffled | vicinal |"]),
        ("scale.training", ["| mf, one epoch |", "| ials, all 15 rounds |"]),
        ("serving.newcomers", ["| model |", "| mf |", "| new users |"]),
        (
            "scale.evaluating",
            [
                "| attack mixrand |",
                "| train |",
                "| recommend |",
                "| baseline ease |",
                "| together |",
            ],
        ),
        ("scale.certifying", ["| 300 | 400 |", "Slope: "]),
        ("scale.cluster", ["| 1 |", "| 2 |", "Counts of all runs are the same"]),
        ("fleet.privacy", ["| central | 0.5 |", "| local | 8 |"]),
        ("fleet.scale", ["| 120 | 4 |", "A small app of torch and FedAvg (4 clients, 3 rounds)"]),
    ],
)
def test_a_section_of_size_is_printed(part: str, rows: list[str]) -> None:
    text = printed(part, short=True)
    assert all(row in text for row in rows)
