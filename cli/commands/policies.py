"""Revisions of the privacy policy: `keepword policies`."""

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from cli.commands.options import By, DryRun, group_of


def draft_policy(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The whole text, in Markdown.")],
    *,
    summary: Annotated[
        str, typer.Option("--summary", metavar="TEXT", help="What it changes, in English.")
    ],
    summary_de: Annotated[
        str, typer.Option("--summary-de", metavar="TEXT", help="What it changes, in German.")
    ],
    effective: Annotated[
        datetime,
        typer.Option(
            "--effective", metavar="DAY", formats=["%Y-%m-%d"], help="From when on, as 2027-01-31."
        ),
    ],
    by: By,
    early_because: Annotated[
        str | None,
        typer.Option(
            "--early-because", metavar="TEXT", help="Why the notice is shorter; it is published."
        ),
    ] = None,
) -> None:
    """Draft the next revision of the policy, for a second person to read and approve.

    It is published 30 days before its day (KEEPWORD_POLICY_NOTICE_DAYS), or says why not. Reads
    notifier's database at KEEPWORD_NOTIFIER_DATABASE_URL, or, in notifier's own pod, at
    KEEPWORD_DATABASE_URL. So do the commands beside this one. Exit status 1 where it is refused.

    Example: `keepword policies draft policy.md --summary "Tickets go sooner." --summary-de "Tickets gehen früher." --effective 2027-03-01 --by Kim`
    """
    from cli.policies import run_draft  # noqa: PLC0415 - help comes at once without it

    raise typer.Exit(
        run_draft(
            file,
            summary=summary,
            summary_de=summary_de,
            effective=effective,
            early_because=early_because,
            by=by,
        )
    )


Which = Annotated[
    str, typer.Argument(metavar="WHICH", help="A revision, as 3, or a draft, as draft-7.")
]


def show_policy(which: Which) -> None:
    """Show a revision or a draft of the policy, word for word.

    Example: `keepword policies show draft-7`

    Exit status 1 where there is no such one.
    """
    from cli.policies import run_show  # noqa: PLC0415 - help comes at once without it

    raise typer.Exit(run_show(which))


def diff_policies(earlier: Which, later: Which) -> None:
    """Show what is different between two revisions or drafts, word by word.

    Example: `keepword policies diff 2 draft-7`

    Exit status 1 where there is no such one.
    """
    from cli.policies import run_diff  # noqa: PLC0415 - help comes at once without it

    raise typer.Exit(run_diff(earlier, later))


def approve_policy(
    draft: Annotated[
        int, typer.Argument(metavar="DRAFT", min=1, max=2**31 - 1, help="The draft's number.")
    ],
    by: By,
    dry_run: DryRun = False,
) -> None:
    """Publish a draft that somebody else wrote, as the next revision, and tell every contact.

    First read it (show), and what it changes (diff). It cannot be taken back, only followed by
    another revision. Exit status 1 where it is refused.

    Example: `keepword policies approve 7 --by Lee --dry-run`
    """
    from cli.policies import run_approve  # noqa: PLC0415 - help comes at once without it

    raise typer.Exit(run_approve(draft, by=by, dry_run=dry_run))


def list_policies() -> None:
    """Show the revisions of the policy, and the drafts that may still become one.

    Exit status 1 where the database refuses.
    """
    from cli.policies import run_list  # noqa: PLC0415 - help comes at once without it

    raise typer.Exit(run_list())


def policy_coverage(
    number: Annotated[int, typer.Argument(metavar="NUMBER", min=1, max=2**31 - 1, help="Which.")],
) -> None:
    """Show how many contacts were told of a revision, and by keyed hash who was not.

    Example: `keepword policies coverage 3`

    Exit status 1 where there is no such revision.
    """
    from cli.policies import run_coverage  # noqa: PLC0415 - help comes at once without it

    raise typer.Exit(run_coverage(number))


def group() -> typer.Typer:
    """Put the group together."""
    return group_of(
        "Revisions of the privacy policy: one person drafts, a second approves, all are told.",
        {
            "draft": draft_policy,
            "show": show_policy,
            "diff": diff_policies,
            "approve": approve_policy,
            "list": list_policies,
            "coverage": policy_coverage,
        },
    )
