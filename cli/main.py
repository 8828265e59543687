"""The `keepword` command."""

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer

from cli.statuses import MEANINGS

HELP = f"""Keeps the word that a vendor gives its customers about their data.

Each command says with `--help` what it reads and gives an example. `--dry-run` shows what would
follow and changes nothing; `keepword --install-completion` teaches your shell the commands.

Exit status: {", ".join(f"{status} when {meaning}" for status, meaning in MEANINGS.items())}.
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

ControllerFile = Annotated[
    Path | None,
    typer.Option(
        "--controller",
        metavar="FILE",
        help="Who answers for the data, in TOML. [default: docs/controller.toml]",
    ),
]

By = Annotated[str, typer.Option("--by", metavar="NAME", help="Who decides this; it is kept.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Change nothing, show what would follow.")]


def _services() -> list[str]:
    from contracts.topics import SERVICES  # noqa: PLC0415 - help comes at once without it

    return list(SERVICES)


def main() -> None:
    """Run the command line; ends the process with the exit status that the help names."""
    command_line()()


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
    app.command("up")(up)
    app.command("demo")(demo)
    app.command("migrate")(migrate)
    app.command("doctor")(doctor)
    app.command("restored")(restored)
    app.command("trace")(trace)
    app.command("version")(version)
    for name, group in _groups().items():
        app.add_typer(group, name=name)
    return app


def _groups() -> dict[str, typer.Typer]:
    purges = _group(
        "Purges: which are due, why, what is to come, and the brake.",
        {
            "list": list_purges,
            "explain": explain_purges,
            "forecast": forecast_purges,
            "dry-run": dry_run_purge,
        },
    )
    brake = _group(
        "Hold back every purge that has not begun: one may pull it, two release it.",
        {"pull": pull_brake, "release": release_brake},
    )
    purges.add_typer(brake, name="brake")
    return {
        "receipts": _group(
            "Receipts of erasure, as anyone can check them.", {"verify": verify_receipt}
        ),
        "access": _group(
            "Tenants whose sites refuse us, and a person's word on whether they have left.",
            {"list": list_access, "confirm": confirm_access, "release": release_access},
        ),
        "tenants": _group(
            "Tenants as the installer knows them, and a person's word on imports of sites.",
            {"show": show_tenant, "link": link_tenants},
        ),
        "privacy": _group(
            "What is kept of whom, why and until when.",
            {"record": privacy_record, "table": privacy_table},
        ),
        "keys": _group(
            "Key-encryption keys, under which the tenants' own keys lie.",
            {"rotate": rotate_keys, "retire": retire_keys},
        ),
        "mail": _group(
            "How far campaigns have come, what is in doubt, and letting one go on.",
            {"list": list_mail, "uncertain": list_uncertain_mail, "resume": resume_mail},
        ),
        "tickets": _group(
            "Support tickets that are not erased yet, and a person's word that they are.",
            {"list": list_tickets, "done": attest_tickets},
        ),
        "people": _group(
            "A person's request about their own data: found by address, exported, erased.",
            {
                "requests": list_requests,
                "note": note_request,
                "find": find_person,
                "export": export_person,
                "erase": erase_person,
            },
        ),
        "policies": _group(
            "Revisions of the privacy policy: one person drafts, a second approves, all are told.",
            {
                "draft": draft_policy,
                "show": show_policy,
                "diff": diff_policies,
                "approve": approve_policy,
                "list": list_policies,
                "coverage": policy_coverage,
            },
        ),
        "purges": purges,
        "events": _group(
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
        ),
        "dead-letters": _group(
            "Records that a service gave up: look, mend, try again, put aside.",
            {
                "list": list_dead_letters,
                "show": show_dead_letter,
                "edit": edit_dead_letter,
                "redrive": redrive_dead_letters,
                "discard": discard_dead_letters,
            },
        ),
        "topics": _group(
            "Topics and permissions on the broker, against those of the contracts.",
            {"plan": plan_topics, "apply": apply_topics},
        ),
        "contracts": _group(
            "Messages between services: what has changed since their last release.",
            {"diff": diff_contracts, "new-version": new_contract_version},
        ),
    }


def _group(help_text: str, commands: Mapping[str, Callable[..., None]]) -> typer.Typer:
    group = typer.Typer(help=help_text, no_args_is_help=True, rich_markup_mode="markdown")
    for name, command in commands.items():
        group.command(name)(command)
    return group


# What a command needs is imported when it runs: help and version come at once.


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
    from cli.up import run_up  # noqa: PLC0415 - see above

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
    from cli.demo import run_demo  # noqa: PLC0415 - see above

    raise typer.Exit(run_demo(keep=keep, containers=containers))


def migrate(
    services: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SERVICE]...", help="Only these services.", autocompletion=_services
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
    from cli.migrate import run_migrate  # noqa: PLC0415 - see above

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
    from cli.doctor import run_doctor  # noqa: PLC0415 - see above

    raise typer.Exit(run_doctor(as_json=as_json, state=state))


Service = Annotated[str, typer.Argument(metavar="SERVICE", help="Whose.", autocompletion=_services)]


def restored(service: Service, dry_run: DryRun = False) -> None:
    """Tell a service that its database came back from an older copy, where it cannot notice.

    It notices by itself when the copy was restored into another cluster. After a copy of the disk,
    or where you are in doubt: stop all its replicas, run this, start them. Reads the worker's URL
    from the environment: KEEPWORD_INSTALLER_WORKER_DATABASE_URL, likewise CONFIG, PURGER, NOTIFIER.

    Example: `keepword restored purger`

    Exit status 1 where the service runs on it, or the database refuses.
    """
    from cli.restored import run_restored  # noqa: PLC0415 - see above

    raise typer.Exit(run_restored(service, dry_run=dry_run))


def rotate_keys(service: Service, dry_run: DryRun = False) -> None:
    """Give a service a new current key-encryption key, as is due every month.

    Changes the file that KEEPWORD_CONFIG_KEY_ENCRYPTION_KEYS_FILE names, likewise INSTALLER and
    NOTIFIER; running services read it again by themselves, and wrap the tenants' keys anew.

    Example: `keepword keys rotate config`

    Exit status 1 where the file cannot be read or written.
    """
    from cli.keys import run_rotate  # noqa: PLC0415 - see above

    raise typer.Exit(run_rotate(service, dry_run=dry_run))


def retire_keys(service: Service, dry_run: DryRun = False) -> None:
    """Destroy a service's old key-encryption keys that nobody needs any more; run it every day.

    A key goes when no tenant's key lies under it and the copies of before are gone, which takes
    KEEPWORD_BACKUP_RETENTION_DAYS from the run that first finds it unused. Besides the file it
    needs the worker's URL, KEEPWORD_CONFIG_WORKER_DATABASE_URL and likewise.

    Example: `keepword keys retire config --dry-run`

    Exit status 1 where the file or the database cannot be used.
    """
    from cli.keys import run_retire  # noqa: PLC0415 - see above

    raise typer.Exit(run_retire(service, dry_run=dry_run))


def verify_receipt(
    code: Annotated[
        str | None, typer.Argument(help="The receipt's code, as the mail says it.")
    ] = None,
    *,
    file: Annotated[
        Path | None,
        typer.Option("--file", metavar="F", help="Entries as purger gave them, in JSON."),
    ] = None,
    public_key: Annotated[
        Path | None,
        typer.Option("--public-key", metavar="F", help="The ledger's public keys, in PEM."),
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
    checkpoints: Annotated[
        Path | None,
        typer.Option(
            "--checkpoints",
            metavar="F",
            envvar="KEEPWORD_CHECKPOINT_FILE",
            help="How far the ledger had come at times, as purger noted it outside its database.",
        ),
    ] = None,
    state: State = None,
) -> None:
    """Check that a receipt is genuine, that it was not changed, and what it says.

    With a CODE, the receipt and the whole ledger are fetched from purger, and the receipt must
    stand in its unbroken chain. With --checkpoints that chain must also have each entry that was
    noted: only so is it seen that its end was cut off, or all of it written anew. With --file and --public-key, nothing is fetched at all. Take the
    key from where you trust it: purger's own proves only that purger agrees with itself.
    Exit status 1 when it does not verify.

    Example: `keepword receipts verify q3PmX0aVtR7cKd2E --checkpoints checkpoints`
    """
    from cli.receipts import run_verify  # noqa: PLC0415 - see above

    raise typer.Exit(
        run_verify(
            code,
            file=file,
            public_key=public_key,
            purger_url=purger,
            state=state,
            checkpoints=checkpoints,
        )
    )


def list_access() -> None:
    """Show which apps' departures are held, and which installed tenants' sites refuse us.

    Reads the installer's database at KEEPWORD_INSTALLER_DATABASE_URL, or, in the installer's own
    pod, at KEEPWORD_DATABASE_URL. So do the commands beside this one.
    """
    from cli.access import run_list  # noqa: PLC0415 - see above

    raise typer.Exit(run_list())


def confirm_access(
    tenant_id: Annotated[UUID, typer.Argument(metavar="TENANT_ID", help="The tenant.")],
    by: By,
    dry_run: DryRun = False,
) -> None:
    """Note your word that a tenant's site is gone, in place of the licence report's.

    The tenant leaves after three refusals over three days, on the day when it was last seen. If
    the site answers again, your word is forgotten. Exit status 1 where no site refuses us.

    Example: `keepword access confirm TENANT --by Kim`
    """
    from cli.access import run_confirm  # noqa: PLC0415 - see above

    raise typer.Exit(run_confirm(tenant_id, by=by, dry_run=dry_run))


def release_access(
    app: Annotated[str, typer.Argument(metavar="APP", help="The app's key.")],
    by: By,
    dry_run: DryRun = False,
) -> None:
    """Let an app's tenants leave again of which too many were lost at once.

    First make sure that the fault is not ours, nor Atlassian's: does the app still reach sites
    that are there? What was lost until now does not count towards the next hold.
    Exit status 1 where the app is not held.

    Example: `keepword access release com.example.reports --by Kim --dry-run`
    """
    from cli.access import run_release  # noqa: PLC0415 - see above

    raise typer.Exit(run_release(app, by=by, dry_run=dry_run))


def show_tenant(
    tenant_id: Annotated[UUID, typer.Argument(metavar="TENANT", help="The tenant's id.")],
) -> None:
    """Show what the installer knows of a tenant: how it left, its timeline, who replaced it.

    Its host and its client key are shown, as you have the database; its secret never is.
    Reads the installer's database, as `keepword access` does. Exit status 1 where there is no
    such tenant.

    Example: `keepword tenants show TENANT`
    """
    from cli.tenants import run_show  # noqa: PLC0415 - see above

    raise typer.Exit(run_show(tenant_id))


def link_tenants(
    old: Annotated[UUID, typer.Argument(metavar="OLD", help="The tenant that was superseded.")],
    new: Annotated[UUID, typer.Argument(metavar="NEW", help="The tenant that goes on for it.")],
    by: By,
    reason: Annotated[
        str,
        typer.Option(
            "--reason", metavar="TEXT", help="Why; it is kept. A ticket's number, no names."
        ),
    ],
    dry_run: DryRun = False,
) -> None:
    """Let the new tenant of an imported site go on for the old one, whose data moves to it.

    First make sure that both are one customer: an address can change hands, and what has moved
    does not come back. The old tenant is purged at once instead of in months; until that
    begins, its return undoes the link. Exit status 1 where the two may not be linked.

    Example: `keepword tenants link OLD NEW --by Kim --reason OPS-7 --dry-run`
    """
    from cli.tenants import run_link  # noqa: PLC0415 - see above

    raise typer.Exit(run_link(old, new, by=by, reason=reason, dry_run=dry_run))


def privacy_record(
    format_name: Annotated[
        str, typer.Option("--format", metavar="FORMAT", help="md, json or html.")
    ] = "md",
    output: Annotated[
        Path | None,
        typer.Option("--output", metavar="FILE", help="Where to. [default: standard output]"),
    ] = None,
    controller: ControllerFile = None,
) -> None:
    """Write the record of processing (GDPR, Article 30), made of the services' data maps.

    The page in HTML is one file that fetches nothing.

    Example: `keepword privacy record --format html --output record.html`
    """
    from cli.privacy import run_record  # noqa: PLC0415 - see above

    raise typer.Exit(run_record(format_name, output=output, controller=controller))


def privacy_table(controller: ControllerFile = None) -> None:
    """Write how long each store remembers, in Markdown: the table for customers to see."""
    from cli.privacy import run_table  # noqa: PLC0415 - see above

    raise typer.Exit(run_table(controller=controller))


def list_mail() -> None:
    """Show each campaign: kind, state, its deliveries by state, how many a minute.

    Reads notifier's database at KEEPWORD_NOTIFIER_DATABASE_URL, or, in notifier's own pod, at
    KEEPWORD_DATABASE_URL. So do the commands beside this one.
    """
    from cli.mail import run_list  # noqa: PLC0415 - see above

    raise typer.Exit(run_list())


def list_uncertain_mail() -> None:
    """Show the messages of which an attempt ended without anybody knowing how.

    Each is named by its campaign and the beginning of its address's keyed hash, never by an
    address. What is owed to everybody was sent once more, with the same Message-ID; news never.
    """
    from cli.mail import run_uncertain  # noqa: PLC0415 - see above

    raise typer.Exit(run_uncertain())


def resume_mail(
    campaign_id: Annotated[UUID, typer.Argument(metavar="CAMPAIGN_ID", help="The campaign.")],
    dry_run: DryRun = False,
) -> None:
    """Let a paused campaign go on, as after a restore, or when its template is mended.

    What may have gone out before the restore is not sent again. Exit status 1 where it is not
    paused.

    Example: `keepword mail resume CAMPAIGN --dry-run`
    """
    from cli.mail import run_resume  # noqa: PLC0415 - see above

    raise typer.Exit(run_resume(campaign_id, dry_run=dry_run))


def list_tickets() -> None:
    """Show the purges whose support tickets may still be at the service desk, and who is to act.

    Reads notifier's database at KEEPWORD_NOTIFIER_DATABASE_URL, or, in notifier's own pod, at
    KEEPWORD_DATABASE_URL. So does the command beside this one.
    """
    from cli.tickets import run_list  # noqa: PLC0415 - see above

    raise typer.Exit(run_list())


def attest_tickets(
    purge_id: Annotated[UUID, typer.Argument(metavar="PURGE_ID", help="The purge.")],
    by: By,
    evidence: Annotated[
        str,
        typer.Option("--evidence", metavar="TEXT", help="How you know it; kept, so name nobody."),
    ],
    dry_run: DryRun = False,
) -> None:
    """Note your word that no ticket of a purge's licences is left at the service desk.

    Look for them by the licence numbers that the list shows, and leave what another customer's
    licence names too. The receipt says that a person did this step; your name and the evidence
    stay with us for 400 days. Exit status 1 where none of the purge's tickets are open.

    Example: `keepword tickets done PURGE --by Kim --evidence "no issue of SEN-1 in project HELP"`
    """
    from cli.tickets import run_done  # noqa: PLC0415 - see above

    raise typer.Exit(run_done(purge_id, by=by, evidence=evidence, dry_run=dry_run))


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
    from cli.people import run_requests  # noqa: PLC0415 - see above

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
    from cli.people import run_note  # noqa: PLC0415 - see above

    raise typer.Exit(run_note(kind, received_on=received_on))


def find_person() -> None:
    """Show how much is kept of a person, over all tenants; names nobody.

    Example: `keepword people find < address.txt`

    Exit status 1 where the keys or the database cannot be used.
    """
    from cli.people import run_find  # noqa: PLC0415 - see above

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
    from cli.people import run_export  # noqa: PLC0415 - see above

    raise typer.Exit(run_export(folder, by=by, request_id=request, controller=controller))


def erase_person(*, by: InRole, request: Answered = None, dry_run: DryRun = False) -> None:
    """Forget a person in every tenant, never write to them again, and note the request as answered.

    It cannot be undone. A restore brings nobody back for longer than a minute.

    Example: `keepword people erase --by privacy --dry-run < address.txt`

    Exit status 1 where it is refused.
    """
    from cli.people import run_erase  # noqa: PLC0415 - see above

    raise typer.Exit(run_erase(by=by, request_id=request, dry_run=dry_run))


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
    from cli.policies import run_draft  # noqa: PLC0415 - see above

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
    from cli.policies import run_show  # noqa: PLC0415 - see above

    raise typer.Exit(run_show(which))


def diff_policies(earlier: Which, later: Which) -> None:
    """Show what is different between two revisions or drafts, word by word.

    Example: `keepword policies diff 2 draft-7`

    Exit status 1 where there is no such one.
    """
    from cli.policies import run_diff  # noqa: PLC0415 - see above

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
    from cli.policies import run_approve  # noqa: PLC0415 - see above

    raise typer.Exit(run_approve(draft, by=by, dry_run=dry_run))


def list_policies() -> None:
    """Show the revisions of the policy, and the drafts that may still become one.

    Exit status 1 where the database refuses.
    """
    from cli.policies import run_list  # noqa: PLC0415 - see above

    raise typer.Exit(run_list())


def policy_coverage(
    number: Annotated[int, typer.Argument(metavar="NUMBER", min=1, max=2**31 - 1, help="Which.")],
) -> None:
    """Show how many contacts were told of a revision, and by keyed hash who was not.

    Example: `keepword policies coverage 3`

    Exit status 1 where there is no such revision.
    """
    from cli.policies import run_coverage  # noqa: PLC0415 - see above

    raise typer.Exit(run_coverage(number))


def list_purges(
    due: Annotated[
        int | None,
        typer.Option("--due", metavar="DAYS", min=0, help="Only what must be done within so many."),
    ] = None,
) -> None:
    """Show the purges that are not over, the most urgent first, with what is still open.

    Reads purger's database at KEEPWORD_PURGER_DATABASE_URL, or, in purger's own pod, at
    KEEPWORD_DATABASE_URL. So do the commands beside this one.

    Example: `keepword purges list --due 14`
    """
    from cli.purges import run_list  # noqa: PLC0415 - see above

    raise typer.Exit(run_list(due))


def explain_purges(
    tenant_id: Annotated[UUID, typer.Argument(metavar="TENANT", help="The tenant's id.")],
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Say why each purge of a tenant has its dates: clock, event, rule, each sum.

    Exit status 1 where nothing is planned for the tenant.

    Example: `keepword purges explain TENANT`
    """
    from cli.purges import run_explain  # noqa: PLC0415 - see above

    raise typer.Exit(run_explain(tenant_id, as_json=as_json))


