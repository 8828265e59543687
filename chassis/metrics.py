"""The figures of one process; labels name handlers and routes, never a tenant or a host."""

from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
NAMESPACE: Final = "keepword"

_HANDLER_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_JOB_BUCKETS = (0.01, 0.05, 0.1, 0.5, 1, 5, 15, 60, 300, 900)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Metrics:
    """The metric objects of one process, registered in the registry it is given."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        # The moment of creation per series doubles the page and says nothing here.
        disable_created_metrics()  # type: ignore[no-untyped-call]  # published without types
        self.registry = CollectorRegistry() if registry is None else registry
        self._make_message_metrics(self.registry)
        self._make_outbox_metrics(self.registry)
        self._make_edge_metrics(self.registry)
        self._http: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    def _make_message_metrics(self, registry: CollectorRegistry) -> None:
        self.events_handled_total = Counter(
            "events_handled",
            "Records that a handler has settled, by outcome.",
            ("topic", "type", "outcome"),
            namespace=NAMESPACE,
            registry=registry,
        )
        self.handler_seconds = Histogram(
            "handler_seconds",
            "Seconds from the first statement of a handler's transaction to its commit.",
            ("handler",),
            namespace=NAMESPACE,
            registry=registry,
            buckets=_HANDLER_BUCKETS,
        )
        self.consumer_lag = Gauge(
            "consumer_lag",
            "Records between our stored position and the end of the log.",
            ("topic", "partition"),
            namespace=NAMESPACE,
            registry=registry,
        )
        self.dead_letters_total = Counter(
            "dead_letters",
            "Records written down because their handler gave up, by class of reason.",
            ("handler", "reason"),
            namespace=NAMESPACE,
            registry=registry,
        )
        self.dead_letters_open = Gauge(
            "dead_letters_open",
            "Dead letters that nobody has settled yet.",
            namespace=NAMESPACE,
            registry=registry,
        )
        self.dead_letters_parked = Gauge(
            "dead_letters_parked",
            "Commands that wait behind an open dead letter of their purge.",
            namespace=NAMESPACE,
            registry=registry,
        )
        self.dead_letters_oldest_seconds = Gauge(
            "dead_letters_oldest_seconds",
            "Age of the oldest dead letter that nobody has settled yet, 0 where there is none.",
            namespace=NAMESPACE,
            registry=registry,
        )
        self.retries_total = Counter(
            "retries",
            "Further attempts at a record whose handler failed.",
            ("handler",),
            namespace=NAMESPACE,
            registry=registry,
        )
        self.writes_suppressed_total = Counter(
            "writes_suppressed",
            "Writes refused because the tenant's data of this class is erased or being erased.",
            ("where", "class"),
            namespace=NAMESPACE,
            registry=registry,
        )
        self.ledger_applied_number = Gauge(
            "ledger_applied_number",
            "Highest number of the erasure ledger that this database has applied.",
            namespace=NAMESPACE,
            registry=registry,
        )

    def _make_outbox_metrics(self, registry: CollectorRegistry) -> None:
        self.key_made_timestamp_seconds = Gauge(
            "key_made_timestamp_seconds",
            "When the key that is in use was made, where its file says so.",
            ("key",),
            namespace=NAMESPACE,
            registry=registry,
        )
        self.certificate_expires_timestamp_seconds = Gauge(
            "certificate_expires_timestamp_seconds",
            "When the first certificate of a file expires by which another server is trusted.",
            ("certificate",),
            namespace=NAMESPACE,
            registry=registry,
        )
        self.audit_broken = Gauge(
            "audit_broken",
            "1 when the chain of what staff did was found to be tampered with, else 0.",
            namespace=NAMESPACE,
            registry=registry,
        )
        self.outbox_oldest_seconds = Gauge(
            "outbox_oldest_seconds",
            "Age of the oldest outbox row that is not sent yet.",
            namespace=NAMESPACE,
            registry=registry,
        )
        self.outbox_unsent = Gauge(
            "outbox_unsent",
            "Outbox rows that are not sent yet.",
            namespace=NAMESPACE,
            registry=registry,
        )
        self.relay_sent_total = Counter(
            "relay_sent",
            "Outbox rows that the broker has acknowledged.",
            namespace=NAMESPACE,
            registry=registry,
        )

    def _make_edge_metrics(self, registry: CollectorRegistry) -> None:
        self.http_requests_total = Counter(
            "http_requests",
            "HTTP requests answered, by route, method and status.",
            ("route", "method", "status"),
            namespace=NAMESPACE,
            registry=registry,
        )
        self.http_seconds = Histogram(
            "http_seconds",
            "Seconds from a request's first byte to its answer's last.",
            ("route",),
            namespace=NAMESPACE,
            registry=registry,
            buckets=_HANDLER_BUCKETS,
        )
        self.job_runs_total = Counter(
            "job_runs",
            "Runs of a job that ended, by outcome.",
            ("job", "outcome"),
            namespace=NAMESPACE,
            registry=registry,
        )
        self.job_seconds = Histogram(
            "job_seconds",
            "Seconds that a run of a job took.",
            ("job",),
            namespace=NAMESPACE,
            registry=registry,
            buckets=_JOB_BUCKETS,
        )
        self.job_completed_timestamp_seconds = Gauge(
            "job_completed_timestamp_seconds",
            "Wall time at which a job last completed.",
            ("job",),
            namespace=NAMESPACE,
            registry=registry,
        )

    def http_request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count one answered request; a method nobody knows counts as "other"."""
        key = (route, method if method in _METHODS else "other", status)
        series = self._http.get(key)
        if series is None:
            # Looking a series up by its labels costs more than counting.
            series = self._http[key] = (
                self.http_requests_total.labels(*key),
                self.http_seconds.labels(route),
            )
        requests, duration = series
        requests.inc()
        duration.observe(seconds)

    def exposition(self) -> bytes:
        """All figures in Prometheus' text format; serve it as ``CONTENT_TYPE``."""
        return generate_latest(self.registry)
