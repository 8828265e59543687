"""`keepword purges`: what is due, why, what is to come, what would go, and the brake."""

import asyncio
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from importlib import import_module
from typing import Final
from uuid import UUID

import asyncpg
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from chassis.clock import Clock
from chassis.data_map import DataMap
from chassis.database import Connection, connect
from chassis.erasure import BlindVerificationError, WouldErase, would_erase
from cli.databases import (
    advice,
    database_variable,
    rehearsed,
    run_by_somebody,
    run_on,
    shown,
)
from cli.running import FAILED, MISUSED
from contracts.classes import TENANT_CLASSES
from contracts.topics import SERVICES
from services.purger import brake
from services.purger.domain.brake import LONGEST_REASON, RELEASED_BY
from services.purger.explanations import Explanation, explain
from services.purger.forecast import Week, last_day, weeks_of
from services.purger.store import board, forecast, states
from services.purger.store.board import OpenPurge

_PAGE: Final = 500


def run_list(due_days: int | None) -> int:
    """Show the purges that are not over, the most urgent first."""

    async def show(connection: Connection, clock: Clock, console: Console) -> int:
        now = clock.now()
        until = None if due_days is None else now + timedelta(days=due_days)
        table = Table("purge", "tenant", "scope", "phase", "starts", "to be done by", "standing")
        count = overdue = 0
        after: OpenPurge | None = None
        while page := await board.open_purges(
            connection, erase_by_before=until, after=after, limit=_PAGE
        ):
            for purge in page:
                late = purge.plan.erase_by <= now
                overdue += late
                table.add_row(*_row(purge, late=late))
            count, after = count + len(page), page[-1]
        if count:
            console.print(table)
        console.print(f"Purges that are not over: {count}. Overdue: {overdue}.")
        return 0

    return run_on("purger", show)


def run_explain(tenant_id: UUID, *, as_json: bool) -> int:
    """Say why each purge of a tenant has its dates."""

    async def show(connection: Connection, _: Clock, console: Console) -> int:
        plans = (await states.plans_of(connection, [tenant_id]))[tenant_id][1]
        explanations = [explain(plan) for plan in plans]
        if as_json:
            print(json.dumps([asdict(each) for each in explanations], default=_json, indent=1))  # noqa: T201 - Rich would wrap it
        elif not explanations:
            console.print("Nothing is planned for a tenant of this id, nor was it lately.")
        for explanation in [] if as_json else explanations:
            _show_explanation(console, explanation)
        return 0 if explanations else FAILED

    return run_on("purger", show)


def run_forecast() -> int:
    """Show what the weeks of the coming six months bring."""

    async def show(connection: Connection, clock: Clock, console: Console) -> int:
        now = clock.now()
        days = await forecast.due_by_day(connection, until=last_day(now))
        weeks = weeks_of(days, now)
        console.print(_weeks(weeks))
        console.print(
            f"In six months {sum(week.starting for week in weeks)} purges start and"
            f" {sum(week.ending for week in weeks)} have to be done."
            " What was due before is in this week."
        )
        return 0

    return run_on("purger", show)


def run_brake_pull(*, by: str, reason: str | None) -> int:
    """Hold back every purge that has not begun."""

    async def pull(connection: Connection, clock: Clock, console: Console) -> int:
        async with connection.transaction():
            await brake.pull(connection, name=by, reason=reason, now=clock.now())
        console.print(
            f"The brake holds, pulled by {escape(by.strip())}. No purge starts until"
            f" {RELEASED_BY} people release it. What is under way goes on."
        )
        return 0

    if reason is not None and len(reason) > LONGEST_REASON:
        Console().print(f"Give the reason in {LONGEST_REASON} letters at the most.")
        return MISUSED
    return run_by_somebody("purger", by, pull)


def run_brake_release(*, by: str, dry_run: bool) -> int:
    """Note that a person wants purges let through, or show what would follow from it."""

    async def release(connection: Connection, clock: Clock, console: Console) -> int:
        async with rehearsed(connection, dry_run=dry_run):
            standing = await brake.release(connection, name=by, now=clock.now())
        if standing is None:
            console.print("The brake does not hold; nothing was noted.")
            return FAILED
        names = ", ".join(escape(name) for name, _ in standing.releases)
        if standing.engaged:
            missing = RELEASED_BY - len(standing.releases)
            console.print(f"Noted: {names}. It holds until {missing} more of another name.")
        else:
            console.print(f"Released by {names}. Purges start again with the next sweep.")
        if dry_run:
            console.print("That would be so: nothing was noted.")
        return 0

    return run_by_somebody("purger", by, release)


