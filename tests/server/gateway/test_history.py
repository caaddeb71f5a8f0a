"""What follows from scrapes, against the calls that were made."""

import math
from dataclasses import fields
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import generate_latest

from common.ranking import Counts
from server.gateway.history import SURVEYED, History, Scrape, quantile, scraped, since, wilson
from server.metrics import BUCKETS, Metrics
from server.recommending.survey import Survey
from tests.support.scenes import WATCHED
from tests.support.serving import Scene, make_scene


def counted(seconds: list[float]) -> dict[float, float]:
    return {bound: float(sum(each <= bound for each in seconds)) for bound in (*BUCKETS, math.inf)}


@given(st.lists(st.floats(1e-4, 12), min_size=1), st.sampled_from([0.5, 0.9, 0.99]))
def test_a_quantile_lies_in_the_bucket_of_the_call(seconds: list[float], share: float) -> None:
    found = quantile(counted(seconds), share)
    exact = sorted(seconds)[math.ceil(share * len(seconds)) - 1]
    bounds = [0.0, *BUCKETS]
    above = [bound for bound in bounds if bound >= exact]
    assert found is not None
    if not above:
        assert found == BUCKETS[-1]
    else:
        assert max(b for b in bounds if b < above[0]) - 1e-9 <= found <= above[0] + 1e-9


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_intervals_are_those_of_the_score_test(count: int, share: float) -> None:
    hits = round(share * count)
    interval = wilson(hits, count)
    assert interval is not None
    # Its ends are the shares that are 1.96 standard deviations from what was seen.
    for end in interval:
        if 1e-9 < end < 1 - 1e-9:
            distance = abs(hits / count - end) / np.sqrt(end * (1 - end) / count)
            assert math.isclose(distance, 1.959964, rel_tol=1e-6)
    assert interval[0] <= hits / count <= interval[1]
    assert wilson(0, 0) is None


def test_a_server_that_begins_anew_is_counted_from_0() -> None:
    assert since({1.0: 5, 2.0: 9}, {1.0: 6, 2.0: 12}) == {1.0: 1, 2.0: 3}
    assert since({1.0: 5, 2.0: 9}, {1.0: 1, 2.0: 2}) == {1.0: 1, 2.0: 2}


def test_the_survey_that_is_read_is_the_one_that_is_written() -> None:
    assert set(SURVEYED) == {each.name for each in fields(Survey)}


def scrape(metrics: Metrics, at: float) -> Scrape:
    return scraped(generate_latest(metrics.registry).decode(), at)


def served(scene: Scene) -> tuple[Metrics, str]:
    description = scene.description()
    return Metrics(description), description.version


def test_points_are_what_happened_between_two_scrapes(tmp_path: Path) -> None:
    scene = make_scene(tmp_path)
    metrics, _ = served(scene)
    history = History()
    metrics.ended("Recommend", "OK", 5.0)
    history.add(scrape(metrics, 100.0), len(WATCHED))
    assert history.told()["points"] == []
    for _ in range(30):
        metrics.ended("Recommend", "OK", 0.02)
    for _ in range(10):
        metrics.ended("GetPackage", "RESOURCE_EXHAUSTED", 0.0001)
    metrics.ended("Describe", "OK", 9.0)
    history.add(scrape(metrics, 110.0), len(WATCHED))
    (point,) = history.told()["points"]
    assert point["per_second"] == 4.1 and point["answers_per_second"] == 3.0
    assert point["refused_per_second"] == 1.0
    assert 0.015 <= point["p50"] <= 0.02 and 0.015 <= point["p99"] <= 0.02
    stages = {(each["call"], each["stage"]): each["calls"] for each in history.told()["stages"]}
    assert stages == {
        ("Recommend", "whole"): 30,
        ("GetPackage", "refused"): 10,
        ("Describe", "whole"): 1,
    }


def test_steps_are_the_reports_between_published_sums(tmp_path: Path) -> None:
    scene = make_scene(tmp_path)
    metrics, version = served(scene)
    history = History()
    with scene.tally() as tally:
        metrics.watch_tally(tally, lambda _version: True)
        for count in range(250):
            hit = int(count >= 100)
            counts = Counts((1, 1), (hit, 0), 1, 1 - hit, on_device=1)
            tally.add(version, "paper", f"{count}", counts)
            if count % 10 == 0:
                history.add(scrape(metrics, float(count)), len(WATCHED))
        history.add(scrape(metrics, 999.0), len(WATCHED))
    steps = history.told()["reports"]
    assert [step["reports"] for step in steps] == [100, 200]
    first, second = steps
    assert (first["hit_ratio"]["value"], first["accuracy"]["value"]) == (0, 1)
    assert (second["hit_ratio"]["value"], second["accuracy"]["value"]) == (0.5, 0)
    assert (second["hit_ratio"]["low"], second["hit_ratio"]["high"]) == wilson(50, 100)


def test_a_hundred_versions_are_not_kept_for_ever() -> None:
    history = History()
    numbers = dict.fromkeys(SURVEYED, 0.0)
    for count in range(600):
        survey = {(f"v{count}", "paper"): numbers, ("x", "broken"): {"users": 1.0}}
        history.add(Scrape(float(count), survey=survey), 1)
    told = history.told()
    assert len(told["surveys"]) == 500 and told["surveys"][-1]["version"] == "v599"
    assert len(told["points"]) <= 720