def forecast_purges() -> None:
    """Show how many purges start, and how many must be done, in each week of six months."""
    from cli.purges import run_forecast  # noqa: PLC0415 - see above

    raise typer.Exit(run_forecast())


def dry_run_purge(
    tenant_id: Annotated[UUID, typer.Argument(metavar="TENANT", help="The tenant's id.")],
) -> None:
    """Show what an erasure of everything of a tenant would take, and change nothing.

    Looks into each database that is named: KEEPWORD_INSTALLER_DATABASE_URL, likewise CONFIG and
    NOTIFIER, with the conditions of the erasure itself. Services without one are named as not
    looked at. Exit status 1 where a database could not be looked into.

    Example: `keepword purges dry-run TENANT`
    """
    from cli.purges import run_dry_run  # noqa: PLC0415 - see above

    raise typer.Exit(run_dry_run(tenant_id))


def pull_brake(
    by: By,
    reason: Annotated[
        str | None, typer.Option("--reason", metavar="TEXT", help="Why; staff will read it.")
    ] = None,
) -> None:
    """Hold back every purge that has not begun. What is under way goes on.

    Example: `keepword purges brake pull --by Kim --reason "too many at once"`
    """
    from cli.purges import run_brake_pull  # noqa: PLC0415 - see above

    raise typer.Exit(run_brake_pull(by=by, reason=reason))


