"""All services together, on this machine or where the environment says."""

from typing import Annotated
from uuid import UUID

import typer

from cli.commands.options import DryRun, Service, State, services

Containers = Annotated[
    bool,
    typer.Option("--containers", help="Kafka and PostgreSQL in Docker, forgotten in the end."),
]


def up(
    state: State = None,
    reset: Annotated[bool, typer.Option("--reset", help="Forget everything first.")] = False,
    containers: Containers = False,
    dry_run: DryRun = False,
) -> None:
    """Run everything on this machine until Ctrl-C: Kafka, PostgreSQL, stand-ins, services.

    Nothing has to be installed. Where KAFKA_BOOTSTRAP_SERVERS or the five database URLs of a
    service are set (KEEPWORD_PURGER_DATABASE_URL and so on), those are used.
    Ctrl-C stops all of it, and the exit status is 0.

    Example: `keepword up --reset`

    Exit status 1 when a part of it ends by itself.
    """
    from cli.up import run_up  # noqa: PLC0415 - help comes at once without it

    raise typer.Exit(run_up(state, reset=reset, containers=containers, dry_run=dry_run))


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
    from cli.demo import run_demo  # noqa: PLC0415 - help comes at once without it

    raise typer.Exit(run_demo(keep=keep, containers=containers))


def migrate(
    services: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SERVICE]...", help="Only these services.", autocompletion=services
        ),
    ] = None,
    *,
    dry_run: DryRun = False,
) -> None:
    """Bring the databases of the services to their present shape.

    Reads the owner's URL of each from the environment: KEEPWORD_INSTALLER_OWNER_DATABASE_URL,
    likewise CONFIG, PURGER, NOTIFIER. Without names every service whose URL is set is migrated.
    May be run again at any time.

    Example: `keepword migrate config --dry-run`

    Exit status 1 where a database refuses.
    """
    from cli.migrate import run_migrate  # noqa: PLC0415 - help comes at once without it

    raise typer.Exit(run_migrate(services or [], dry_run=dry_run))


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Findings for programs.")] = False,
    state: State = None,
) -> None:
    """Look whether everything is as the data maps and the contracts want it; change nothing.

    Databases and their roles' rights, migrations, planted rows, topics, the ledger's chain, clocks,
    key files, and whether stores outside forget within the residue. What the environment names is
    looked at (the URLs of `keepword migrate` and of the other roles, KAFKA_BOOTSTRAP_SERVERS, the
    services' own variables); where it names nothing, the running `keepword up`.
    Exit status 1 when a check failed; warnings alone are 0.

    Example: `keepword doctor --json`
    """
    from cli.doctor import run_doctor  # noqa: PLC0415 - help comes at once without it

    raise typer.Exit(run_doctor(as_json=as_json, state=state))


def restored(service: Service, dry_run: DryRun = False) -> None:
    """Tell a service that its database came back from an older copy, where it cannot notice.

    It notices by itself when the copy was restored into another cluster. After a copy of the disk,
    or where you are in doubt: stop all its replicas, run this, start them. Reads the worker's URL
    from the environment: KEEPWORD_INSTALLER_WORKER_DATABASE_URL, likewise CONFIG, PURGER, NOTIFIER.

    Example: `keepword restored purger`

    Exit status 1 where the service runs on it, or the database refuses.
    """
    from cli.restored import run_restored  # noqa: PLC0415 - help comes at once without it

    raise typer.Exit(run_restored(service, dry_run=dry_run))


def trace(
    tenant_id: Annotated[UUID, typer.Argument(metavar="TENANT", help="The tenant's id.")],
) -> None:
    """Tell the whole story of a tenant over all services, as one timeline, without naming anybody.

    What was heard and said, handled, given up, planned, erased; mails as counts; that a person
    decided something, not who or why. A table at a terminal, JSON lines in a pipe. Reads each
    database that is named: KEEPWORD_INSTALLER_DATABASE_URL, likewise CONFIG, PURGER, NOTIFIER.

    Example: `keepword trace TENANT | jq -c 'select(.service == "purger")'`

    Exit status 1 where nothing is known of it, or a database could not be looked into.
    """
    from cli.trace import run_trace  # noqa: PLC0415 - help comes at once without it

    raise typer.Exit(run_trace(tenant_id))


def version() -> None:
    """Say which version this is."""
    from importlib.metadata import version as version_of  # noqa: PLC0415 - help comes at once without it

    typer.echo(f"keepword {version_of('keepword')}")


def add_to(app: typer.Typer) -> None:
    """Give these commands to the program itself."""
    app.command("up")(up)
    app.command("demo")(demo)
    app.command("migrate")(migrate)
    app.command("doctor")(doctor)
    app.command("restored")(restored)
    app.command("trace")(trace)
    app.command("version")(version)
