"""Receipts of erasure: `keepword receipts`."""

from pathlib import Path
from typing import Annotated

import typer

from cli.commands.options import State, group_of


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

    Example: `keepword receipts verify 5f0c9e2ab7d14c6e8f3a1b90d2c7e645 --checkpoints checkpoints`
    """
    from cli.receipts import run_verify  # noqa: PLC0415 - help comes at once without it

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


def group() -> typer.Typer:
    """Put the group together."""
    return group_of("Receipts of erasure, as anyone can check them.", {"verify": verify_receipt})
