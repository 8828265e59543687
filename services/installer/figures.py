"""The figures of the door: what was heard, and what was refused."""

from prometheus_client import CollectorRegistry, Counter

from chassis.metrics import NAMESPACE


class DoorFigures:
    """Counts calls; labels name apps, routes and words of ours, never a tenant."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        registry = CollectorRegistry() if registry is None else registry
        self.installs_heard_total = Counter(
            "installs_heard",
            "Calls of the kind installed that were stored, by what each was.",
            ("addon_key", "heard"),
            namespace=NAMESPACE,
            registry=registry,
        )
        self.calls_refused_total = Counter(
            "calls_refused",
            "Calls from Atlassian that brought nothing about, by the reason.",
            ("route", "reason"),
            namespace=NAMESPACE,
            registry=registry,
        )