def release_brake(by: By, dry_run: DryRun = False) -> None:
    """Note that you want purges let through; the second person lets them through.

    The same name twice is one person. Exit status 1 where the brake does not hold.

    Example: `keepword purges brake release --by Lee --dry-run`
    """
    from cli.purges import run_brake_release  # noqa: PLC0415 - see above

    raise typer.Exit(run_brake_release(by=by, dry_run=dry_run))


# -- keepword events ----------------------------------------------------------------------------


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
    <<<<<<< HEAD

    Example: `keepword events tail --tenant TENANT`

    Exit status 1 where Kafka is away or refuses.
    =======
    Exit status 1 where Kafka goes away.

    Example: `keepword events tail --tenant TENANT --since 2h`
    >>>>>>> letters
    """
    from cli.events.look import run_tail  # noqa: PLC0415 - see above
    from cli.events.questions import wanted  # noqa: PLC0415 - see above

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

    <<<<<<< HEAD
    Example: `keepword events find --type data-erased --since 2027-01-31`
    =======
    Example: `keepword events find --type tenant-uninstalled --since 7d --service installer`
    >>>>>>> letters
    """
    from cli.events.look import run_find  # noqa: PLC0415 - see above
    from cli.events.questions import wanted  # noqa: PLC0415 - see above

    asked = partial(wanted, tenant=tenant, types=types or (), since=since, until=until, trace=trace)
    raise typer.Exit(run_find(asked, source=source, services=services or (), limit=limit))


