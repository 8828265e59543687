"""The OpenAPI document against the installer itself: schemathesis, all its checks, signed calls."""

import asyncio
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from connect.jwt import Algorithm, parse
from devstack.atlassian import Atlassian, ForgeInstallation, Site
from tests.installer.conftest import APP, PUBLIC_URL, Installer

ROOT = Path(__file__).parent.parent.parent
SIGNED_FOR_SECONDS = 3_600
EXAMPLES_EACH = 10
LONG_SERIES = 400

PLAIN_ROUTES = {
    "/connect/{addon_key}/lifecycle/installed",
    "/connect/{addon_key}/lifecycle/uninstalled",
    "/connect/{addon_key}/lifecycle/enabled",
    "/connect/{addon_key}/lifecycle/disabled",
    "/connect/{addon_key}/atlassian-connect.json",
    "/connect/{addon_key}/",
    "/connect/{addon_key}/entry",
    "/connect/{addon_key}/entry.js",
    "/connect/{addon_key}/entry.css",
    "/connect/{addon_key}/session-tokens",
    "/.well-known/jwks.json",
    "/forge/{addon_key}/lifecycle",
    "/forge/{addon_key}/pre-uninstall",
}
PROBES = {"/livez", "/readyz", "/metrics"}


def _pem(key: RSAPrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def _write_signers(path: Path, atlassian: Atlassian, site: Site) -> Path:
    """Write down what `tests.installer.signing_hooks` signs with."""
    now = int(time.time())
    times = {"iat": now, "exp": now + SIGNED_FOR_SECONDS}
    forge = parse(atlassian.forge.token(ForgeInstallation.of(site, APP)), Algorithm.RS256)
    signers = {
        "app": APP,
        "audience": f"{PUBLIC_URL}/connect/{APP}",
        "client_key": site.client_key,
        "secret": site.shared_secret,
        "claims": times,
        "atlassian": {"id": atlassian.key_id, "pem": _pem(atlassian.private_key)},
        "forge": {
            "id": forge.key_id,
            "pem": _pem(atlassian.forge.private_key),
            "claims": {**forge.payload, **times},
        },
    }
    path.write_text(json.dumps(signers), "utf-8")
    return path


async def _find_faults(installer: Installer, folder: Path, *, examples: int) -> tuple[int, str]:
    site = Site.named("acme")
    await installer.installed(site)
    signers = _write_signers(folder / "signers.json", installer.atlassian, site)
    process = await asyncio.create_subprocess_exec(
        Path(sys.executable).with_name("st"),
        *("run", f"{installer.url}/openapi.json"),
        *("--checks", "all", "--mode", "all", "--phases", "examples,coverage,fuzzing,stateful"),
        *("--max-examples", str(examples), "--continue-on-failure", "--no-color"),
        cwd=folder,
        env=os.environ
        | {
            "SCHEMATHESIS_HOOKS": "tests.installer.signing_hooks",
            "KEEPWORD_TEST_SIGNERS": str(signers),
            "PYTHONPATH": str(ROOT),
        },
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    told, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, told.decode(errors="replace")


async def test_the_document_names_every_route(installer: Installer) -> None:
    document: dict[str, Any] = (await installer.http.get(f"{installer.url}/openapi.json")).json()

    assert set(document["paths"]) >= PLAIN_ROUTES
    for path, item in document["paths"].items():
        for operation in item.values():
            if isinstance(operation, dict):
                assert operation["responses"], path


async def test_schemathesis_finds_nothing(installer: Installer, tmp_path: Path) -> None:
    status, told = await _find_faults(installer, tmp_path, examples=EXAMPLES_EACH)

    assert status == 0, told
    # Signed calls came through: otherwise only the guard at the door was tested.
    assert len(await installer.database.said()) > EXAMPLES_EACH


@pytest.mark.long
@pytest.mark.timeout(900)
async def test_schemathesis_finds_nothing_in_a_long_series(
    installer: Installer, tmp_path: Path
) -> None:
    status, told = await _find_faults(installer, tmp_path, examples=LONG_SERIES)

    assert status == 0, told
