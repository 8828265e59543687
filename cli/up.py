"""`keepword up`: the whole of Keepword on this machine until Ctrl-C."""

import asyncio
import os
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cli.running import FAILED, run
from devstack.identity import PEOPLE
from devstack.stack import Ended, LocalStack, forget_state, start_local_stack, state_folder

LOOK_EVERY_SECONDS = 0.5


def run_up(state: Path | None, *, reset: bool, containers: bool, dry_run: bool) -> int:
    """Run everything until a signal; 0 after a clean stop, 1 when something ended by itself."""
    console = Console()
    folder = state or state_folder(os.environ)
    if dry_run:
        files = sum(1 for each in folder.rglob("*") if each.is_file()) if folder.exists() else 0
        what = "would be emptied" if reset else "would be used as it is"
        console.print(f"{escape(str(folder))}, {files} files, {what}.", soft_wrap=True)
        return 0
    return run(_up(console, folder, reset=reset, containers=containers), console, when_stopped=0)


async def _up(console: Console, folder: Path, *, reset: bool, containers: bool) -> int:
    if reset:
        forget_state(folder)
    stack = await start_local_stack(
        folder,
        environment=os.environ,
        containers=containers,
        sign_on=True,
        tell=lambda step: console.print(f"Starting [bold]{step}[/]"),
    )
    ended: list[Ended] = []
    try:
        console.print(_table_of(stack))
        console.print(f"Data, keys and logs: {stack.folder}", highlight=False, soft_wrap=True)
        people = ", ".join(
            f"{subject} ({', '.join(roles) or 'no role'})" for subject, (_, roles) in PEOPLE.items()
        )
        console.print(f"Staff sign on without a password as {people}.", soft_wrap=True)
        console.print("[bold]Ready.[/] Ctrl-C stops everything.")
        while not ended:
            await asyncio.sleep(LOOK_EVERY_SECONDS)
            ended = stack.ended()
    finally:
        for each in ended:
            _say_ended(console, stack, each)
        console.print("Stopping")
        await stack.stop()
    return FAILED


def _table_of(stack: LocalStack) -> Table:
    at = stack.endpoints
    table = Table("what", "where")
    for what, where in (
        ("Atlassian, as its customers", f"{at.atlassian}/"),
        ("every mail that was sent", f"{at.mail}/"),
        ("health of installer", f"{at.installer}/readyz"),
        ("health of config", f"{at.config}/readyz"),
        ("health of purger", f"{at.purger}/readyz"),
        ("health of notifier", f"{at.notifier}/readyz"),
        ("staff's pages: tenants' purges", f"{at.purger}/staff"),
        ("staff's pages: faults in browsers", f"{at.config}/staff"),
        ("staff's pages: policy and news", f"{at.notifier}/staff"),
        ("a receipt, by its mail's code", f"{at.purger}/receipts/CODE"),
        ("the ledger of erasures", f"{at.purger}/ledger/entries"),
        ("the key that verifies it", f"{at.purger}/ledger/public-key"),
    ):
        table.add_row(what, where)
    return table


def _say_ended(console: Console, stack: LocalStack, ended: Ended) -> None:
    console.print(f"[red]{ended.name} ended by itself with status {ended.status}.[/] It said last:")
    console.print(escape(ended.last_lines), highlight=False, soft_wrap=True)
    console.print(f"All of it: {stack.log_of(ended.name)}", highlight=False, soft_wrap=True)
