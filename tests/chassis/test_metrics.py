"""The figures exist per process, under our names, and say nothing of tenants."""

from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from chassis.metrics import Metrics

EXPECTED = {
    "events_handled": {"topic", "type", "outcome"},
    "handler_seconds": {"handler"},
    "consumer_lag": {"topic", "partition"},
    "outbox_oldest_seconds": set(),
    "outbox_unsent": set(),
    "dead_letters": {"handler", "reason"},
    "dead_letters_open": set(),
    "dead_letters_oldest_seconds": set(),
    "dead_letters_parked": set(),
    "retries": {"handler"},
    "writes_suppressed": {"where", "class"},
    "relay_sent": set(),
    "http_requests": {"route", "method", "status"},
    "http_seconds": {"route"},
    "job_runs": {"job", "outcome"},
    "job_seconds": {"job"},
    "job_completed_timestamp_seconds": {"job"},
    "audit_broken": set(),
    "ledger_applied_number": set(),
    "key_made_timestamp_seconds": {"key"},
    "certificate_expires_timestamp_seconds": {"certificate"},
}


def families(metrics: Metrics) -> set[str]:
    text = metrics.exposition().decode()
    return {family.name for family in text_string_to_metric_families(text)}


def test_every_figure_has_its_name_and_labels_and_none_names_a_tenant() -> None:
    metrics = Metrics()
    assert families(metrics) == {f"keepword_{name}" for name in EXPECTED}
    for collector in vars(metrics).values():
        if (name := getattr(collector, "_name", "")).startswith("keepword_"):
            assert set(collector._labelnames) == EXPECTED[name.removeprefix("keepword_")]


def test_two_processes_worth_of_figures_live_side_by_side() -> None:
    one, other = Metrics(CollectorRegistry()), Metrics(CollectorRegistry())
    one.relay_sent_total.inc(3)
    assert one.registry.get_sample_value("keepword_relay_sent_total") == 3
    assert other.registry.get_sample_value("keepword_relay_sent_total") == 0


def test_a_request_is_counted_and_timed_by_its_route() -> None:
    metrics = Metrics()
    for _ in range(2):
        metrics.http_request("/connect/{addon_key}", "GET", 200, 0.004)
    value = metrics.registry.get_sample_value
    labels = {"route": "/connect/{addon_key}", "method": "GET", "status": "200"}
    assert value("keepword_http_requests_total", labels) == 2
    assert value("keepword_http_seconds_count", {"route": "/connect/{addon_key}"}) == 2


def test_a_caller_cannot_make_series_by_inventing_methods() -> None:
    metrics = Metrics()
    for number in range(50):
        metrics.http_request("/", f"METHOD{number}", 405, 0.001)
    assert metrics.exposition().count(b"keepword_http_requests_total{") == 1
