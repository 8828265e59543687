"""Members of staff at the command line: `keepword staff`."""

from typing import Annotated

import typer

from cli.commands.options import Service, State, group_of


def sign_on(
    issuer: Annotated[
        str,
        typer.Option(
            "--issuer",
            metavar="URL",
            envvar="KEEPWORD_STAFF_ISSUER",
            help="The identity provider's name for itself.",
        ),
    ],
    client: Annotated[
        str,
        typer.Option(
            "--client",
            metavar="ID",
            envvar="KEEPWORD_STAFF_COMMAND_CLIENT_ID",
            help="What this command is to the provider: a public client.",
        ),
    ] = "keepword",
    browser: Annotated[bool, typer.Option(help="Open the address, besides showing it.")] = True,
) -> None:
    """Sign on in a browser of this machine; the provider answers to a port of it.

    What it gives is kept in a file that only you can read, below $XDG_STATE_HOME or
    ~/.local/state, and is good for as long as the provider says. Exit status 1 where the provider
    does not let you in, or nobody answers for five minutes.

    Example: `keepword staff sign-on --issuer https://id.example.com`
    """
    from cli.sign_on import run_sign_on  # noqa: PLC0415 - help comes at once without it

    raise typer.Exit(run_sign_on(issuer, client, browser=browser))


def sign_out() -> None:
    """Forget who is signed on here."""
    from cli.sign_on import run_sign_out  # noqa: PLC0415 - help comes at once without it

    raise typer.Exit(run_sign_out())


def ask(
    service: Service,
    path: Annotated[str, typer.Argument(metavar="PATH", help="What docs/access.md names.")],
    services: Annotated[
        str | None,
        typer.Option(
            "--services",
            metavar="JSON",
            envvar="KEEPWORD_STAFF_SERVICES",
            help="Where each service is. [default: where those of the running `keepword up` are]",
        ),
    ] = None,
    state: State = None,
) -> None:
    """Print what a service tells a member of staff, as JSON, in your own name and roles.

    Exit status 1 where it refuses, or does not answer. Exit status 2 where nobody is signed on.

    Example: `keepword staff ask installer /staff/tenants`
    """
    from cli.sign_on import run_ask  # noqa: PLC0415 - help comes at once without it

    raise typer.Exit(run_ask(service, path, services=services, state=state))


def group() -> typer.Typer:
    """Put the group together."""
    return group_of(
        "Sign on as a member of staff, and ask services in your own name.",
        {"sign-on": sign_on, "sign-out": sign_out, "ask": ask},
    )
