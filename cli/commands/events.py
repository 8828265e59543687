"""What services said: `keepword events`."""

from functools import partial
from typing import Annotated
from uuid import UUID

import typer

from cli.commands.options import DryRun, Service, group_of

OfTenant = Annotated[
    UUID | None, typer.Option("--tenant", metavar="TENANT", help="Only about this tenant.")
]


OfTypes = Annotated[
    list[str] | None,
    typer.Option("--type", metavar="TYPE", help="Only this type, as tenant-installed. Repeatable."),
]


Since = Annotated[
    str | None,
    typer.Option(
        "--since",
        metavar="TIME",
        help="Said from then on: 2026-11-02T09:30Z, or 30m, 12h, 90d ago.",
    ),
]


Until = Annotated[str | None, typer.Option("--until", metavar="TIME", help="Said before then.")]


OfTrace = Annotated[
    str | None, typer.Option("--trace", metavar="TRACE", help="Only of this trace.")
]


OfServices = Annotated[
    list[str] | None,
    typer.Option(
        "--service", metavar="SERVICE", help="Whose outbox. [default: all that are named]"
    ),
]


Source = Annotated[
    str, typer.Option("--from", metavar="SOURCE", help="outbox (150 days) or topic (30 days).")
]


def tail_events(
    tenant: OfTenant = None,
    types: OfTypes = None,
    since: Since = None,
    trace: OfTrace = None,
    count: Annotated[
        int | None, typer.Option("--count", metavar="N", min=1, help="End after so many.")
    ] = None,
) -> None:
    """Show messages as they come into Kafka, until Ctrl-C; lines of JSON where it is piped.

    Reads KAFKA_BOOTSTRAP_SERVERS, or in a pod what its service has; where neither is set, the
    running `keepword up`. Nobody's position is moved. So do the commands beside this one.
    Exit status 1 where Kafka goes away.

    Example: `keepword events tail --tenant TENANT --since 2h`
    """
    from cli.events.look import run_tail  # noqa: PLC0415 - help comes at once without it
    from cli.events.questions import wanted  # noqa: PLC0415 - help comes at once without it

    asked = partial(wanted, tenant=tenant, types=types or (), since=since, until=None, trace=trace)
    raise typer.Exit(run_tail(asked, count=count))


def find_events(
    *,
    tenant: OfTenant = None,
    types: OfTypes = None,
    since: Since = None,
    until: Until = None,
    trace: OfTrace = None,
    source: Source = "outbox",
    services: OfServices = None,
    limit: Annotated[
        int, typer.Option("--limit", metavar="N", min=1, max=100_000, help="The last so many.")
    ] = 100,
) -> None:
    """Show the last messages that fit, the oldest first; lines of JSON where it is piped.

    Of the last day, unless a tenant or a time is given. Outboxes are read at
    KEEPWORD_INSTALLER_DATABASE_URL, likewise CONFIG, PURGER and NOTIFIER, all that are set.
    Exit status 1 where nothing fits.

    Example: `keepword events find --type tenant-uninstalled --since 7d --service installer`
    """
    from cli.events.look import run_find  # noqa: PLC0415 - help comes at once without it
    from cli.events.questions import wanted  # noqa: PLC0415 - help comes at once without it

    asked = partial(wanted, tenant=tenant, types=types or (), since=since, until=until, trace=trace)
    raise typer.Exit(run_find(asked, source=source, services=services or (), limit=limit))


def show_event(
    ce_id: Annotated[UUID, typer.Argument(metavar="ID", help="The message's id.")],
    source: Source = "outbox",
    services: OfServices = None,
) -> None:
    """Show one message as JSON: its envelope, where it lies, and its body as far as it may be seen.

    Exit status 1 where there is none of this id.

    Example: `keepword events show ID --from topic`
    """
    from cli.events.look import run_show  # noqa: PLC0415 - help comes at once without it

    raise typer.Exit(run_show(ce_id, source=source, services=services or ()))


Confirm = Annotated[
    str | None,
    typer.Option("--confirm", metavar="WORD", help="What you would type, for a script."),
]


