"""`keepword demo`: a customer's data from install to receipt, told as it happens."""

import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import httpx2
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cli.audit import (
    NotVerified,
    check_receipt,
    fetch_ledger,
    fetch_public_key,
    public_keys_of,
)
from cli.running import FAILED, INTERRUPTED, run, say_failure
from contracts.ledger import LedgerEntry, ReceiptStage
from contracts.purges import Phase, Plan
from devstack.journey import Journey, RefusedError, TookTooLongError
from devstack.stack import LocalStack, UnsentMessagesError, start_local_stack

ACME, GLOBEX = "acme", "globex"
PERSON, ADDRESS = "Ada Example", "ada@acme.example"
PASSWORDS = {"orders": "s3cret-of-orders", "customers": "s3cret-of-customers"}
RELEASED_BY = ("Kim Keeper", "Robin Reader")

_PHASES: Final = {
    Phase.REQUESTED: "Wave 0: purger asks the installer alone; a tenant that came back would stay",
    Phase.ERASING: "Wave 1: past the point of no return; the ledger has it, three owners erase",
    Phase.ERASED: "Receipt: all have looked again and found nothing. Wave 2: people are told first",
    Phase.CLOSED: "Closed: the receipt was mailed, then its reader was forgotten",
}


@dataclass(slots=True)
class Story:
    """Tells what happens, and keeps what was checked."""

    console: Console
    began_at: float = field(default_factory=time.monotonic)
    checks: list[tuple[str, bool, str]] = field(default_factory=list)

    def chapter(self, title: str) -> None:
        """Begin a new part."""
        self.console.print()
        self.console.rule(f"[bold]{title}", align="left")

    def say(self, text: str) -> None:
        """Tell something, with the second at which it happened."""
        seconds = time.monotonic() - self.began_at
        self.console.print(f"[dim]{seconds:5.1f} s[/]  {text}", highlight=False, soft_wrap=True)

    def check(self, what: str, holds: bool, found: str = "") -> None:
        """Keep whether a promise held, and what was found where it did not."""
        self.checks.append((what, holds, found))

    def kept(self) -> bool:
        """Show what was checked; True when all of it held."""
        table = Table("promise", "", "found")
        for what, holds, found in self.checks:
            table.add_row(what, "[green]ok[/]" if holds else "[red]failed[/]", escape(found))
        self.console.print(table)
        return all(holds for _, holds, _ in self.checks)


def run_demo(*, keep: bool, containers: bool) -> int:
    """Tell the whole story on a fresh stack; 0 when every promise was kept."""
    console = Console()
    folder = Path(tempfile.mkdtemp(prefix="keepword-demo-"))
    try:
        return run(
            _demo(Story(console), folder, containers=containers), console, when_stopped=INTERRUPTED
        )
    finally:
        if keep:
            console.print(f"Data and logs: {folder}", highlight=False, soft_wrap=True)
        else:
            shutil.rmtree(folder, ignore_errors=True)


async def _demo(story: Story, folder: Path, *, containers: bool) -> int:
    story.chapter("A stack of its own")
    async with _stack(story, folder, containers=containers) as stack:
        story.say("everything is ready")
        async with httpx2.AsyncClient() as http:
            acme, globex = Journey(stack, http, ACME), Journey(stack, http, GLOBEX)
            try:
                await _tell(story, acme, globex)
            except (RefusedError, TookTooLongError, UnsentMessagesError) as failure:
                say_failure(story.console, failure)
                story.check("the journey came to its end", holds=False, found=str(failure))
        story.chapter("What was promised, and what was found")
        kept = story.kept()
        story.say("[green]every promise was kept[/]" if kept else "[red]not all was kept[/]")
    return 0 if kept else FAILED


@asynccontextmanager
async def _stack(story: Story, folder: Path, *, containers: bool) -> AsyncIterator[LocalStack]:
    stack = await start_local_stack(
        folder,
        environment=os.environ,
        containers=containers,
        tell=lambda step: story.say(f"starting {step}"),
    )
    try:
        yield stack
    finally:
        await stack.stop()


async def _tell(story: Story, acme: Journey, globex: Journey) -> None:
    story.chapter("Two customers install an app")
    await _entrust(story, acme)
    await _entrust(story, globex)
    neighbour_before = await globex.belongings()
    _show_rows(story, await acme.rows())
    readable = ", ".join(await _traces(acme))
    story.say(f"  its names, person and passwords can be read in {readable}; the rest is sealed")

    story.chapter(f"{ACME} uninstalls it")
    await acme.uninstall()
    plan = await acme.wait_for_plan()
    _explain(story, plan)

    story.chapter("Half a year passes")
    await _pass_time(story, acme, plan)
    await _release(story, acme)

    story.chapter("The purge")
    for phase, what in _PHASES.items():
        plan = await acme.wait_for_phase(phase)
        story.say(what)
    mail = await acme.wait_for_receipt_mail(ADDRESS)
    story.say(f"in the mail sink: [italic]{escape(mail.subject)}[/]")

    await _check_erasure(story, acme)
    await _check_neighbour(story, globex, neighbour_before)
    await _check_receipt(story, acme, plan)


