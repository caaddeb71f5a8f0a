"""Counters and timings of a server, for Prometheus."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Final, final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from common.errors import InputError
from common.ranking import Counts
from common.wire.description import Description
from server.metrics_port import answered
from server.reports.tally import Tally
from server.workers.crew import Crew
from server.workers.frames import STAGES, WorkerResult

# Seconds; fine where the goals lie, from an empty call to a caller's patience.
BUCKETS: Final = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.025, 0.035, 0.05, 0.075),
    *(0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
# By version, preset, and what it is.
Surveys = Mapping[str, Mapping[str, Mapping[str, float]]]
# The status of those who are told to come back later.
REFUSED: Final = "RESOURCE_EXHAUSTED"


@final
class Metrics:
    """The metrics of one server, in a registry of their own."""

    def __init__(self, description: Description) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._requests = Counter(
            "vicinal_requests",
            "Calls that ended, by call and status.",
            ["call", "status"],
            registry=registry,
        )
        self._seconds = Histogram(
            "vicinal_stage_seconds",
            "Seconds of a call's stages: queue, neighbors, tune, rank; and of whole calls, those "
            "refused because too many waited on their own.",
            ["call", "stage"],
            buckets=BUCKETS,
            registry=registry,
        )
        self._sent = Counter("vicinal_sent_bytes", "Bytes of replies.", ["call"], registry=registry)
        self._rejected = Counter(
            "vicinal_rejected",
            "Calls refused because too many waited.",
            ["call"],
            registry=registry,
        )
        self._answered = Counter(
            "vicinal_answered",
            "Users whose answers were reported, by how they were answered.",
            ["how"],
            registry=registry,
        )
        self._reports_refused = Counter(
            "vicinal_reports_refused", "Reports not counted, by reason.", ["why"], registry=registry
        )
        self._refused = Counter(
            "vicinal_refused",
            "Calls and connections that were refused, ended or made to wait, by reason.",
            ["reason"],
            registry=registry,
        )
        self._updates = Counter(
            "vicinal_updates",
            "Trainings (retrain) and takings in of new users (refresh), by how they ended: done, "
            "failed, or away, when the ratings could not be reached.",
            ["what", "how"],
            registry=registry,
        )
        self._away = Gauge(
            "vicinal_ratings_away",
            "1 while the ratings cannot be reached to bring them up to date.",
            registry=registry,
        )
        self._version = Info(
            "vicinal_version", "The model version that is served.", registry=registry
        )
        self._database_away: Gauge | None = None
        self._mu = Gauge(
            "vicinal_book_mu",
            "μ of Gaussian differential privacy: of the book that is served, and of all books "
            "of the store (life).",
            ["of"],
            registry=registry,
        )
        self.serves(description)

    def serves(self, description: Description) -> None:
        """Say which version new requests get."""
        self._version.info({"version": description.version, "model": description.manifest.model})
        if description.book is not None:
            self._mu.labels("version").set(description.book.mu)
            self._mu.labels("life").set(description.book.mu_life)

    def brought_up_to_date(self, what: str, how: str) -> None:
        """A retrain or refresh ended: done, failed or away."""
        self._updates.labels(what, how).inc()
        self._away.set(how == "away")

    def shares(self, away: bool, trains: bool) -> None:
        """How a server of several stands: with the database, and with training."""
        if self._database_away is None:
            self._database_away = Gauge(
                "vicinal_database_away",
                "1 while the database that servers share does not answer.",
                registry=self.registry,
            )
            self._trains = Gauge(
                "vicinal_trains", "1 for the server that trains.", registry=self.registry
            )
        self._database_away.set(away)
        self._trains.set(trains)

    def watch(self, crew: Crew) -> None:
        """Ask a crew how it is at every scrape."""
        for name, text, value in (
            ("workers_alive", "Worker processes that are ready.", lambda: crew.alive),
            ("workers_lost", "Worker processes that ended and were replaced.", lambda: crew.lost),
            ("queue_depth", "Requests that wait for a worker.", lambda: crew.depth),
        ):
            Gauge(f"vicinal_{name}", text, registry=self.registry).set_function(value)

    def watch_tally(self, tally: Tally, served: Callable[[str], bool]) -> None:
        """Tell hit ratio and accuracy at every scrape, as published, of versions that are served.

        Not the sums of the moment: whoever scrapes often would see single reports come in, and
        what was scraped is kept by others.
        """
        self.registry.register(_Published(tally, served))

    def watch_surveys(self, surveys: Callable[[], Surveys]) -> None:
        """Tell at every scrape what looks at the versions that are served found."""
        self.registry.register(_Surveyed(surveys))

    def reported(self, counts: Counts) -> None:
        """A report was counted."""
        for how in ("on_device", "stale", "by_server"):
            self._answered.labels(how).inc(getattr(counts, how))

    def report_refused(self, why: str) -> None:
        self._reports_refused.labels(why).inc()

    def ended(self, call: str, status: str, seconds: float) -> None:
        self._requests.labels(call, status).inc()
        whole = "refused" if status == REFUSED else "whole"
        self._seconds.labels(call, whole).observe(seconds)

    def answered(self, call: str, result: WorkerResult) -> None:
        self._seconds.labels(call, "queue").observe(result.queued)
        for stage, seconds in zip(STAGES, result.seconds, strict=True):
            if seconds:
                self._seconds.labels(call, stage).observe(seconds)

    def sent(self, call: str, size: int) -> None:
        self._sent.labels(call).inc(size)

    def rejected(self, call: str) -> None:
        self._rejected.labels(call).inc()
        self.refused("queue")

    def refused(self, reason: str) -> None:
        """Whatever was refused, also before it was a call."""
        self._refused.labels(reason).inc()

    @contextmanager
    def served(self, port: int) -> Iterator[int]:
        """Answer scrapes on loopback meanwhile; gives the port, which 0 leaves to the system.

        Raises InputError when it is taken.
        """
        with ExitStack() as stack:
            try:
                opened = answered(port, lambda: generate_latest(self.registry), CONTENT_TYPE_LATEST)
                given = stack.enter_context(opened)
            except OSError as error:
                raise InputError(
                    f"metrics port {port} on 127.0.0.1: {error.strerror}; "
                    "choose another --metrics-port, or 0 for any free one"
                ) from error
            yield given


@final
class _Published(Collector):
    """What a tally tells of each version and preset; both change every hundred reports."""

    def __init__(self, tally: Tally, served: Callable[[str], bool]) -> None:
        self._tally = tally
        self._served = served

    def collect(self) -> Iterator[GaugeMetricFamily]:
        labels = ("version", "preset")
        ratio = GaugeMetricFamily(
            "vicinal_hit_ratio", "Mean hit ratio of the watched items, as reported.", labels=labels
        )
        accuracy = GaugeMetricFamily(
            "vicinal_accuracy", "Share of held-out items in the lists, as reported.", labels=labels
        )
        for about, sums in self._tally.latest.items():
            if not self._served(about[0]):
                continue
            if any(sums.counts.eligible):
                ratio.add_metric(about, sums.counts.hit_ratio)
            if sums.counts.users:
                accuracy.add_metric(about, sums.counts.accuracy)
        yield ratio
        yield accuracy
        yield self._sums()

    def _sums(self) -> GaugeMetricFamily:
        """What the ratios are made of, of all watched items together."""
        told = GaugeMetricFamily(
            "vicinal_reported",
            "Sums of reports as published: reports; eligible and hits of watched items; users and "
            "user_hits of held-out items.",
            labels=("version", "preset", "what"),
        )
        for about, sums in self._tally.latest.items():
            if not self._served(about[0]):
                continue
            counts = sums.counts
            for what, value in (
                ("reports", sums.reports),
                ("eligible", sum(counts.eligible)),
                ("hits", sum(counts.hits)),
                ("users", counts.users),
                ("user_hits", counts.user_hits),
            ):
                told.add_metric((*about, what), value)
        return told


@final
class _Surveyed(Collector):
    """What looks at versions found when they were made (server.recommending.survey)."""

    def __init__(self, surveys: Callable[[], Surveys]) -> None:
        self._surveys = surveys

    def collect(self) -> Iterator[GaugeMetricFamily]:
        told = GaugeMetricFamily(
            "vicinal_survey",
            "Of a sample of users, taken when the version was made: new accounts among all and "
            "among neighbors, hubs, and lists with and without the defense.",
            labels=("version", "preset", "what"),
        )
        for version, presets in self._surveys().items():
            for preset, numbers in presets.items():
                for what, value in numbers.items():
                    told.add_metric((version, preset, what), value)
        yield told
