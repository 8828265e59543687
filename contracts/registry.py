"""Every message type: its name, its body, the topics it travels on."""

from dataclasses import dataclass
from functools import cache

from contracts.access import AccessGranted, AccessRevoked, CustomerDataAccessed
from contracts.censuses import CensusDoubted, CensusListed, CensusTaken, StatesDoubted
from contracts.ledger import LedgerEntry, LedgerHead, RestoredEntry
from contracts.messages import Kind, Message
from contracts.news import ProductUpdateAnnounced
from contracts.policies import PolicyState
from contracts.purges import (
    DataErased,
    ErasureAsked,
    ErasureWithdrawn,
    PurgeAccepted,
    PurgeRefused,
    PurgeReminder,
    PurgeRequested,
    PurgeStarted,
    PurgeState,
)
from contracts.suppressions import SuppressionState
from contracts.tenants import TenantState
from contracts.topics import (
    CONFIG_ACCESSES,
    CONFIG_CENSUSES,
    CONFIG_ERASURES,
    CONFIG_REQUESTS,
    INSTALLER_CENSUSES,
    INSTALLER_ERASURES,
    INSTALLER_TENANTS,
    NOTIFIER_CENSUSES,
    NOTIFIER_ERASURES,
    NOTIFIER_NOTICES,
    NOTIFIER_POLICIES,
    NOTIFIER_SUPPRESSIONS,
    PURGER_CENSUSES,
    PURGER_COMMANDS,
    PURGER_LEDGER,
    PURGER_PURGES,
    Topic,
)

_CENSUSES = (INSTALLER_CENSUSES, CONFIG_CENSUSES, NOTIFIER_CENSUSES)


@dataclass(frozen=True, slots=True)
class MessageType:
    """A kind of message, as its CloudEvents type names it.

    ``major`` is part of that name; ``schema`` counts the released schemas
    within it, each readable by the code of every other.
    """

    name: str
    model: type[Message]
    topics: tuple[Topic, ...]
    major: int = 1
    schema: int = 1

    @property
    def kind(self) -> Kind:
        """The kind of the topics that it travels on, which is one."""
        return self.topics[0].kind

    @property
    def ce_type(self) -> str:
        """The CloudEvents ``type``, such as ``keepword.tenant-installed.v1``."""
        return f"keepword.{self.name}.v{self.major}"

    @property
    def dataschema(self) -> str:
        """The CloudEvents ``dataschema``: the published schema's path from the project's root."""
        return f"contracts/schemas/{self.name}/{self.schema}.json"


MESSAGE_TYPES = (
    *(
        MessageType(name, TenantState, (INSTALLER_TENANTS,), schema=2)
        for name in (
            "tenant-installed",
            "tenant-uninstalled",
            "tenant-updated",
            "tenant-purging",
            "subscription-ended",
            "subscription-renewed",
        )
    ),
    MessageType("purges-planned", PurgeState, (PURGER_PURGES,), schema=3),
    MessageType("purge-requested", PurgeRequested, (PURGER_COMMANDS,)),
    MessageType("purge-started", PurgeStarted, (PURGER_COMMANDS,), schema=2),
    MessageType("purge-reminder", PurgeReminder, (PURGER_COMMANDS,)),
    MessageType("purge-accepted", PurgeAccepted, (INSTALLER_ERASURES,)),
    MessageType("purge-refused", PurgeRefused, (INSTALLER_ERASURES,)),
    MessageType(
        "data-erased",
        DataErased,
        (INSTALLER_ERASURES, CONFIG_ERASURES, NOTIFIER_ERASURES),
        schema=3,
    ),
    MessageType("erasure-asked", ErasureAsked, (CONFIG_REQUESTS,)),
    MessageType("erasure-withdrawn", ErasureWithdrawn, (CONFIG_REQUESTS,)),
    MessageType("access-granted", AccessGranted, (CONFIG_ACCESSES,)),
    MessageType("access-revoked", AccessRevoked, (CONFIG_ACCESSES,)),
    MessageType("customer-data-accessed", CustomerDataAccessed, (CONFIG_ACCESSES,)),
    MessageType("policy-changed", PolicyState, (NOTIFIER_POLICIES,)),
    MessageType("product-update-announced", ProductUpdateAnnounced, (NOTIFIER_NOTICES,)),
    MessageType("tenant-erased", LedgerEntry, (PURGER_LEDGER,), schema=3),
    MessageType("erasure-receipted", LedgerEntry, (PURGER_LEDGER,), schema=3),
    MessageType("database-restored", RestoredEntry, (PURGER_LEDGER,)),
    MessageType("ledger-head", LedgerHead, (PURGER_LEDGER,)),
    MessageType("suppressions-changed", SuppressionState, (NOTIFIER_SUPPRESSIONS,)),
    MessageType("census-taken", CensusTaken, _CENSUSES),
    MessageType("census-listed", CensusListed, _CENSUSES),
    MessageType("census-doubted", CensusDoubted, (PURGER_CENSUSES,)),
    MessageType("states-doubted", StatesDoubted, (PURGER_CENSUSES,)),
)

_BY_NAME = {message_type.name: message_type for message_type in MESSAGE_TYPES}
_BY_CE_TYPE = {message_type.ce_type: message_type for message_type in MESSAGE_TYPES}


def by_ce_type(ce_type: str) -> MessageType | None:
    """Find a message type by its CloudEvents type; None for one that we do not know."""
    return _BY_CE_TYPE.get(ce_type)


def by_name(name: str) -> MessageType:
    """Find a message type by its name; raises ``KeyError``."""
    return _BY_NAME[name]


def ce_type(name: str) -> str:
    """Spell the CloudEvents type of a message type's name; raises ``KeyError``."""
    return _BY_NAME[name].ce_type


def ce_source(service: str) -> str:
    """Spell the CloudEvents source of a service."""
    return f"/keepword/{service}"


@cache
def types_of(model: type[Message]) -> tuple[MessageType, ...]:
    """List the message types that a model is the body of."""
    return tuple(each for each in MESSAGE_TYPES if each.model is model)


@cache
def topic_of(model: type[Message], owner: str | None = None) -> Topic:
    """Find the topic on which a model's messages go out.

    ``owner`` is the service that sends, needed only where several send the
    same message. Raises ``LookupError`` where there is none, or no single one.
    """
    topics = {
        topic
        for message_type in types_of(model)
        for topic in message_type.topics
        if owner in (None, topic.owner)
    }
    if len(topics) != 1:
        raise LookupError(f"{model.__name__} from {owner} has {len(topics)} topics, not one")
    return topics.pop()


def key_of(message: Message, topic: Topic) -> str:
    """Spell a message's Kafka key, by which a tenant's messages stay in order."""
    return str(getattr(message, topic.key))
