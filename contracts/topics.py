"""The topics: who owns each, who reads it, how the broker keeps it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from types import MappingProxyType
from typing import Literal

from contracts.classes import DataClass
from contracts.messages import Kind

SERVICES = ("installer", "config", "purger", "notifier")


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as it has to be on the broker.

    ``key`` is the message field whose text is the record's key. ``erases_as``
    is the class of data with which a tenant's stored copies of its messages
    (outbox, inbox, dead letters) are erased. ``config`` is to be found on the
    broker word for word.
    """

    name: str
    kind: Kind
    owner: str
    partitions: int
    erases_as: DataClass
    config: Mapping[str, str] = field(hash=False)
    key: str = "tenant_id"


def _ms(**duration: int) -> str:
    return str(timedelta(**duration) // timedelta(milliseconds=1))


# A closed segment is compacted within the maximum lag, and a day after a record
# came its segment is closed by the next: so what was overwritten is gone in 5 days.
_COMPACTED = MappingProxyType(
    {
        "cleanup.policy": "compact",
        "min.compaction.lag.ms": _ms(days=1),
        "max.compaction.lag.ms": _ms(days=4),
        "segment.ms": _ms(days=1),
        "delete.retention.ms": _ms(days=14),
    }
)


def _kept(days: int) -> Mapping[str, str]:
    # Only whole segments are dropped; daily ones keep the promise to the day.
    return MappingProxyType(
        {
            "cleanup.policy": "delete",
            "retention.ms": _ms(days=days),
            "retention.bytes": "-1",
            "segment.ms": _ms(days=1),
        }
    )


INSTALLER_TENANTS = Topic(
    "installer.tenants.v1", Kind.STATE, "installer", 6, DataClass.INSTALLATION, _COMPACTED
)
PURGER_PURGES = Topic(
    "purger.purges.v1", Kind.STATE, "purger", 6, DataClass.ERASURE_PROOF, _COMPACTED
)
PURGER_COMMANDS = Topic(
    "purger.commands.v1", Kind.COMMAND, "purger", 6, DataClass.ERASURE_PROOF, _kept(30)
)
INSTALLER_ERASURES = Topic(
    "installer.erasures.v1", Kind.EVENT, "installer", 6, DataClass.ERASURE_PROOF, _kept(30)
)
CONFIG_ERASURES = Topic(
    "config.erasures.v1", Kind.EVENT, "config", 6, DataClass.ERASURE_PROOF, _kept(30)
)
NOTIFIER_ERASURES = Topic(
    "notifier.erasures.v1", Kind.EVENT, "notifier", 6, DataClass.ERASURE_PROOF, _kept(30)
)
CONFIG_REQUESTS = Topic(
    "config.requests.v1", Kind.EVENT, "config", 6, DataClass.ERASURE_PROOF, _kept(30)
)
# It says what stands in the tenant's own rows too, and goes with them.
CONFIG_ACCESSES = Topic("config.accesses.v1", Kind.EVENT, "config", 6, DataClass.CONTENT, _kept(30))
NOTIFIER_POLICIES = Topic(
    "notifier.policies.v1",
    Kind.STATE,
    "notifier",
    1,
    DataClass.PLUMBING,
    _COMPACTED,
    key="number",
)
NOTIFIER_NOTICES = Topic(
    "notifier.notices.v1",
    Kind.EVENT,
    "notifier",
    1,
    DataClass.PLUMBING,
    _kept(30),
    key="campaign_id",
)
PURGER_LEDGER = Topic(
    "purger.ledger.v1", Kind.LOG, "purger", 1, DataClass.ERASURE_PROOF, _kept(400), key="number"
)


def _censuses(owner: str) -> Topic:
    # One partition: an answer's pages come in order, and there are few.
    return Topic(
        f"{owner}.censuses.v1",
        Kind.EVENT,
        owner,
        1,
        DataClass.ERASURE_PROOF,
        _kept(1),
        key="owner",
    )


# Of addresses, not of tenants: what it says outlives the tenant and its people.
NOTIFIER_SUPPRESSIONS = Topic(
    "notifier.suppressions.v1",
    Kind.STATE,
    "notifier",
    6,
    DataClass.PLUMBING,
    _COMPACTED,
    key="recipient_index",
)
INSTALLER_CENSUSES = _censuses("installer")
CONFIG_CENSUSES = _censuses("config")
NOTIFIER_CENSUSES = _censuses("notifier")
PURGER_CENSUSES = _censuses("purger")


def _replays(owner: str) -> Topic:
    # Of many kinds, all keyed as they were when they were said first.
    return Topic(f"{owner}.replays.v1", Kind.EVENT, owner, 6, DataClass.ERASURE_PROOF, _kept(1))


REPLAYS: Mapping[str, Topic] = MappingProxyType({each: _replays(each) for each in SERVICES})
"""For each service the topic on which it alone hears again what others have said."""


def is_replays(topic: Topic) -> bool:
    """Whether what a topic holds was said before, elsewhere."""
    return topic.name.split(".")[1] == "replays"


ALL_TOPICS = (
    INSTALLER_TENANTS,
    PURGER_PURGES,
    PURGER_COMMANDS,
    INSTALLER_ERASURES,
    CONFIG_ERASURES,
    NOTIFIER_ERASURES,
    CONFIG_REQUESTS,
    CONFIG_ACCESSES,
    NOTIFIER_POLICIES,
    NOTIFIER_NOTICES,
    PURGER_LEDGER,
    NOTIFIER_SUPPRESSIONS,
    INSTALLER_CENSUSES,
    CONFIG_CENSUSES,
    NOTIFIER_CENSUSES,
    PURGER_CENSUSES,
    *REPLAYS.values(),
)

# Installer, purger and notifier read what they wrote themselves: after a restore their topics know
# more than their databases.
_SUBSCRIPTIONS: Mapping[str, tuple[Topic, ...]] = MappingProxyType(
    {
        "installer": (
            PURGER_COMMANDS,
            PURGER_LEDGER,
            PURGER_CENSUSES,
            INSTALLER_TENANTS,
            CONFIG_ACCESSES,
            REPLAYS["installer"],
        ),
        "config": (
            INSTALLER_TENANTS,
            PURGER_COMMANDS,
            PURGER_PURGES,
            PURGER_LEDGER,
            PURGER_CENSUSES,
            REPLAYS["config"],
        ),
        "purger": (
            INSTALLER_TENANTS,
            INSTALLER_ERASURES,
            CONFIG_ERASURES,
            NOTIFIER_ERASURES,
            CONFIG_REQUESTS,
            PURGER_PURGES,
            PURGER_LEDGER,
            INSTALLER_CENSUSES,
            CONFIG_CENSUSES,
            NOTIFIER_CENSUSES,
            REPLAYS["purger"],
        ),
        "notifier": (
            INSTALLER_TENANTS,
            PURGER_COMMANDS,
            PURGER_LEDGER,
            PURGER_PURGES,
            PURGER_CENSUSES,
            NOTIFIER_POLICIES,
            NOTIFIER_NOTICES,
            NOTIFIER_SUPPRESSIONS,
            REPLAYS["notifier"],
        ),
    }
)


def subscriptions(service: str) -> tuple[Topic, ...]:
    """List the topics that a service may read; raises ``KeyError`` for a stranger."""
    return _SUBSCRIPTIONS[service]


def readers(topic: Topic) -> tuple[str, ...]:
    """List the services that may read a topic."""
    return tuple(service for service in SERVICES if topic in _SUBSCRIPTIONS[service])


@dataclass(frozen=True, slots=True)
class Acl:
    """One permission on the broker, in Kafka's own words; allowed from any host."""

    principal: str
    resource: Literal["TOPIC", "GROUP"]
    name: str
    operation: Literal["READ", "WRITE"]
    pattern: Literal["LITERAL", "PREFIXED"]


def acls() -> list[Acl]:
    """List every permission that the services need, and no more.

    Owners write, readers read, and each has the consumer groups that begin
    with its name and a dot. To describe a topic or a group needs nothing
    besides, and neither does an idempotent producer: READ and WRITE imply both
    (Kafka documentation, "Authorization and ACLs"; KIP-679).
    """
    owners = [
        Acl(f"User:{topic.owner}", "TOPIC", topic.name, "WRITE", "LITERAL") for topic in ALL_TOPICS
    ]
    subscribers = [
        Acl(f"User:{service}", "TOPIC", topic.name, "READ", "LITERAL")
        for service in SERVICES
        for topic in subscriptions(service)
    ]
    groups = [
        Acl(f"User:{service}", "GROUP", f"{service}.", "READ", "PREFIXED") for service in SERVICES
    ]
    return owners + subscribers + groups
