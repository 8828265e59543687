"""`keepword topics`: the broker's topics and permissions against those of the contracts."""

import asyncio
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from aiokafka.admin import AIOKafkaAdminClient, NewPartitions
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError
from aiokafka.protocol.admin import DescribeAclsRequest
from rich.console import Console

from chassis.broker import KafkaAccess
from cli.rows import show_rows
from cli.running import DIFFERS, FAILED, MISUSED, say_failure
from contracts.messages import Kind
from contracts.topics import ALL_TOPICS, SERVICES, Acl, Topic, acls
from devstack.kafka import (
    OPERATIONS,
    PATTERNS,
    RESOURCES,
    KafkaSetupError,
    create_topics,
    grant,
)
from devstack.provider import KAFKA_VARIABLE

COLUMNS: Final = ("about", "is", "wanted", "then")

# The numbers of the wire protocol: org.apache.kafka.common.acl, and Errors.SECURITY_DISABLED.
_ANY: Final = 1
_ALLOW: Final = 3
_SECURITY_DISABLED: Final = 54
_SET_ON_THE_TOPIC: Final = 1
# Where one of these becomes smaller, or the policy another, records go that are there now.
_KEEPING: Final = frozenset(
    {"retention.ms", "retention.bytes", "delete.retention.ms", "min.compaction.lag.ms"}
)
_POLICY: Final = "cleanup.policy"
_WITHOUT_END: Final = "-1"
# The kinds of which more partitions would do harm that nothing mends.
_FIXED: Final = frozenset({Kind.STATE, Kind.LOG})


class Then(StrEnum):
    """What becomes of a difference."""

    APPLY = "apply"
    CONFIRM = "apply once confirmed"
    """Records, or the order of a key, are lost by it."""
    BY_HAND = "by hand"
    """Never done from here."""


@dataclass(frozen=True, slots=True)
class Step:
    """One difference between the broker and the contracts."""

    about: str
    found: str
    wanted: str
    then: Then
    topic: Topic | None = None
    setting: str | None = None
    acl: Acl | None = None

    def row(self) -> dict[str, str]:
        """Give the step for a table or a program."""
        return {"about": self.about, "is": self.found, "wanted": self.wanted, "then": self.then}


@dataclass(frozen=True, slots=True)
class RealTopic:
    """A topic as it is on the broker; ``own`` are the settings that were made for it alone.

    ``config`` is None where it may not be seen.
    """

    partitions: int
    config: Mapping[str, str] | None
    own: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Real:
    """What the broker has; ``acls`` is None where it knows no permissions at all."""

    topics: Mapping[str, RealTopic]
    acls: frozenset[Acl] | None


# -- the plan ---------------------------------------------------------------------------------


def plan(real: Real, topics: Sequence[Topic], wanted: Collection[Acl]) -> list[Step]:
    """Say what is not as agreed, topic by topic, then the permissions."""
    steps = [step for topic in topics for step in _of_topic(topic, real.topics.get(topic.name))]
    if real.acls is not None:
        steps += _of_acls(real.acls, wanted, {topic.name for topic in topics})
    return steps


def _of_topic(topic: Topic, found: RealTopic | None) -> Iterable[Step]:
    about = f"topic {topic.name}"
    if found is None:
        wanted = f"{topic.partitions} partitions, {topic.config[_POLICY]}"
        yield Step(about, "not there", wanted, Then.APPLY, topic)
        return
    if found.partitions != topic.partitions:
        then = Then.CONFIRM
        if found.partitions > topic.partitions or topic.kind in _FIXED:
            then = Then.BY_HAND
        yield Step(
            f"{about}, partitions", str(found.partitions), str(topic.partitions), then, topic
        )
    if found.config is None:
        yield Step(f"{about}, settings", "not to be seen", "as agreed", Then.BY_HAND, topic)
        return
    for name, wanted in topic.config.items():
        now = found.config.get(name, "none")
        if now != wanted:
            then = Then.CONFIRM if _loses(name, now, wanted) else Then.APPLY
            yield Step(f"{about}, {name}", now, wanted, then, topic, setting=name)


