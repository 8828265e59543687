"""Topics and permissions on the broker: `keepword topics`."""

from typing import Annotated

import typer

from cli.commands.options import DryRun, group_of


def plan_topics() -> None:
    """Show which topics, settings and permissions are not as the contracts say; change nothing.

    A table at a terminal, JSON lines in a pipe. Kafka is the one at KAFKA_BOOTSTRAP_SERVERS, or as
    a service has it: KEEPWORD_KAFKA_BOOTSTRAP_SERVERS, ..._USERNAME, ..._PASSWORD, ..._CA_FILE. The
    user has to be allowed to describe topics, their settings, and permissions.

    Exit status 3 where something is not as agreed, so that a pipeline stops there. Exit status 1
    where the broker is away or refuses.
    """
    from cli.topics import run_plan  # noqa: PLC0415 - help comes at once without it

    raise typer.Exit(run_plan())


def apply_topics(
    confirm: Annotated[
        int | None,
        typer.Option(
            "--confirm",
            metavar="N",
            min=0,
            help="How many steps to confirm the plan shows. [default: asked for at a terminal]",
        ),
    ] = None,
    *,
    dry_run: DryRun = False,
) -> None:
    """Make topics, settings and permissions as the contracts say, as far as that harms nobody.

    What loses records that are there now, or the order of a key, is done only where you say how
    many such steps you have seen. Never done: fewer partitions, more of a state or of the ledger
    (its old records would stay for ever), taking a topic or a permission away.

    Example: `keepword topics apply --confirm 1`

    Exit status 3 where something is still not as agreed. Exit status 1 where the broker refuses.
    """
    from cli.topics import run_apply  # noqa: PLC0415 - help comes at once without it

    raise typer.Exit(run_apply(confirmed=confirm, dry_run=dry_run))


def group() -> typer.Typer:
    """Put the group together."""
    return group_of(
        "Topics and permissions on the broker, against those of the contracts.",
        {"plan": plan_topics, "apply": apply_topics},
    )
