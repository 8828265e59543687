"""The figures of purges and of the ledger: how many are late or held, whether anybody sweeps."""

from prometheus_client import CollectorRegistry, Gauge

from chassis.metrics import NAMESPACE


class PurgeFigures:
    """What the watch counts; labels are words of ours, never a tenant."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        registry = CollectorRegistry() if registry is None else registry
        self.purges = Gauge(
            "purges",
            "Purges, by how far they have come.",
            ("phase",),
            namespace=NAMESPACE,
            registry=registry,
        )
        self.escalated = Gauge(
            "purges_escalated",
            "Purges that are due and not finished, by how near their last day is.",
            ("level",),
            namespace=NAMESPACE,
            registry=registry,
        )
        self.overdue = Gauge(
            "purges_overdue",
            "Purges that are not finished although their last day is over.",
            namespace=NAMESPACE,
            registry=registry,
        )
        self.brake_engaged = Gauge(
            "brake_engaged",
            "1 while the brake is on, and no purge begins.",
            namespace=NAMESPACE,
            registry=registry,
        )
        self.swept_at = Gauge(
            "last_sweep_timestamp_seconds",
            "Wall time of the last sweep for due purges that was completed by any replica.",
            namespace=NAMESPACE,
            registry=registry,
        )


class LedgerFigures:
    """What came of walking the ledger."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        registry = CollectorRegistry() if registry is None else registry
        self.verified_number = Gauge(
            "ledger_verified_number",
            "Up to which entry the ledger was verified.",
            namespace=NAMESPACE,
            registry=registry,
        )
        self.broken = Gauge(
            "ledger_broken",
            "1 when the ledger, or a checkpoint of it, did not verify.",
            namespace=NAMESPACE,
            registry=registry,
        )


class HoldFigures:
    """Counts legal holds and the purges that they keep; no label names a tenant or a reason."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.legal_holds = Gauge(
            "legal_holds",
            "Legal holds that stand.",
            namespace=NAMESPACE,
            registry=registry,
        )
        self.held_purges = Gauge(
            "held_purges",
            "Planned purges that a legal hold keeps from beginning.",
            namespace=NAMESPACE,
            registry=registry,
        )
        self.held_purges_overdue = Gauge(
            "held_purges_overdue",
            "Those of them that should be erased by now.",
            namespace=NAMESPACE,
            registry=registry,
        )