def _loses(name: str, now: str, wanted: str) -> bool:
    if name == _POLICY:
        return True
    if name not in _KEEPING or wanted == _WITHOUT_END:
        return False
    return now == _WITHOUT_END or not now.isdigit() or int(wanted) < int(now)


def _of_acls(found: Collection[Acl], wanted: Collection[Acl], names: set[str]) -> Iterable[Step]:
    for acl in wanted:
        if acl not in found:
            yield Step(f"permission of {acl.principal}", "missing", _told(acl), Then.APPLY, acl=acl)
    ours = {f"User:{service}" for service in SERVICES}
    for acl in sorted(found, key=str):
        if acl not in wanted and (acl.principal in ours or acl.name in names):
            yield Step(f"permission of {acl.principal}", _told(acl), "none", Then.BY_HAND, acl=acl)


def _told(acl: Acl) -> str:
    begins = "*" if acl.pattern == "PREFIXED" else ""
    return f"{acl.operation} {acl.resource.lower()} {acl.name}{begins}"


# -- the broker -------------------------------------------------------------------------------


def kafka_access(environment: Mapping[str, str], client_id: str) -> KafkaAccess | None:
    """Read how Kafka is reached, as services do; None where it is not named."""
    servers = environment.get("KEEPWORD_KAFKA_BOOTSTRAP_SERVERS") or environment.get(KAFKA_VARIABLE)
    if not servers:
        return None
    return KafkaAccess(
        servers,
        client_id,
        username=environment.get("KEEPWORD_KAFKA_USERNAME"),
        password=environment.get("KEEPWORD_KAFKA_PASSWORD"),
        ca_file=environment.get("KEEPWORD_KAFKA_CA_FILE"),
    )


async def look(
    options: Mapping[str, Any], topics: Sequence[Topic], *, at_permissions: bool = True
) -> Real:
    """Read what the broker has of these topics, and all permissions; raises a KafkaError."""
    admin = AIOKafkaAdminClient(**options, request_timeout_ms=10_000)
    try:
        await admin.start()
        described = {each["topic"]: each for each in await admin.describe_topics()}
        here = [topic.name for topic in topics if topic.name in described]
        answers = await admin.describe_configs(
            [ConfigResource(ConfigResourceType.TOPIC, name) for name in here]
        )
        permissions = await _permissions(admin) if at_permissions else None
    finally:
        await admin.close()
    found = {
        name: RealTopic(len(described[name]["partitions"]), None if code else config, own)
        for code, name, config, own in _configs_in(answers)
    }
    return Real(found, permissions)


def _configs_in(
    answers: Iterable[Any],
) -> Iterable[tuple[int, str, dict[str, str], dict[str, str]]]:
    for answer in answers:
        for code, _, _, name, entries in answer.resources:
            # An entry is its name, its value, whether it may be read only, and where it was set.
            own = {each[0]: each[1] for each in entries if each[3] == _SET_ON_THE_TOPIC}
            yield code, name, {each[0]: each[1] for each in entries}, own


async def _permissions(admin: AIOKafkaAdminClient) -> frozenset[Acl] | None:
    request = DescribeAclsRequest(_ANY, None, _ANY, None, None, _ANY, _ANY)
    # aiokafka knows the request but offers no method for it.
    answer = await admin._send_request(request)  # noqa: SLF001 - no public way
    if answer.error_code == _SECURITY_DISABLED:
        return None
    if answer.error_code:
        raise KafkaSetupError(f"permissions may not be seen: {answer.error_message}")
    return frozenset(
        Acl(principal, _name(RESOURCES, kind), name, _name(OPERATIONS, operation), shape)
        for kind, name, pattern, entries in answer.resources
        for principal, host, operation, permission in entries
        if (shape := _name(PATTERNS, pattern)) and host == "*" and permission == _ALLOW
    )


def _name(numbers: Mapping[str, int], number: int) -> Any:
    return next((name for name, each in numbers.items() if each == number), f"number {number}")