def show_event(
    ce_id: Annotated[UUID, typer.Argument(metavar="ID", help="The message's id.")],
    source: Source = "outbox",
    services: OfServices = None,
) -> None:
    """Show one message as JSON: its envelope, where it lies, and its body as far as it may be seen.

    Exit status 1 where there is none of this id.

    <<<<<<< HEAD
    Example: `keepword events show EVENT`
    =======
    Example: `keepword events show ID --from topic`
    >>>>>>> letters
    """
    from cli.events.look import run_show  # noqa: PLC0415 - see above

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
    from cli.events.rebuild import run_restate  # noqa: PLC0415 - see above

    raise typer.Exit(run_restate(service, tenants=tenants or ()))


def rebuild_events(service: Service, dry_run: DryRun = False, confirm: Confirm = None) -> None:
    """Let a service forget what it has built from others' states, and read these again.

    Stop all its replicas first, start them afterwards. Which tables these are stands in its data
    map; what it owns itself stays. Exit status 1 where it runs, or you do not confirm.

    <<<<<<< HEAD
    Example: `keepword events rebuild config --dry-run`
    =======
    Example: `keepword events rebuild purger --dry-run`
    >>>>>>> letters
    """
    from cli.events.rebuild import run_rebuild  # noqa: PLC0415 - see above

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
    <<<<<<< HEAD

    Example: `keepword events replay --to purger --tenant TENANT --dry-run`

    Exit status 1 where it is refused, or you do not confirm. Exit status 130 where it was paused.
    =======
    Exit status 1 where you do not confirm, or it was paused before its end.

    Example: `keepword events replay --to config --since 12h --reason OPS-7 --by Kim --dry-run`
    >>>>>>> letters
    """
    from cli.events.replay import Asked, run_replay  # noqa: PLC0415 - see above

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

    <<<<<<< HEAD
    Example: `keepword events replays purger`

    Exit status 1 where the database refuses.
    =======
    Exit status 1 where its database cannot be read.

    Example: `keepword events replays config`
    >>>>>>> letters
    """
    from cli.events.replay import run_replays  # noqa: PLC0415 - see above

    raise typer.Exit(run_replays(service))


