"""Key-encryption keys: `keepword keys`."""

import typer

from cli.commands.options import DryRun, Service, group_of


def rotate_keys(service: Service, dry_run: DryRun = False) -> None:
    """Give a service a new current key-encryption key, as is due every month.

    Changes the file that KEEPWORD_CONFIG_KEY_ENCRYPTION_KEYS_FILE names, likewise INSTALLER and
    NOTIFIER; running services read it again by themselves, and wrap the tenants' keys anew.

    Example: `keepword keys rotate config`

    Exit status 1 where the file cannot be read or written.
    """
    from cli.keys import run_rotate  # noqa: PLC0415 - help comes at once without it

    raise typer.Exit(run_rotate(service, dry_run=dry_run))


def retire_keys(service: Service, dry_run: DryRun = False) -> None:
    """Destroy a service's old key-encryption keys that nobody needs any more; run it every day.

    A key goes when no tenant's key lies under it and the copies of before are gone, which takes
    KEEPWORD_BACKUP_RETENTION_DAYS from the run that first finds it unused. Besides the file it
    needs the worker's URL, KEEPWORD_CONFIG_WORKER_DATABASE_URL and likewise.

    Example: `keepword keys retire config --dry-run`

    Exit status 1 where the file or the database cannot be used.
    """
    from cli.keys import run_retire  # noqa: PLC0415 - help comes at once without it

    raise typer.Exit(run_retire(service, dry_run=dry_run))


def group() -> typer.Typer:
    """Put the group together."""
    return group_of(
        "Key-encryption keys, under which the tenants' own keys lie.",
        {"rotate": rotate_keys, "retire": retire_keys},
    )
