"""The figures of what is held: not done, and not forgotten either."""

from prometheus_client import CollectorRegistry, Gauge

from chassis.metrics import NAMESPACE


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
