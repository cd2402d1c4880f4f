"""Figures for Prometheus: counts and times of the whole service, never of one tenant."""

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from modelward._version import __version__

__all__ = ["METRICS_TYPE", "Metrics"]

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class _Jobs(Collector):
    """Counted when the figures are asked for."""

    def __init__(self, counts: Callable[[], dict[str, int]]) -> None:
        self._counts = counts

    def collect(self) -> Iterable[GaugeMetricFamily]:
        jobs = GaugeMetricFamily("modelward_jobs", "Jobs by state", labels=["state"])
        counts = self._counts()
        for state, number in sorted(counts.items()):
            jobs.add_metric([state], number)
        yield jobs
        yield GaugeMetricFamily(
            "modelward_queue_length", "Jobs that wait for a worker", value=counts.get("queued", 0)
        )

    def describe(self) -> Iterable[GaugeMetricFamily]:
        # Without this the registry would count jobs once before the database is there.
        return []


class Metrics:
    """The figures of one app."""

    def __init__(self, job_counts: Callable[[], dict[str, int]]) -> None:
        """Make the figures.

        Args:
            job_counts: Jobs by state.
        """
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "modelward_requests_total", "Requests", ["route", "method", "status"],
            registry=self._registry,
        )  # fmt: skip
        self.seconds = Histogram(
            "modelward_request_seconds", "Time until the answer was sent", ["route"],
            buckets=_BUCKETS, registry=self._registry,
        )  # fmt: skip
        self.upload_bytes = Counter(
            "modelward_upload_bytes_total", "Bytes of accepted uploads", registry=self._registry
        )
        self.uploads = Counter(
            "modelward_uploads_total", "Uploads", ["result"], registry=self._registry
        )
        self.exchanges_refused = Counter(
            "modelward_key_exchanges_refused_total", "Refused key exchanges", ["reason"],
            registry=self._registry,
        )  # fmt: skip
        self.rate_limited = Counter(
            "modelward_rate_limited_total", "Calls refused or delayed by a limit",
            ["limit", "action"], registry=self._registry,
        )  # fmt: skip
        build = Gauge("modelward_build_info", "Version", ["version"], registry=self._registry)
        build.labels(version=__version__).set(1)
        self._registry.register(_Jobs(job_counts))

    def text(self) -> bytes:
        """The figures in Prometheus' text format; reads the database."""
        return generate_latest(self._registry)
