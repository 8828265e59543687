"""The `keepword` command."""

from collections.abc import Callable, Mapping
from typing import Final

import typer

from cli.commands import (
    access,
    audit,
    contracts,
    dead_letters,
    events,
    keys,
    mail,
    people,
    policies,
    privacy,
    purges,
    receipts,
    stack,
    staff,
    tenants,
    tickets,
    topics,
)
from cli.statuses import MEANINGS

HELP = f"""Keeps the word that a vendor gives its customers about their data.

Each command says with `--help` what it reads and gives an example. `--dry-run` shows what would
follow and changes nothing; `keepword --install-completion` teaches your shell the commands.

Exit status: {", ".join(f"{status} when {meaning}" for status, meaning in MEANINGS.items())}.
"""


def main() -> None:
    """Run the command line; ends the process with the exit status that the help names."""
    command_line()()


GROUPS: Final[Mapping[str, Callable[[], typer.Typer]]] = {
    "receipts": receipts.group,
    "access": access.group,
    "audit": audit.group,
    "staff": staff.group,
    "tenants": tenants.group,
    "privacy": privacy.group,
    "keys": keys.group,
    "mail": mail.group,
    "tickets": tickets.group,
    "people": people.group,
    "policies": policies.group,
    "purges": purges.group,
    "events": events.group,
    "dead-letters": dead_letters.group,
    "topics": topics.group,
    "contracts": contracts.group,
}


def command_line() -> typer.Typer:
    """Build the command with its subcommands."""
    app = typer.Typer(
        name="keepword",
        help=HELP,
        no_args_is_help=True,
        rich_markup_mode="markdown",
        # A traceback with values in it could show a password.
        pretty_exceptions_show_locals=False,
    )
    stack.add_to(app)
    for name, group in GROUPS.items():
        app.add_typer(group(), name=name)
    return app