@dataclass(frozen=True, slots=True)
class _Looked:
    """What one service would erase, or why nobody looked there."""

    service: str
    found: WouldErase | None = None
    why_not: str = ""
    failed: bool = False


def run_dry_run(tenant_id: UUID) -> int:
    """Show what an erasure of everything of a tenant would take, and change nothing."""
    console = Console()
    owners = [service for service in SERVICES if _data_map(service).tables_of(TENANT_CLASSES)]
    named = [service for service in owners if os.environ.get(database_variable(service))]
    if not named:
        names = ", ".join(map(database_variable, owners))
        console.print(f"No database is named. Set one of {names}.", soft_wrap=True)
        return MISUSED
    looked = asyncio.run(_look(owners, tenant_id))
    console.print(_would_go(looked))
    missing = [each.service for each in looked if each.found is None]
    if missing:
        console.print(f"[red]Not the whole of it:[/] not looked at: {', '.join(missing)}.")
    console.print("Nothing was changed.")
    return FAILED if any(each.failed for each in looked) else 0


async def _look(owners: Sequence[str], tenant_id: UUID) -> list[_Looked]:
    return [await _look_at(service, tenant_id) for service in owners]


async def _look_at(service: str, tenant_id: UUID) -> _Looked:
    url = os.environ.get(database_variable(service))
    if not url:
        return _Looked(service, why_not=f"{database_variable(service)} is not set")
    try:
        connection = await connect(url, name="keepword purges dry-run")
        try:
            found = await would_erase(connection, _data_map(service), TENANT_CLASSES, tenant_id)
        finally:
            await connection.close()
    except BlindVerificationError as blind:
        return _Looked(service, why_not=str(blind), failed=True)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, ValueError) as failure:
        why_not = f"{type(failure).__name__}. {advice(service)}"
        return _Looked(service, why_not=why_not, failed=True)
    return _Looked(service, found)


def _data_map(service: str) -> DataMap:
    found: DataMap = import_module(f"services.{service}.data_map").DATA_MAP
    return found


def _would_go(looked: Iterable[_Looked]) -> Table:
    table = Table("service", "class", "table", "rows", "in the receipt")
    for each in looked:
        if each.found is None:
            table.add_row(each.service, "", escape(each.why_not), "not looked at", "")
            continue
        for rows in each.found.tables:
            counted = str(rows.rows) if rows.counted else ""
            table.add_row(each.service, rows.data_class, rows.table, str(rows.rows), counted)
        for name, count in each.found.plumbing.items():
            table.add_row(each.service, "plumbing", name, str(count), "")
    return table


def _row(purge: OpenPurge, *, late: bool) -> tuple[str, ...]:
    plan = purge.plan
    standing = "[red]OVERDUE[/]" if late else ""
    if purge.open_steps:
        standing = f"{standing} open: {', '.join(purge.open_steps)}".strip()
    return (
        str(plan.purge_id),
        str(purge.tenant_id),
        plan.scope.value,
        plan.phase.value,
        shown(plan.start_at),
        shown(plan.erase_by),
        standing,
    )


def _show_explanation(console: Console, explanation: Explanation) -> None:
    console.print(f"[bold]Purge {explanation.purge_id}[/], {explanation.scope}", highlight=False)
    console.print(f"Takes {', '.join(explanation.classes)}. It is {explanation.standing}.")
    console.print(f"{escape(explanation.event)} (Rule {explanation.rule_version}.)")
    table = Table("date", "at", "reckoned", "because")
    for each in explanation.sums:
        table.add_row(each.date, shown(each.at), escape(each.reckoned), each.because)
    console.print(table)


def _weeks(weeks: Iterable[Week]) -> Table:
    table = Table("week from", "purges that start", "have to be done")
    for week in weeks:
        table.add_row(f"{week.begins:%Y-%m-%d}", str(week.starting or ""), str(week.ending or ""))
    return table


def _json(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
