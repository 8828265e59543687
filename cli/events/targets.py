"""Knows what each service hears, what of it may be heard again, and what is left out."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any
from uuid import UUID

from chassis.consumer import main_group
from chassis.database import Connection
from chassis.handlers import Handler, Handlers
from chassis.replays import guarded, heard_already
from cli.events.places import Misunderstood, known_service
from cli.events.questions import ce_types, pick
from cli.events.sources import Found
from contracts.messages import Kind
from contracts.registry import by_ce_type, types_of
from contracts.replays import REPLAYED
from contracts.topics import REPLAYS, Topic
from services.purger.store.tenants import unknown_tenants


@dataclass(frozen=True, slots=True)
class Target:
    """A service, and what of all that it hears is meant."""

    service: str
    types: tuple[str, ...]
    kind: Kind
    handlers: tuple[Handler[Any], ...]

    @property
    def is_state(self) -> bool:
        """Whether its owner says it anew instead of anybody saying it again."""
        return self.kind is Kind.STATE

    @property
    def said_on(self) -> tuple[Topic, ...]:
        """The topics on which it was said."""
        found = {topic: None for each in self.types for topic in _known(each).topics}
        return tuple(found)

    @property
    def owners(self) -> tuple[str, ...]:
        """Who said it."""
        return tuple(sorted({topic.owner for topic in self.said_on}))

    @property
    def topic(self) -> Topic:
        """Where the service hears it again."""
        return REPLAYS[self.service]

    @property
    def consumer(self) -> str:
        """The consumer group that does."""
        return main_group(self.service)


def handlers_of(service: str) -> Handlers[Any]:
    """List what a service does about each message that it hears."""
    found: Handlers[Any] = import_module(f"services.{service}.handlers").handlers
    return found


def target_of(to: str, names: Sequence[str], *, force: bool) -> Target:
    """Understand who is to hear what again; raises ``Misunderstood`` where that cannot be."""
    service, _, name = to.partition(".")
    heard = handlers_of(known_service(service)).by_model
    by_name = {each.name: each for each in heard.values()}
    if name:
        pick(name, by_name, f"handler of {service}")
    meant = [each for each in heard.values() if name in ("", each.name)]
    types = _types(service, names, meant)
    named = bool(name or names)
    handlers = [each for each in meant if set(types) & set(_types_of(each))]
    states = [each for each in handlers if each.kind is Kind.STATE]
    if named and states:
        return _state(service, handlers, types, force=force)
    handlers = [each for each in handlers if each.kind in REPLAYED]
    if not handlers:
        raise Misunderstood(f"Nothing of what {to} hears is ever replayed.")
    if force:
        _require_repeatable(handlers)
    kept = tuple(each for handler in handlers for each in _types_of(handler) if each in types)
    return Target(service, kept, handlers[0].kind, tuple(handlers))


def _state(
    service: str, handlers: Sequence[Handler[Any]], types: Sequence[str], *, force: bool
) -> Target:
    owner = _known(types[0]).topics[0].owner
    names = ", ".join(_known(each).name for each in types)
    if len(handlers) > 1:
        raise Misunderstood(f"{names} are of several topics. Name one handler with --to.")
    if not force:
        raise Misunderstood(
            f"{names} is state, which is never replayed but restated: keepword events restate"
            f" {owner}. With --force {service} forgets first what it has built from it."
        )
    _require_repeatable(handlers)
    return Target(service, tuple(types), Kind.STATE, tuple(handlers))


def _require_repeatable(handlers: Sequence[Handler[Any]]) -> None:
    for each in handlers:
        if each.once:
            raise Misunderstood(
                f"{each.name} is not forced to run again: {each.once}. Leave --force out, or name"
                " another handler with --to."
            )


def _types(service: str, names: Sequence[str], meant: Sequence[Handler[Any]]) -> tuple[str, ...]:
    heard = [each for handler in meant for each in _types_of(handler)]
    if not names:
        return tuple(heard)
    wanted = ce_types(names)
    for each in wanted:
        if each not in heard:
            known = ", ".join(sorted(_known(one).name for one in heard))
            raise Misunderstood(
                f"{service} does not hear {_known(each).name} there. It hears {known}."
            )
    return wanted


def _types_of(handler: Handler[Any]) -> list[str]:
    return [each.ce_type for each in types_of(handler.model)]


def _known(ce_type: str) -> Any:
    known = by_ce_type(ce_type)
    assert known is not None
    return known


@dataclass(frozen=True, slots=True)
class Sieve:
    """Keeps of what was found what the target may hear again."""

    target: Target
    connection: Connection

    async def sift(self, found: Sequence[Found]) -> tuple[list[Found], list[Found]]:
        """Divide messages into those to send, and those of tenants that are purged.

        Commands to others are in neither.
        """
        ours = [each for each in found if self._is_ours(each)]
        gone = await self._gone([each.tenant_id for each in ours if each.tenant_id])
        kept = [each for each in ours if each.tenant_id not in gone]
        return kept, [each for each in ours if each.tenant_id in gone]

    async def dropped(self, kept: Sequence[Found]) -> int:
        """Count those that the target's inbox will drop, as they were handled."""
        ids = [each.ce_id for each in kept if _known(each.type).kind is Kind.EVENT]
        known = await heard_already(self.connection, self.target.consumer, ids)
        return sum(each in known for each in ids)

    def _is_ours(self, found: Found) -> bool:
        known = _known(found.type)
        if known.kind is not Kind.COMMAND:
            return True
        try:
            return bool(known.model.decode(found.payload).owner == self.target.service)
        except ValueError:
            return True  # it becomes a dead letter, as it was, or would have been

    async def _gone(self, tenant_ids: Sequence[UUID]) -> set[UUID]:
        wanted = list(set(tenant_ids))
        if self.target.service == "purger":  # which keeps the ledger, and has no guards of its own
            return await unknown_tenants(self.connection, wanted)
        return await guarded(self.connection, wanted)