def restate_events(
    service: Annotated[
        str | None, typer.Argument(metavar="[SERVICE]", help="Only this owner of state.")
    ] = None,
    tenants: Annotated[
        list[UUID] | None,
        typer.Option("--tenant", metavar="TENANT", help="Only of this tenant. Repeatable."),
    ] = None,
) -> None:
    """Let the owners of state say all of it again, so that whoever follows it can be built anew.

    Of tenants the installer does, and purger of their purges; notifier of revisions and of who is
    not written to. Without a name all owners do whose databases are named, as for `find`. Harmless:
    what is known already is known by its version. Exit status 1 where a tenant is unknown.

    Example: `keepword events restate installer --tenant TENANT`
    """
    from cli.events.rebuild import run_restate  # noqa: PLC0415 - help comes at once without it

    raise typer.Exit(run_restate(service, tenants=tenants or ()))


def rebuild_events(service: Service, dry_run: DryRun = False, confirm: Confirm = None) -> None:
    """Let a service forget what it has built from others' states, and read these again.

    Stop all its replicas first, start them afterwards. Which tables these are stands in its data
    map; what it owns itself stays. Exit status 1 where it runs, or you do not confirm.

    Example: `keepword events rebuild purger --dry-run`
    """
    from cli.events.rebuild import run_rebuild  # noqa: PLC0415 - help comes at once without it

    raise typer.Exit(run_rebuild(service, dry_run=dry_run, confirmed=confirm))


def replay_events(
    *,
    to: Annotated[
        str, typer.Option("--to", metavar="SERVICE[.HANDLER]", help="Who is to hear it again.")
    ],
    tenant: OfTenant = None,
    types: OfTypes = None,
    since: Since = None,
    until: Until = None,
    source: Source = "outbox",
    dry_run: DryRun = False,
    force: Annotated[
        bool, typer.Option("--force", help="Handle it again although it was handled.")
    ] = False,
    reason: Annotated[
        str, typer.Option("--reason", metavar="TEXT", help="Why; it is kept. A ticket, no names.")
    ] = "",
    by: Annotated[
        str, typer.Option("--by", metavar="NAME", help="Who decides this; it is kept.")
    ] = "",
    rate: Annotated[
        int, typer.Option("--rate", metavar="N", min=1, help="At most so many a second.")
    ] = 2_000,
    resume: Annotated[
        UUID | None, typer.Option("--resume", metavar="ID", help="Go on with a paused replay.")
    ] = None,
    confirm: Confirm = None,
) -> None:
    """Let one service hear again what others have said; nobody else hears it.

    First a plan is shown, and sent once you type how many messages it is about. What the service
    has handled its inbox drops, unless with --force, which is refused for handlers that write to
    people. State is never replayed but restated; with --force the service forgets before what it
    has built from it. Nothing is heard again about a tenant that is purged. Ctrl-C pauses.
    Databases and Kafka are read as for `find`; write as the service itself, or an administrator.
    Exit status 1 where you do not confirm, or it was paused before its end.

    Example: `keepword events replay --to config --since 12h --reason OPS-7 --by Kim --dry-run`
    """
    from cli.events.replay import Asked, run_replay  # noqa: PLC0415 - help comes at once without it

    asked = Asked(
        to=to,
        tenant=tenant,
        types=types or (),
        since=since,
        until=until,
        source=source,
        force=force,
        dry_run=dry_run,
        reason=reason,
        by=by,
        confirmed=confirm,
        rate=rate,
        resume=resume,
    )
    raise typer.Exit(run_replay(asked))


def list_replays(service: Service) -> None:
    """Show the last replays to a service: who decided them, why, and how far they came.

    Exit status 1 where its database cannot be read.

    Example: `keepword events replays config`
    """
    from cli.events.replay import run_replays  # noqa: PLC0415 - help comes at once without it

    raise typer.Exit(run_replays(service))


def group() -> typer.Typer:
    """Put the group together."""
    return group_of(
        "What services said: look at it, and let one of them say or hear it again.",
        {
            "tail": tail_events,
            "find": find_events,
            "show": show_event,
            "restate": restate_events,
            "rebuild": rebuild_events,
            "replay": replay_events,
            "replays": list_replays,
        },
    )
