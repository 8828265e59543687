"""`keepword contracts`: what has changed since the last release of the messages, and the next one."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from cli.running import FAILED, MISUSED
from contracts.registry import MessageType
from contracts.releases import (
    CONTRACTS,
    Change,
    Comparison,
    NoNewVersion,
    compare,
    types_named,
    write_next_version,
)

_NEXT = {
    Change.DOCUMENTATION: "`python -m contracts` writes the newest file again.",
    Change.ALLOWED: "`keepword contracts new-version {}` writes it.",
    Change.REFUSED: "Take it back, or say another message beside this one: v2 of the type.",
}


def run_diff(names: Sequence[str], *, folder: Path = CONTRACTS) -> int:
    """Compare today's models with the released schemas, in words."""
    console = Console()
    types = _types(names, console)
    if types is None:
        return MISUSED
    found = [compare(each, folder) for each in types]
    for each in found:
        if each.change is not Change.NONE or names:
            _tell(console, each)
    waiting = [each for each in found if each.change in {Change.ALLOWED, Change.REFUSED}]
    same = sum(each.change is Change.NONE for each in found)
    console.print(f"As released: {same} of {len(found)}. To be dealt with: {len(waiting)}.")
    return FAILED if waiting else 0


def run_new_version(name: str, *, folder: Path = CONTRACTS) -> int:
    """Write the next version of a message, where its change is allowed."""
    console = Console()
    types = _types([name], console)
    if types is None:
        return MISUSED
    [message_type] = types
    try:
        written = write_next_version(message_type, folder)
    except NoNewVersion as why:
        console.print(escape(str(why)), soft_wrap=True)
        return FAILED
    number = written[0].stem
    for file in written:
        console.print(f"Wrote {escape(str(file))}", soft_wrap=True, highlight=False)
    console.print(
        f"Now give what is new a telling value in the sample, set schema={number} for {name} in"
        " contracts/registry.py, and run `python -m contracts`.",
        soft_wrap=True,
    )
    return 0


def _types(names: Sequence[str], console: Console) -> list[MessageType] | None:
    try:
        return types_named(list(names))
    except KeyError as unknown:
        console.print(f"There is no message {escape(str(unknown))}; see docs/events.md.")
        return None


def _tell(console: Console, found: Comparison) -> None:
    name = found.message_type.name
    since = f"since version {found.released}" if found.released else "never released"
    console.print(f"[bold]{name}[/] {since}: {found.change}", highlight=False)
    for field in found.added:
        console.print(f"  + {escape(field)}", highlight=False)
    for number, reason in found.why:
        console.print(
            f"  [red]![/] {escape(reason)} (version {number})", highlight=False, soft_wrap=True
        )
    if advice := _NEXT.get(found.change):
        console.print(f"  {advice.format(name)}", soft_wrap=True, highlight=False)
