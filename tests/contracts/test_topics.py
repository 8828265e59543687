"""Topics as the broker must have them, and who may do what with them."""

from datetime import timedelta

import pytest

from contracts.classes import DataClass
from contracts.messages import Kind
from contracts.topics import (
    ALL_TOPICS,
    CONFIG_ACCESSES,
    CONFIG_CENSUSES,
    CONFIG_ERASURES,
    CONFIG_REQUESTS,
    INSTALLER_ERASURES,
    INSTALLER_TENANTS,
    NOTIFIER_ERASURES,
    NOTIFIER_NOTICES,
    NOTIFIER_POLICIES,
    NOTIFIER_SUPPRESSIONS,
    PURGER_CENSUSES,
    PURGER_COMMANDS,
    PURGER_LEDGER,
    PURGER_PURGES,
    REPLAYS,
    SERVICES,
    Acl,
    Topic,
    acls,
    readers,
    subscriptions,
)

every_topic = pytest.mark.parametrize("topic", ALL_TOPICS, ids=lambda topic: topic.name)


def span(topic: Topic, setting: str) -> timedelta:
    return timedelta(milliseconds=int(topic.config[setting]))


@every_topic
def test_a_topic_is_named_by_its_owner_and_version(topic: Topic) -> None:
    owner, stream, version = topic.name.split(".")

    assert owner == topic.owner
    assert owner in SERVICES
    assert stream
    assert version == "v1"


@every_topic
def test_state_is_compacted_and_everything_else_is_dropped_by_age(topic: Topic) -> None:
    compacted = topic.config["cleanup.policy"] == "compact"

    assert compacted == (topic.kind is Kind.STATE)
    assert compacted or topic.config["cleanup.policy"] == "delete"
    assert compacted == ("retention.ms" not in topic.config)


@every_topic
def test_segments_are_closed_daily_so_that_nothing_outstays_its_time(topic: Topic) -> None:
    assert span(topic, "segment.ms") == timedelta(days=1)


@pytest.mark.parametrize(
    "topic",
    [INSTALLER_TENANTS, PURGER_PURGES, NOTIFIER_POLICIES, NOTIFIER_SUPPRESSIONS],
    ids=lambda each: each.name,
)
def test_what_state_replaced_is_gone_within_five_days(topic: Topic) -> None:
    assert span(topic, "max.compaction.lag.ms") + span(topic, "segment.ms") == timedelta(days=5)
    assert span(topic, "min.compaction.lag.ms") == timedelta(days=1)
    assert span(topic, "delete.retention.ms") == timedelta(days=14)


@pytest.mark.parametrize(
    ("topic", "days"),
    [
        (PURGER_COMMANDS, 30),
        (INSTALLER_ERASURES, 30),
        (CONFIG_ERASURES, 30),
        (NOTIFIER_ERASURES, 30),
        (NOTIFIER_NOTICES, 30),
        (CONFIG_REQUESTS, 30),
        (CONFIG_ACCESSES, 30),
        (PURGER_LEDGER, 400),
        (CONFIG_CENSUSES, 1),
        (PURGER_CENSUSES, 1),
        *((each, 1) for each in REPLAYS.values()),
    ],
    ids=lambda each: getattr(each, "name", str(each)),
)
def test_commands_and_events_stay_30_days_the_ledger_400_censuses_and_replays_one(
    topic: Topic, days: int
) -> None:
    assert span(topic, "retention.ms") == timedelta(days=days)
    assert topic.config["retention.bytes"] == "-1"


def test_what_is_of_no_tenant_is_one_sequence_and_the_rest_is_spread_by_tenant() -> None:
    assert (PURGER_LEDGER.partitions, PURGER_LEDGER.key) == (1, "number")
    for topic in ALL_TOPICS:
        if topic.name.endswith(".censuses.v1"):
            assert (topic.partitions, topic.key) == (1, "owner")
        elif topic is NOTIFIER_POLICIES:
            assert (topic.partitions, topic.key) == (1, "number")
        elif topic is NOTIFIER_NOTICES:
            assert (topic.partitions, topic.key) == (1, "campaign_id")
        elif topic is not PURGER_LEDGER:
            keyed_by = "recipient_index" if topic is NOTIFIER_SUPPRESSIONS else "tenant_id"
            assert (topic.partitions, topic.key) == (6, keyed_by)


