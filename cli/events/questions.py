"""Understands what a person asks for: which messages, of which time, from where."""

import difflib
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from chassis.history import Wanted
from cli.events.places import Misunderstood
from contracts.registry import MESSAGE_TYPES

_AGO: Final = re.compile(r"(\d{1,5})([smhd])")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_TRACEPARENT: Final = re.compile(r"(?:[0-9a-f]{2}-)?([0-9a-f]{32})(?:-.*)?")


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
