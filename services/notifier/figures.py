"""The figures of the mail: what was tried, and what is in doubt."""

from prometheus_client import CollectorRegistry, Counter, Gauge

from chassis.metrics import NAMESPACE
from services.notifier.domain.campaigns import Kind


class MailFigures:
    """Counts messages; labels name kinds and words of ours, never a campaign, a domain, a person."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        registry = CollectorRegistry() if registry is None else registry
        self.deliveries_total = Counter(
            "deliveries",
            "Attempts at messages, by kind and by what became of them; their rate is the mail's.",
            ("kind", "outcome"),
            namespace=NAMESPACE,
            registry=registry,
        )
        self.campaigns_broken_total = Counter(
            "campaigns_broken",
            "Campaigns that were paused as what they say cannot be written: a person has to look.",
            ("kind",),
            namespace=NAMESPACE,
            registry=registry,
        )
        for kind in Kind:
            # An increase is seen only of what was there before.
            self.campaigns_broken_total.labels(kind.value)
        self.mail_returned_total = Counter(
            "mail_returned",
            "What came back of our mail; beside the accepted deliveries it is the rate of bounces.",
            ("what",),
            namespace=NAMESPACE,
            registry=registry,
        )
        self.deliveries_uncertain = Gauge(
            "deliveries_uncertain",
            "Messages of which nobody knows whether they were taken.",
            namespace=NAMESPACE,
            registry=registry,
        )
        self.oldest_due_seconds = Gauge(
            "delivery_oldest_due_seconds",
            "For how long the oldest message is due that has not been tried since.",
            namespace=NAMESPACE,
            registry=registry,
        )
