"""Records that a service gave up: `keepword dead-letters`."""

from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer

from cli.commands.options import By, DryRun, Service, group_of, services

LetterId = Annotated[UUID, typer.Argument(metavar="LETTER", help="The letter's id.")]


Letters = Annotated[
    str, typer.Argument(metavar="LETTER|GROUP", help="A letter's id, or a group of one cause.")
]


WhyKept = Annotated[
    str,
    typer.Option("--reason", metavar="TEXT", help="Why; it is kept. A ticket's number, no names."),
]


def list_dead_letters(
    services: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SERVICE]...", help="Only these services.", autocompletion=services
        ),
    ] = None,
    *,
    group: Annotated[
        str | None, typer.Option("--group", metavar="GROUP", help="The letters of one cause.")
    ] = None,
) -> None:
    """Show what services gave up, by cause: those that wait longest first.

    A table at a terminal, JSON lines in a pipe. Reads the databases that the environment names:
    KEEPWORD_INSTALLER_DATABASE_URL, likewise CONFIG, PURGER, NOTIFIER; a service's own pod has its
    own at KEEPWORD_DATABASE_URL. So do the commands beside this one.

    Example: `keepword dead-letters list config --group 3f9a1c0de4b85a67`
    """
    from cli.dead_letters import run_list  # noqa: PLC0415 - help comes at once without it

    raise typer.Exit(run_list(services or [], group=group))


def show_dead_letter(
    service: Service,
    letter: LetterId,
    *,
    body: Annotated[
        bool, typer.Option("--body", help="The body alone, to mend it in a file.")
    ] = False,
) -> None:
    """Show one letter: where it came from, why it was given up, what was done, what it says.

    Example: `keepword dead-letters show config LETTER --body > body.json`

    Exit status 1 where there is no such letter.
    """
    from cli.dead_letters import run_show  # noqa: PLC0415 - help comes at once without it

    raise typer.Exit(run_show(service, letter, body_only=body))


def edit_dead_letter(
    service: Service,
    letter: LetterId,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The mended body, in JSON.")],
    *,
    by: By,
    reason: WhyKept,
    dry_run: DryRun = False,
) -> None:
    """Keep a mended body as the letter's next version; the original stays as it came.

    It has to be readable as what it is, and about the same tenant, purge and step. Nothing is
    tried yet: that is `redrive`. A state is not edited; its owner restates it.
    Exit status 1 where it is refused.

    Example: `keepword dead-letters edit config LETTER body.json --by Kim --reason OPS-7`
    """
    from cli.dead_letters import run_edit  # noqa: PLC0415 - help comes at once without it

    raise typer.Exit(run_edit(service, letter, file, by=by, reason=reason, dry_run=dry_run))


def redrive_dead_letters(
    service: Service, which: Letters, by: By, reason: WhyKept, dry_run: DryRun = False
) -> None:
    """Have a letter, or all open ones of a group, tried again by the running service.

    As if it had just come: an event that was handled meanwhile is dropped, and nothing of an erased
    tenant is written. Waits some seconds for what becomes of it. What is parked behind a command
    follows by itself.

    Example: `keepword dead-letters redrive config 3f9a1c0de4b85a67 --by Kim --reason OPS-7`

    Exit status 1 where it is refused, fails again, or the service does not run.
    """
    from cli.dead_letters import run_redrive  # noqa: PLC0415 - help comes at once without it

    raise typer.Exit(run_redrive(service, which, by=by, reason=reason, dry_run=dry_run))


def discard_dead_letters(
    service: Service, which: Letters, by: By, reason: WhyKept, dry_run: DryRun = False
) -> None:
    """Put a letter, or a group, aside for good; what waited behind it goes on.

    It stays to be seen until its 30 days are over, and is never tried again.
    Exit status 1 where it is refused.

    Example: `keepword dead-letters discard config LETTER --by Kim --reason OPS-7 --dry-run`
    """
    from cli.dead_letters import run_discard  # noqa: PLC0415 - help comes at once without it

    raise typer.Exit(run_discard(service, which, by=by, reason=reason, dry_run=dry_run))


def group() -> typer.Typer:
    """Put the group together."""
    return group_of(
        "Records that a service gave up: look, mend, try again, put aside.",
        {
            "list": list_dead_letters,
            "show": show_dead_letter,
            "edit": edit_dead_letter,
            "redrive": redrive_dead_letters,
            "discard": discard_dead_letters,
        },
    )