# -- the end of keepword events -------------------------------------------------------------------
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
            metavar="[SERVICE]...", help="Only these services.", autocompletion=_services
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
    from cli.dead_letters import run_list  # noqa: PLC0415 - see above

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
    from cli.dead_letters import run_show  # noqa: PLC0415 - see above

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
    from cli.dead_letters import run_edit  # noqa: PLC0415 - see above

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
    from cli.dead_letters import run_redrive  # noqa: PLC0415 - see above

    raise typer.Exit(run_redrive(service, which, by=by, reason=reason, dry_run=dry_run))


def discard_dead_letters(
    service: Service, which: Letters, by: By, reason: WhyKept, dry_run: DryRun = False
) -> None:
    """Put a letter, or a group, aside for good; what waited behind it goes on.

    It stays to be seen until its 30 days are over, and is never tried again.
    Exit status 1 where it is refused.

    Example: `keepword dead-letters discard config LETTER --by Kim --reason OPS-7 --dry-run`
    """
    from cli.dead_letters import run_discard  # noqa: PLC0415 - see above

    raise typer.Exit(run_discard(service, which, by=by, reason=reason, dry_run=dry_run))


def diff_contracts(
    types: Annotated[
        list[str] | None, typer.Argument(metavar="[TYPE]...", help="Only these messages.")
    ] = None,
) -> None:
    """Compare today's models with the released schemas, and say why a change is refused.

    Old data and old readers stay for ever, so a message may only gain optional fields with a
    default. Reads contracts/schemas of the checkout that it runs from; changes nothing.

    Example: `keepword contracts diff data-erased`

    Exit status 1 where a change is refused, or waits for a new version.
    """
    from cli.contracts import run_diff  # noqa: PLC0415 - see above

    raise typer.Exit(run_diff(types or []))