async def carry_out(steps: Sequence[Step], real: Real, options: Mapping[str, Any]) -> None:
    """Do these steps; each is one that is there to be done.

    Raises:
        KafkaSetupError: the broker refuses one of them; those before it are done.
        KafkaError: likewise.
    """
    new = [step.topic for step in steps if step.topic and step.topic.name not in real.topics]
    if new:
        await create_topics(new, **options)
    wider = {
        step.topic.name: NewPartitions(step.topic.partitions)
        for step in steps
        if step.topic and step.topic.name in real.topics and step.setting is None
    }
    changed: dict[str, dict[str, str]] = {}
    for step in steps:
        if step.topic and step.setting:
            # What is not sent along would go back to the broker's own.
            config = changed.setdefault(step.topic.name, dict(real.topics[step.topic.name].own))
            config[step.setting] = step.topic.config[step.setting]
    admin = AIOKafkaAdminClient(**options, request_timeout_ms=10_000)
    try:
        await admin.start()
        if wider:
            await admin.create_partitions(wider)
        if changed:
            _require_done(
                await admin.alter_configs(
                    [
                        ConfigResource(ConfigResourceType.TOPIC, name, configs=config)
                        for name, config in changed.items()
                    ]
                )
            )
    finally:
        await admin.close()
    missing = [step.acl for step in steps if step.acl]
    if missing:
        await grant(missing, **options)


def _require_done(answers: Iterable[Any]) -> None:
    for answer in answers:
        for code, message, _, name in answer.resources:
            if code:
                raise KafkaSetupError(f"settings of {name} refused: {message} (error {code})")


# -- the commands -----------------------------------------------------------------------------


def run_plan() -> int:
    """Show what is not as agreed, and change nothing."""
    return _run(apply=False, confirmed=None)


def run_apply(*, confirmed: int | None, dry_run: bool) -> int:
    """Make the broker as agreed, as far as that harms nothing or was confirmed."""
    return _run(apply=not dry_run, confirmed=confirmed)


def _run(*, apply: bool, confirmed: int | None) -> int:
    console = Console()
    access = kafka_access(os.environ, "keepword-topics")
    if access is None:
        console.print(f"No Kafka is named. Set {KAFKA_VARIABLE}.")
        return MISUSED
    try:
        return asyncio.run(_story(access, console, apply=apply, confirmed=confirmed))
    except (KafkaSetupError, KafkaError, OSError, TimeoutError) as failure:
        say_failure(console, failure)
        return FAILED


async def _story(
    access: KafkaAccess, console: Console, *, apply: bool, confirmed: int | None
) -> int:
    options = access.client_options()
    real = await look(options, ALL_TOPICS)
    steps = plan(real, ALL_TOPICS, acls())
    show_rows(console, COLUMNS, [step.row() for step in steps])
    if not apply:
        _sum_up(console, real, steps)
        return DIFFERS if steps else 0
    risky = [step for step in steps if step.then is Then.CONFIRM]
    if risky and confirmed is None and console.is_terminal:
        confirmed = _asked(console, len(risky))
    if risky and confirmed is not None and confirmed != len(risky):
        console.print(f"{len(risky)} steps lose something, not {confirmed}. Nothing was changed.")
        return FAILED
    wanted = {Then.APPLY, *([Then.CONFIRM] if confirmed is not None else [])}
    await carry_out([step for step in steps if step.then in wanted], real, options)
    left = plan(await look(options, ALL_TOPICS), ALL_TOPICS, acls())
    if console.is_terminal:
        console.print(f"Done: {len(steps) - len(left)} of {len(steps)}.")
    return DIFFERS if left else 0


def _asked(console: Console, risky: int) -> int | None:
    console.print(
        "What is to be confirmed loses records that are there now, or the order of a key.",
        soft_wrap=True,
    )
    said = console.input(f"Type how many such steps you have seen ({risky} to go on): ")
    return int(said) if said.strip().isdigit() else None


def _sum_up(console: Console, real: Real, steps: Sequence[Step]) -> None:
    if not console.is_terminal:
        return
    console.print(f"Not as agreed: {len(steps)}. Topics: {len(real.topics)} of {len(ALL_TOPICS)}.")
    if real.acls is None:
        console.print("This broker knows no permissions: everybody may do everything.")
