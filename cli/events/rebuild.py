"""`keepword events restate` and `rebuild`: owners say their state again, readers build on it anew."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import typer
from rich.console import Console
from rich.table import Table

from chassis.consumer import main_group
from chassis.heartbeats import state_models
from chassis.rebuild import Built, built_tables, count, forget_built, topics_of
from chassis.relay import LEADER_LOCK
from chassis.unit_of_work import UnitOfWork, Units
from cli.events.places import (
    Environment,
    Misunderstood,
    connected,
    environment,
    known_service,
    outboxes,
    run,
    working,
)
from cli.running import FAILED
from contracts.topics import SERVICES
from devstack.journey import data_map_of
from services.installer import handlers as installer
from services.notifier import app as notifier
from services.purger import jobs as purger


@dataclass(frozen=True, slots=True)
class Owner:
    """How an owner of state topics says its state again: all of it, or that of some tenants."""

    everything: Callable[[Units[Any]], Awaitable[None]]
    some: Callable[[UnitOfWork[Any], Collection[UUID]], Awaitable[set[UUID]]] | None


OWNERS: Final[Mapping[str, Owner]] = {
    "installer": Owner(installer.restate, installer.restate_some),
    "purger": Owner(purger.restate, purger.restate_some),
    # Its state is that of revisions and addresses, of which no tenant is known.
    "notifier": Owner(notifier.restate, None),
}

_SAID_SINCE: Final = """
    SELECT count(*) FROM outbox
     WHERE topic = ANY($1::text[]) AND written_at >= $2
"""


def run_restate(service: str | None, *, tenants: Sequence[UUID]) -> int:
    """Let owners say the present state again; its relay publishes it within a second."""

    async def restate() -> int:
        named, console = environment(), Console()
        unknown = set(tenants)
        for owner in _owners(service, tenants, named):
            async with working(owner, named) as units:
                if not tenants:
                    console.print(f"{owner}: {await restate_all(units)} messages are on their way.")
                    continue
                some = OWNERS[owner].some
                assert some is not None
                async with units.begin() as uow:
                    known = await some(uow, tenants)
            unknown -= known
            console.print(f"{owner}: the state of {len(known)} tenants is on its way.")
        for tenant_id in sorted(unknown):
            console.print(f"Nobody has a state of {tenant_id}: it is gone, or never was.")
        return FAILED if unknown else 0

    return run(restate)


async def restate_all(units: Units[Any]) -> int:
    """Say all state of a service again; return how many messages that made."""
    began_at = units.clock.wall()
    await OWNERS[units.service].everything(units)
    topics = [topic.name for topic in state_models(units.service)]
    said: int = await units.pool.fetchval(_SAID_SINCE, topics, began_at)
    return said


def _owners(service: str | None, tenants: Sequence[UUID], named: Environment) -> list[str]:
    if service is None:
        found = [each for each in outboxes((), named) if each in OWNERS]
        found = [each for each in found if not tenants or OWNERS[each].some]
        if not found:
            raise Misunderstood(f"Name the database of an owner of state: {', '.join(OWNERS)}.")
        return found
    if known_service(service) not in OWNERS:
        raise Misunderstood(f"{service} owns no state. Those that do: {', '.join(OWNERS)}.")
    if tenants and OWNERS[service].some is None:
        raise Misunderstood(f"{service} has no state of a tenant. Leave --tenant out.")
    return [service]


def run_rebuild(service: str, *, dry_run: bool, confirmed: str | None) -> int:
    """Let a service, which must not run, forget what it has built, and read it again."""

    async def rebuild() -> int:
        console = Console()
        tables = built_tables(data_map_of(known_service(service)))
        if not tables:
            builders = ", ".join(each for each in SERVICES if built_tables(data_map_of(each)))
            raise Misunderstood(f"{service} builds nothing from events. Those that do: {builders}.")
        async with connected(service, environment()) as connection:
            # A consumer that runs does not notice that its positions went back.
            if not await connection.fetchval("SELECT pg_try_advisory_lock($1)", LEADER_LOCK):
                console.print(f"{service} runs on this database. Stop all its replicas first.")
                return FAILED
            console.print(plan_table(await count(connection, tables)))
            if dry_run:
                console.print("Nothing was changed.")
                return 0
            if not confirm(f"Type {service} to forget these rows", service, confirmed):
                console.print("Nothing was changed.")
                return FAILED
            async with connection.transaction():
                gone = await forget_built(
                    connection, tables, consumer=main_group(service), reread=True
                )
        console.print(
            f"{sum(gone.values())} rows are gone. Start {service}: it reads"
            f" {', '.join(topics_of(tables))} from the beginning.",
            soft_wrap=True,
        )
        return 0

    return run(rebuild)


def plan_table(built: Sequence[Built]) -> Table:
    """Lay out what a rebuild does to which table."""
    laid = Table("table", "rows", "built from", "what happens")
    for each in built:
        stays = each.table.rows_stay
        fate = f"rows stay, as {stays}; they are overwritten" if stays else "dropped and built anew"
        laid.add_row(each.table.name, str(each.rows), ", ".join(each.table.built_from), fate)
    return laid


def confirm(question: str, wanted: str, given: str | None) -> bool:
    """Whether a person has typed what stands for a yes; ``given`` is what a script has typed."""
    if given is None:
        given = typer.prompt(question, default="", show_default=False)
    return given.strip() == wanted