def new_contract_version(
    name: Annotated[str, typer.Argument(metavar="TYPE", help="The message, as data-erased.")],
) -> None:
    """Write the next version of a message's schema, and a golden sample to fill in.

    Only where the model has changed in a way that is allowed. Earlier files are never touched.
    What remains to be done by hand is said at the end. Exit status 1 where it is not allowed, or
    nothing has changed.

    Example: `keepword contracts new-version data-erased`
    """
    from cli.contracts import run_new_version  # noqa: PLC0415 - see above

    raise typer.Exit(run_new_version(name))


def plan_topics() -> None:
    """Show which topics, settings and permissions are not as the contracts say; change nothing.

    A table at a terminal, JSON lines in a pipe. Kafka is the one at KAFKA_BOOTSTRAP_SERVERS, or as
    a service has it: KEEPWORD_KAFKA_BOOTSTRAP_SERVERS, ..._USERNAME, ..._PASSWORD, ..._CA_FILE. The
    user has to be allowed to describe topics, their settings, and permissions.

    Exit status 3 where something is not as agreed, so that a pipeline stops there. Exit status 1
    where the broker is away or refuses.
    """
    from cli.topics import run_plan  # noqa: PLC0415 - see above

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
    from cli.topics import run_apply  # noqa: PLC0415 - see above

    raise typer.Exit(run_apply(confirmed=confirm, dry_run=dry_run))


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
    from cli.trace import run_trace  # noqa: PLC0415 - see above

    raise typer.Exit(run_trace(tenant_id))


def version() -> None:
    """Say which version this is."""
    from importlib.metadata import version as version_of  # noqa: PLC0415 - see above

    typer.echo(f"keepword {version_of('keepword')}")