@every_topic
def test_the_settings_are_text_and_cannot_be_changed(topic: Topic) -> None:
    assert all(isinstance(value, str) for value in topic.config.values())
    with pytest.raises(TypeError):
        topic.config["retention.ms"] = "1"  # type: ignore[index]


def test_what_is_said_about_an_erasure_outlives_the_tenant_and_its_state_does_not() -> None:
    assert INSTALLER_TENANTS.erases_as is DataClass.INSTALLATION
    assert NOTIFIER_SUPPRESSIONS.erases_as is DataClass.PLUMBING
    of_no_tenant = {NOTIFIER_NOTICES, NOTIFIER_POLICIES, NOTIFIER_SUPPRESSIONS}
    assert CONFIG_ACCESSES.erases_as is DataClass.CONTENT
    for topic in ALL_TOPICS:
        if topic not in {INSTALLER_TENANTS, CONFIG_ACCESSES, *of_no_tenant}:
            assert topic.erases_as is DataClass.ERASURE_PROOF


def allowed(service: str, operation: str) -> set[str]:
    return {
        acl.name
        for acl in acls()
        if acl.principal == f"User:{service}"
        and (acl.resource, acl.operation, acl.pattern) == ("TOPIC", operation, "LITERAL")
    }


@pytest.mark.parametrize(
    ("service", "writes", "reads"),
    [
        (
            "installer",
            {"installer.tenants.v1", "installer.erasures.v1", "installer.censuses.v1"},
            {
                "config.accesses.v1",
                "installer.tenants.v1",
                "purger.commands.v1",
                "purger.ledger.v1",
                "purger.censuses.v1",
            },
        ),
        (
            "config",
            {
                "config.erasures.v1",
                "config.requests.v1",
                "config.accesses.v1",
                "config.censuses.v1",
            },
            {
                "installer.tenants.v1",
                "purger.commands.v1",
                "purger.ledger.v1",
                "purger.censuses.v1",
                "purger.purges.v1",
            },
        ),
        (
            "purger",
            {
                "purger.purges.v1",
                "purger.commands.v1",
                "purger.ledger.v1",
                "purger.censuses.v1",
            },
            {
                "installer.tenants.v1",
                "installer.erasures.v1",
                "config.erasures.v1",
                "notifier.erasures.v1",
                "config.requests.v1",
                "purger.purges.v1",
                "purger.ledger.v1",
                "installer.censuses.v1",
                "config.censuses.v1",
                "notifier.censuses.v1",
            },
        ),
        (
            "notifier",
            {
                "notifier.erasures.v1",
                "notifier.censuses.v1",
                "notifier.notices.v1",
                "notifier.policies.v1",
                "notifier.suppressions.v1",
            },
            {
                "notifier.notices.v1",
                "notifier.policies.v1",
                "notifier.suppressions.v1",
                "purger.censuses.v1",
                "installer.tenants.v1",
                "purger.commands.v1",
                "purger.ledger.v1",
                "purger.purges.v1",
            },
        ),
    ],
)
def test_a_service_writes_its_own_topics_and_reads_what_it_needs(
    service: str, writes: set[str], reads: set[str]
) -> None:
    # Whoever lets a service hear again what was said does so in its name.
    again = {f"{service}.replays.v1"}
    assert allowed(service, "WRITE") == writes | again
    assert allowed(service, "READ") == reads | again
    assert {topic.name for topic in subscriptions(service)} == reads | again


def test_a_service_has_its_own_consumer_groups_and_nothing_more() -> None:
    others = [acl for acl in acls() if acl.resource != "TOPIC"]

    assert others == [
        Acl(f"User:{service}", "GROUP", f"{service}.", "READ", "PREFIXED") for service in SERVICES
    ]


def test_nothing_is_allowed_twice_to_all_or_by_pattern_of_topics() -> None:
    assert len(set(acls())) == len(acls())
    assert all(acl.principal.removeprefix("User:") in SERVICES for acl in acls())
    assert not any("*" in acl.name for acl in acls())


@every_topic
def test_readers_and_subscriptions_agree_and_every_topic_has_a_reader(topic: Topic) -> None:
    assert readers(topic)
    for service in SERVICES:
        assert (service in readers(topic)) == (topic in subscriptions(service))


def test_every_service_hears_what_was_erased_before_it_opens_its_doors() -> None:
    assert readers(PURGER_LEDGER) == SERVICES


def test_a_stranger_has_no_subscriptions() -> None:
    with pytest.raises(KeyError):
        subscriptions("devstack")
