"""Understands what a person asks for: which messages, of which time, from where."""

import difflib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from chassis.broker import KafkaAccess
from chassis.history import Wanted
from cli.databases import database_url, database_variable
from cli.doctor import kafka_access
from contracts.registry import MESSAGE_TYPES
from contracts.topics import SERVICES
from devstack.provider import KAFKA_VARIABLE
from devstack.stack import known_environment, state_folder

_AGO: Final = re.compile(r"(\d{1,5})([smhd])")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_TRACEPARENT: Final = re.compile(r"(?:[0-9a-f]{2}-)?([0-9a-f]{32})(?:-.*)?")
_POD_VARIABLE: Final = "KEEPWORD_DATABASE_URL"


class Misunderstood(Exception):  # noqa: N818 - names what is so
    """The command line makes no sense; the message says what would."""


def environment() -> Mapping[str, str]:
    """Give the environment, or that of the `keepword up` which runs here, where it names nothing."""
    named = (_POD_VARIABLE, *map(database_variable, SERVICES))
    if kafka_access(os.environ) is not None or any(os.environ.get(name) for name in named):
        return os.environ
    return known_environment(state_folder(os.environ)) or os.environ


def kafka_of(environment: Mapping[str, str]) -> KafkaAccess:
    """Read how Kafka is reached; raises ``Misunderstood`` where it is not said."""
    access = kafka_access(environment)
    if access is None:
        raise Misunderstood(
            f"No Kafka is named. Set {KAFKA_VARIABLE}, or in a pod what its service has."
        )
    return access


def outbox_url(service: str, environment: Mapping[str, str]) -> str:
    """Read where a service's database is; raises ``Misunderstood`` where it is not said."""
    url = database_url(service, environment)
    if url is None:
        raise Misunderstood(
            f"Set {database_variable(service)} to the address of the {service}'s database, with"
            f" its runtime role. In the {service}'s own pod {_POD_VARIABLE} is it already."
        )
    return url


def outboxes(services: Sequence[str], environment: Mapping[str, str]) -> dict[str, str]:
    """Read where these services' databases are, or without names all that are said."""
    for service in services:
        known_service(service)
    if services:
        return {service: outbox_url(service, environment) for service in services}
    found = {
        service: url for service in SERVICES if (url := environment.get(database_variable(service)))
    }
    if not found:
        names = ", ".join(map(database_variable, SERVICES))
        raise Misunderstood(
            f"No database is named. Set one or more of {names}; in a service's own pod add"
            " --service with its name. Or look into Kafka with --from topic."
        )
    return found


def known_service(name: str) -> str:
    """Return the name of a service; raises ``Misunderstood`` for another."""
    if name not in SERVICES:
        raise Misunderstood(f"No such service: {name}. There are {', '.join(SERVICES)}.")
    return name


def ce_types(names: Iterable[str]) -> tuple[str, ...]:
    """Spell the CloudEvents types of these names; either spelling is taken."""
    known = {each.name: each.ce_type for each in MESSAGE_TYPES}
    known |= {each.ce_type: each.ce_type for each in MESSAGE_TYPES}
    return tuple(known[pick(name, known, "type of message")] for name in names)


def pick(name: str, known: Iterable[str], what: str) -> str:
    """Return the name if it is known; raises ``Misunderstood`` with what was perhaps meant."""
    names = sorted(known)
    if name in names:
        return name
    near = difflib.get_close_matches(name, names, n=3)
    hint = f"Did you mean {' or '.join(near)}?" if near else f"There are {', '.join(names)}."
    raise Misunderstood(f"No such {what}: {name}. {hint}")


def moment(text: str | None, option: str, *, wall: datetime) -> datetime | None:
    """Read a time: ``2026-11-02T09:30Z``, with a zone, or how long ago, as ``30m`` or ``12h``."""
    if text is None:
        return None
    if ago := _AGO.fullmatch(text):
        return wall - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise Misunderstood(
            f"{option}: {text} is no time. Write 2026-11-02T09:30Z, or how long ago: 30m, 12h, 90d."
        ) from None
    if found.tzinfo is None:
        raise Misunderstood(f"{option}: {text} has no zone. Write {text}Z if it is UTC.")
    return found.astimezone(UTC)


def span(
    since: str | None, until: str | None, *, wall: datetime
) -> tuple[datetime | None, datetime | None]:
    """Read both ends of a time; raises ``Misunderstood`` where they are the wrong way round."""
    first, last = moment(since, "--since", wall=wall), moment(until, "--until", wall=wall)
    if first is not None and last is not None and first >= last:
        raise Misunderstood(
            f"--since {since} is not before --until {until}: nothing lies between them."
        )
    if first is not None and first > wall:
        raise Misunderstood(f"--since {since} has not come yet.")
    return first, last


def wanted(
    *,
    tenant: UUID | None,
    types: Sequence[str],
    since: str | None,
    until: str | None,
    ce_id: UUID | None = None,
    trace: str | None = None,
) -> Wanted:
    """Understand a question as a whole; raises ``Misunderstood``."""
    first, last = span(since, until, wall=datetime.now(UTC))
    if trace is not None and not _TRACEPARENT.fullmatch(trace.lower()):
        raise Misunderstood("--trace: give the 32 hexadecimal digits of a trace's id.")
    found = _TRACEPARENT.fullmatch(trace.lower()) if trace is not None else None
    return Wanted(tenant, ce_types(types), first, last, ce_id, found[1] if found else None)
