"""A person's request about their own data: `keepword people`."""

from datetime import datetime
from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer

from cli.commands.options import ControllerFile, DryRun, group_of

Answered = Annotated[
    UUID | None,
    typer.Option("--request", metavar="REFERENCE", help="The request that this answers, if noted."),
]


InRole = Annotated[
    str, typer.Option("--by", metavar="ROLE", help="In which role: privacy or support; it is kept.")
]


def list_requests() -> None:
    """Show the requests that wait for our staff, those that are due first.

    Who asks by the page /privacy/request answers themselves, by the link that they are mailed.
    Reads notifier's database at KEEPWORD_NOTIFIER_DATABASE_URL, or, in notifier's own pod, at
    KEEPWORD_DATABASE_URL. So do the commands beside this one, which read the person's address from
    standard input, and the keys at KEEPWORD_NOTIFIER_KEY_ENCRYPTION_KEYS_FILE.
    """
    from cli.people import run_requests  # noqa: PLC0415 - help comes at once without it

    raise typer.Exit(run_requests())


def note_request(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="access or erasure.")],
    *,
    received_on: Annotated[
        datetime | None,
        typer.Option("--received-on", formats=["%Y-%m-%d"], help="When it came. [default: today]"),
    ] = None,
) -> None:
    """Note a request that came by letter, ticket or telephone, without its address.

    It is due a month after it came, and counts as overdue then.

    Example: `keepword people note access --received-on 2027-01-31`

    Exit status 1 where the database refuses.
    """
    from cli.people import run_note  # noqa: PLC0415 - help comes at once without it

    raise typer.Exit(run_note(kind, received_on=received_on))


def find_person() -> None:
    """Show how much is kept of a person, over all tenants; names nobody.

    Example: `keepword people find < address.txt`

    Exit status 1 where the keys or the database cannot be used.
    """
    from cli.people import run_find  # noqa: PLC0415 - help comes at once without it

    raise typer.Exit(run_find())


def export_person(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where the two files go.")],
    *,
    by: InRole,
    request: Answered = None,
    controller: ControllerFile = None,
) -> None:
    """Write all that is kept of a person, as JSON and as PDF, and note the request as answered.

    Be sure who asks: whoever gets the files reads another's data otherwise.

    Example: `keepword people export folder --by privacy --request REFERENCE < address.txt`

    Exit status 1 where nothing is kept, or it is refused.
    """
    from cli.people import run_export  # noqa: PLC0415 - help comes at once without it

    raise typer.Exit(run_export(folder, by=by, request_id=request, controller=controller))


def erase_person(*, by: InRole, request: Answered = None, dry_run: DryRun = False) -> None:
    """Forget a person in every tenant, never write to them again, and note the request as answered.

    It cannot be undone. A restore brings nobody back for longer than a minute.

    Example: `keepword people erase --by privacy --dry-run < address.txt`

    Exit status 1 where it is refused.
    """
    from cli.people import run_erase  # noqa: PLC0415 - help comes at once without it

    raise typer.Exit(run_erase(by=by, request_id=request, dry_run=dry_run))


def group() -> typer.Typer:
    """Put the group together."""
    return group_of(
        "A person's request about their own data: found by address, exported, erased.",
        {
            "requests": list_requests,
            "note": note_request,
            "find": find_person,
            "export": export_person,
            "erase": erase_person,
        },
    )
