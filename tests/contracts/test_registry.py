"""The list of message types, and how to find one's way in it."""

import pytest

from contracts.ledger import LedgerEntry, LedgerHead
from contracts.messages import Kind, Message
from contracts.policies import PolicyState
from contracts.purges import (
    DataErased,
    ErasureAsked,
    ErasureWithdrawn,
    PurgeAccepted,
    PurgeStarted,
    PurgeState,
)
from contracts.registry import (
    MESSAGE_TYPES,
    MessageType,
    by_ce_type,
    by_name,
    ce_source,
    ce_type,
    key_of,
    topic_of,
    types_of,
)
from contracts.tenants import TenantState
from contracts.topics import (
    ALL_TOPICS,
    CONFIG_ERASURES,
    CONFIG_REQUESTS,
    INSTALLER_ERASURES,
    INSTALLER_TENANTS,
    NOTIFIER_ERASURES,
    NOTIFIER_POLICIES,
    PURGER_COMMANDS,
    PURGER_LEDGER,
    PURGER_PURGES,
    Topic,
    is_replays,
)

every_type = pytest.mark.parametrize("message_type", MESSAGE_TYPES, ids=lambda each: each.name)


@every_type
def test_a_type_is_found_by_each_of_its_names(message_type: MessageType) -> None:
    assert by_ce_type(message_type.ce_type) is message_type
    assert by_name(message_type.name) is message_type
    assert ce_type(message_type.name) == f"keepword.{message_type.name}.v1"
    assert message_type in types_of(message_type.model)


@every_type
def test_a_type_travels_on_topics_of_one_kind_and_has_their_key(message_type: MessageType) -> None:
    assert {topic.kind for topic in message_type.topics} == {message_type.kind}
    assert {topic.key for topic in message_type.topics} <= message_type.model.model_fields.keys()


def test_every_topic_has_a_type_and_every_type_a_topic_that_is_listed() -> None:
    used = {topic for message_type in MESSAGE_TYPES for topic in message_type.topics}

    # What is on a topic of replays was said on another one.
    assert used == {topic for topic in ALL_TOPICS if not is_replays(topic)}


def test_a_state_topic_has_one_model_so_that_one_handler_is_enough() -> None:
    for topic in ALL_TOPICS:
        if topic.kind is Kind.STATE:
            assert len({each.model for each in MESSAGE_TYPES if topic in each.topics}) == 1


def test_state_carries_a_version_and_a_command_the_step_that_identifies_it() -> None:
    for each in MESSAGE_TYPES:
        fields = each.model.model_fields.keys()
        assert each.kind is not Kind.STATE or "version" in fields
        assert each.kind is not Kind.COMMAND or {"purge_id", "step", "owner"} <= fields


def test_an_unknown_type_is_none_and_no_name_is_given_twice() -> None:
    assert by_ce_type("keepword.tenant-installed.v2") is None
    assert by_ce_type("tenant-installed") is None
    assert len({each.ce_type for each in MESSAGE_TYPES}) == len(MESSAGE_TYPES)


@pytest.mark.parametrize(
    ("model", "owner", "topic"),
    [
        (TenantState, None, INSTALLER_TENANTS),
        (TenantState, "installer", INSTALLER_TENANTS),
        (PurgeState, None, PURGER_PURGES),
        (PurgeStarted, None, PURGER_COMMANDS),
        (PurgeAccepted, None, INSTALLER_ERASURES),
        (DataErased, "installer", INSTALLER_ERASURES),
        (DataErased, "config", CONFIG_ERASURES),
        (DataErased, "notifier", NOTIFIER_ERASURES),
        (ErasureAsked, None, CONFIG_REQUESTS),
        (ErasureWithdrawn, "config", CONFIG_REQUESTS),
        (PolicyState, None, NOTIFIER_POLICIES),
        (LedgerEntry, None, PURGER_LEDGER),
        (LedgerHead, "purger", PURGER_LEDGER),
    ],
)
def test_a_model_goes_out_on_its_owners_topic(
    model: type[Message], owner: str | None, topic: Topic
) -> None:
    assert topic_of(model, owner) is topic


@pytest.mark.parametrize(
    ("model", "owner"), [(DataErased, None), (DataErased, "purger"), (TenantState, "config")]
)
def test_a_service_cannot_say_what_is_not_its_to_say(
    model: type[Message], owner: str | None
) -> None:
    with pytest.raises(LookupError):
        topic_of(model, owner)


def test_a_message_of_no_topic_has_none() -> None:
    assert types_of(Message) == ()
    with pytest.raises(LookupError):
        topic_of(Message)


def test_the_ledger_is_keyed_by_number() -> None:
    head = LedgerHead.model_validate(
        {"number": 7, "hash": "0" * 64, "cluster_id": "a", "at": "2027-01-31T06:00:00Z"}
    )

    assert key_of(head, PURGER_LEDGER) == "7"


def test_a_source_names_the_service() -> None:
    assert ce_source("purger") == "/keepword/purger"
