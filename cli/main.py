"""The `keepword` command."""

from pathlib import Path
from typing import Annotated

import typer

HELP = """Keeps the word that a vendor gives its customers about their data.

Exit status: 0 when all went well, 1 when something failed or did not verify, 2 when the command
line or the environment makes no sense, 130 when it was interrupted before it was done.
"""

State = Annotated[
    Path | None,
    typer.Option(
        "--state",
        metavar="DIR",
        help="Where data, keys and logs are kept. [default: $KEEPWORD_STATE_DIR, else .state]",
    ),
]
Containers = Annotated[
    bool,
    typer.Option("--containers", help="Kafka and PostgreSQL in Docker, forgotten in the end."),
]


def main() -> None:
    """Run the command line; ends the process with the exit status that the help names."""
    command_line()()


def command_line() -> typer.Typer:
    """Build the command with its subcommands."""
    app = typer.Typer(
        name="keepword",
        help=HELP,
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode="markdown",
        # A traceback with values in it could show a password.
        pretty_exceptions_show_locals=False,
    )
    app.command("up")(up)
    app.command("demo")(demo)
    app.command("migrate")(migrate)
    app.command("version")(version)
    receipts = typer.Typer(
        help="Receipts of erasure, as anyone can check them.",
        no_args_is_help=True,
        rich_markup_mode="markdown",
    )
    receipts.command("verify")(verify_receipt)
    app.add_typer(receipts, name="receipts")
    return app


# What a command needs is imported when it runs: help and version come at once.


def up(
    state: State = None,
    reset: Annotated[bool, typer.Option("--reset", help="Forget everything first.")] = False,
    containers: Containers = False,
) -> None:
    """Run everything on this machine until Ctrl-C: Kafka, PostgreSQL, stand-ins, services.

    Nothing has to be installed. Where KAFKA_BOOTSTRAP_SERVERS or the five database URLs of a
    service are set (KEEPWORD_PURGER_DATABASE_URL and so on), those are used.
    Ctrl-C stops all of it, and the exit status is 0; it is 1 when a part of it ends by itself.
    """
    from cli.up import run_up  # noqa: PLC0415 - see above

    raise typer.Exit(run_up(state, reset=reset, containers=containers))


def demo(
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave data and logs behind, and say where.")
    ] = False,
    containers: Containers = False,
) -> None:
    """Show the way of a customer's data from install to receipt, in under a minute.

    A stack of its own is started on a folder of its own. Exit status 1 when any of the promises
    checked at the end is not kept.
    """
    from cli.demo import run_demo  # noqa: PLC0415 - see above

    raise typer.Exit(run_demo(keep=keep, containers=containers))


def migrate(
    services: Annotated[
        list[str] | None, typer.Argument(metavar="[SERVICE]...", help="Only these services.")
    ] = None,
) -> None:
    """Bring the databases of the services to their present shape.

    Reads the owner's URL of each from the environment: KEEPWORD_INSTALLER_OWNER_DATABASE_URL,
    likewise CONFIG, PURGER, NOTIFIER. Without names every service whose URL is set is migrated.
    May be run again at any time.
    """
    from cli.migrate import run_migrate  # noqa: PLC0415 - see above

    raise typer.Exit(run_migrate(services or []))


def verify_receipt(
    code: Annotated[
        str | None, typer.Argument(help="The receipt's code, as the mail says it.")
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option("--file", metavar="F", help="Entries as purger gave them, in JSON."),
    ] = None,
    public_key: Annotated[
        Path | None,
        typer.Option("--public-key", metavar="F", help="The ledger's public key, in PEM."),
    ] = None,
    purger: Annotated[
        str | None,
        typer.Option(
            "--purger",
            metavar="URL",
            envvar="KEEPWORD_PURGER_PUBLIC_URL",
            help="Where purger is. [default: that of the running `keepword up`]",
        ),
    ] = None,
    state: State = None,
) -> None:
    """Check that a receipt is genuine, that it was not changed, and what it says.

    With a CODE, the receipt and the whole ledger are fetched from purger, and the receipt must
    stand in its unbroken chain. With --file and --public-key, nothing is fetched at all. Take the
    key from where you trust it: purger's own proves only that purger agrees with itself.
    Exit status 1 when it does not verify.
    """
    from cli.receipts import run_verify  # noqa: PLC0415 - see above

    raise typer.Exit(
        run_verify(code, file=file, public_key=public_key, purger_url=purger, state=state)
    )


def version() -> None:
    """Say which version this is."""
    from importlib.metadata import version as version_of  # noqa: PLC0415 - see above

    typer.echo(f"keepword {version_of('keepword')}")