async def _entrust(story: Story, journey: Journey) -> None:
    """Install, and give what a customer gives: a person, and datasources with passwords."""
    tenant = await journey.install()
    story.say(f"[bold]{journey.site}[/] installed it, signed by Atlassian's stand-in: {tenant}")
    address = ADDRESS.replace(ACME, journey.site)
    await journey.add_contact(PERSON, address)
    for name, password in PASSWORDS.items():
        await journey.add_datasource(
            name,
            url=f"https://{name}.{journey.site}.example/api",
            username="reports",
            credentials=f"{password}-{journey.site}",
        )
    shown = await journey.datasources()
    story.say(
        f"  one contact, {len(shown)} datasources with credentials that can be written, never read"
    )


async def _pass_time(story: Story, journey: Journey, plan: Plan) -> None:
    """Move to the purge's start in steps, each when all that was said has been sent."""
    now = journey.stack.now()
    for to, why in (
        (now + timedelta(days=30), "the grace is over; to come back would still undo it"),
        (plan.start_at - timedelta(days=1), "a day before the start nothing has been touched"),
    ):
        await journey.move_to(to)
        held = sum((await journey.rows()).values())
        story.say(f"it is {_date(to)}: {why} ({held} rows)")
    await journey.move_to(plan.start_at)
    story.say(f"it is {_date(plan.start_at)}: the purge is due")


async def _release(story: Story, journey: Journey) -> None:
    brake = await journey.wait_for_brake()
    story.say(
        f"[yellow]the brake holds it ({brake.reason}):[/] a clock that jumps is more likely wrong"
        " than right, so nothing is erased before two people have looked"
    )
    brake = await journey.release_brake(*RELEASED_BY)
    story.say(f"this demo moved the clock, so it releases the brake as {' and '.join(RELEASED_BY)}")


async def _check_erasure(story: Story, journey: Journey) -> None:
    with suppress(TookTooLongError):  # what is left then is said below
        await journey.wait_until_gone()
    left = await journey.rows()
    story.check(f"no database holds a row of {ACME}", not left, _in_words(left))
    traces = await _traces(journey)
    story.check(
        f"no table and no log names {ACME}, its person or its passwords",
        not traces,
        ", ".join(traces),
    )


async def _traces(journey: Journey) -> list[str]:
    """Search every table and log for what only this customer has."""
    return await journey.traces_of(
        journey.client_key,
        journey.base_url,
        ADDRESS,
        *(f"{password}-{journey.site}" for password in PASSWORDS.values()),
    )


async def _check_neighbour(story: Story, journey: Journey, before: Mapping[str, int]) -> None:
    kept = await journey.belongings()
    story.check(
        f"{GLOBEX}, beside it, kept everything",
        kept == before and len(await journey.datasources()) == len(PASSWORDS),
        f"{sum(kept.values())} records of {sum(before.values())}",
    )


async def _check_receipt(story: Story, journey: Journey, plan: Plan) -> None:
    mails = await journey.receipt_mails(ADDRESS)
    code = mails[0].code
    story.check("one receipt was mailed", len(mails) == 1, f"{len(mails)} with code {code}")
    entries = await journey.receipt(code)
    stages = [entry.receipt.stage for entry in entries if entry.receipt]
    story.check(
        "its code leads to a pair of entries",
        stages == [ReceiptStage.ERASED, ReceiptStage.CLOSED],
        ", ".join(stages),
    )
    broken, length = await _verified(journey, entries)
    story.check(
        "they verify offline, in an unbroken chain", not broken, broken or f"{length} entries"
    )
    story.check(
        "all that in time",
        entries[-1].at <= plan.erase_by,
        f"{_erased(entries[-1])}, by {_date(plan.erase_by)} at the latest",
    )


async def _verified(journey: Journey, entries: Sequence[LedgerEntry]) -> tuple[str, int]:
    """Say why a receipt proves nothing, if it does not, and how long the ledger is."""
    purger = journey.stack.endpoints.purger
    ledger = await fetch_ledger(journey.http, purger)
    keys = public_keys_of(await fetch_public_key(journey.http, purger))
    try:
        check_receipt(entries, ledger, keys)
    except NotVerified as broken:
        return str(broken), len(ledger.entries)
    return "", len(ledger.entries)


def _explain(story: Story, plan: Plan) -> None:
    story.say(f"purger planned to erase [bold]{plan.scope}[/]; each date says why it is what it is")
    table = Table("what", "when", "why")
    for what, when, why in (
        ("clock started", plan.clock_started_at, f"the app was {plan.clock}"),
        ("deadline", plan.deadline, f"six calendar months on (rule {plan.rule_version})"),
        (
            "erased by",
            plan.erase_by,
            f"{(plan.deadline - plan.erase_by).days} days for backups and topics to forget too",
        ),
        (
            "starts",
            plan.start_at,
            f"{(plan.erase_by - plan.start_at).days} days for the run, after the grace",
        ),
    ):
        table.add_row(what, f"{when:%Y-%m-%d %H:%M} UTC", why)
    story.console.print(table)


def _show_rows(story: Story, rows: Mapping[str, int]) -> None:
    by_service: dict[str, list[str]] = {}
    for name, count in rows.items():
        service, table = name.split(".")
        by_service.setdefault(service, []).append(f"{count} {table}")
    for service, held in by_service.items():
        story.say(f"  {service} holds of {ACME}: {', '.join(held)}")


def _erased(entry: LedgerEntry) -> str:
    steps = entry.receipt.steps if entry.receipt else ()
    rows = sum(count for step in steps for count in step.counts.values())
    return f"{rows} rows, closed on {_date(entry.at)}"


def _in_words(rows: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in rows.items())


def _date(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d}"
