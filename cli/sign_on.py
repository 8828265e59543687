"""`keepword staff`: signs on by the browser, at a port of this machine (RFC 8252), and asks services."""

import asyncio
import json
import os
import secrets
import sys
import webbrowser
from collections.abc import Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, urlsplit

import httpx2
from rich.console import Console
from rich.markup import escape

from chassis.staff.provider import Client, Provider, ProviderAway, SignedOn, TokenRefused
from cli.statuses import FAILED, MISUSED
from contracts.topics import SERVICES
from devstack.private_files import write_private
from devstack.stack import known_endpoints, state_folder

PATIENCE_SECONDS: Final = 300.0
_LOOPBACK: Final = "127.0.0.1"
_CALLBACK: Final = "/callback"
_LONGEST_LINE: Final = 8192
_DONE: Final = "You are signed on. Close this window and go on at the terminal."
_NOT_DONE: Final = "That is no answer to this sign-on. Begin again at the terminal."


def run_sign_on(issuer: str, client_id: str, *, browser: bool) -> int:
    """Sign on, and keep the token for whoever runs this alone."""
    console = Console(stderr=True)
    try:
        signed_on = asyncio.run(_sign_on(issuer, client_id, console, browser=browser))
    except (ProviderAway, TokenRefused) as refused:
        console.print(f"[red]Not signed on:[/] {escape(str(refused))}.", soft_wrap=True)
        return FAILED
    except TimeoutError:
        console.print("[red]Not signed on:[/] nobody answered within five minutes.")
        return FAILED
    path = _token_file()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    kept = {"token": signed_on.token, "expires_at": signed_on.expires_at.isoformat()}
    write_private(path, json.dumps(kept).encode())
    until = f"{signed_on.expires_at:%Y-%m-%d %H:%M} UTC"
    console.print(f"Signed on as {escape(signed_on.person.name)} until {until}.", soft_wrap=True)
    return 0


def run_sign_out() -> int:
    """Forget the token."""
    _token_file().unlink(missing_ok=True)
    Console(stderr=True).print("Signed out here. The provider may still know your browser.")
    return 0


def run_ask(service: str, path: str, *, services: str | None, state: Path | None) -> int:
    """Print what a service answers at a path of staff's."""
    console = Console(stderr=True)
    token = _kept_token()
    if token is None:
        console.print("Nobody is signed on here, or not any more: `keepword staff sign-on`.")
        return MISUSED
    url = _addresses(services, state).get(service)
    if url is None:
        console.print("Where is it? No stack is running, and KEEPWORD_STAFF_SERVICES names it not.")
        return MISUSED
    try:
        answer = httpx2.get(
            f"{url.rstrip('/')}/{path.lstrip('/')}",
            headers={"authorization": f"Bearer {token}", "accept": "application/json"},
        )
    except httpx2.HTTPError as away:
        console.print(f"[red]{service} does not answer[/] ({type(away).__name__}).")
        return FAILED
    if not answer.is_success:
        told = _detail(answer)
        console.print(f"[red]{answer.status_code}[/] {escape(told)}", soft_wrap=True)
        return FAILED
    sys.stdout.write(f"{answer.text}\n")
    return 0


async def _sign_on(issuer: str, client_id: str, console: Console, *, browser: bool) -> SignedOn:
    provider = Provider(
        Client(
            issuer=issuer,
            client_id=client_id,
            secret_file=None,
            command_id=client_id,
            # What the person may do, and by which factors, each service decides by the token.
            groups={},
            groups_claim="groups",
            second_factors=frozenset(),
            http=httpx2.AsyncClient,
        )
    )
    state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
    answered: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    server = await asyncio.start_server(
        lambda reader, writer: _hear(reader, writer, state, answered), _LOOPBACK, 0
    )
    async with server:
        port = server.sockets[0].getsockname()[1]
        redirect_uri = f"http://{_LOOPBACK}:{port}{_CALLBACK}"
        url = await provider.sign_on_url(
            redirect_uri=redirect_uri,
            state=state,
            nonce=nonce,
            verifier=verifier,
            silently=False,
        )
        console.print(f"Sign on in your browser:\n{url}", soft_wrap=True, highlight=False)
        if browser:
            await asyncio.to_thread(webbrowser.open, url)
        async with asyncio.timeout(PATIENCE_SECONDS):
            code = await answered
    return await provider.redeem(
        code, verifier=verifier, redirect_uri=redirect_uri, nonce=nonce, wall=datetime.now(UTC)
    )


async def _hear(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    state: str,
    answered: "asyncio.Future[str]",
) -> None:
    """Take the provider's answer from the browser; what is no answer to this sign-on changes nothing."""
    try:
        line = (await reader.readline())[:_LONGEST_LINE].decode("ascii", "replace")
        target = urlsplit(line.split(" ")[1] if line.startswith("GET ") else "")
        told = {name: values[0] for name, values in parse_qs(target.query).items()}
        ours = target.path == _CALLBACK and secrets.compare_digest(told.get("state", ""), state)
        status = HTTPStatus.OK if ours and told.get("code") else HTTPStatus.BAD_REQUEST
        text = _DONE if status is HTTPStatus.OK else _NOT_DONE
        writer.write(
            f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: text/plain\r\n"
            f"cache-control: no-store\r\nconnection: close\r\n\r\n{text}\n".encode()
        )
        await writer.drain()
        if ours and not answered.done():
            if code := told.get("code"):
                answered.set_result(code)
            else:
                answered.set_exception(TokenRefused("the provider did not let you in"))
    except (ValueError, IndexError, OSError):
        pass
    finally:
        writer.close()


def _addresses(services: str | None, state: Path | None) -> Mapping[str, str]:
    if services is not None:
        try:
            told = json.loads(services)
        except ValueError:
            return {}
        return told if isinstance(told, dict) else {}
    endpoints = known_endpoints(state or state_folder(os.environ))
    return {} if endpoints is None else {name: endpoints.of(name) for name in SERVICES}


def _token_file() -> Path:
    given = os.environ.get("XDG_STATE_HOME")
    return (Path(given) if given else Path.home() / ".local" / "state") / "keepword" / "staff.json"


def _kept_token() -> str | None:
    try:
        kept = json.loads(_token_file().read_text("utf-8"))
        expires_at = datetime.fromisoformat(kept["expires_at"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return str(kept["token"]) if expires_at > datetime.now(UTC) else None


def _detail(answer: httpx2.Response) -> str:
    try:
        told = answer.json()
    except ValueError:
        return ""
    return str(told.get("detail", "")) if isinstance(told, dict) else ""
