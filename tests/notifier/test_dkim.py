"""Signatures: each is verified by dkimpy, which is not ours."""

import base64
import json
from collections.abc import Callable
from pathlib import Path

import dkim
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as new_curve_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as new_rsa_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from devstack.programs import ROOT
from services.notifier.domain.people import Language, Recipient
from services.notifier.letters.dkim import BadDkimFile, Signer
from services.notifier.letters.letter import Envelope, Stationery, Unsubscribing
from services.notifier.letters.policies import PolicyChanges
from tests.notifier.builders import NOW
from tests.notifier.specimens import REVISION, sheets_of
from tests.support.runbooks import follow

DOMAIN = "vendor.example"


def pem_of(key: RSAPrivateKey | Ed25519PrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


@pytest.fixture(scope="module")
def keys() -> dict[str, RSAPrivateKey | Ed25519PrivateKey]:
    return {"r1": new_rsa_key(65537, 2048), "e1": Ed25519PrivateKey.generate()}


@pytest.fixture(scope="module")
def signer(
    keys: dict[str, RSAPrivateKey | Ed25519PrivateKey], tmp_path_factory: pytest.TempPathFactory
) -> Signer:
    path = tmp_path_factory.mktemp("dkim") / "dkim.json"
    told = [{"selector": name, "private_key": pem_of(key)} for name, key in keys.items()]
    path.write_text(json.dumps({"domain": DOMAIN, "keys": told}))
    return Signer.load(path)


Verify = Callable[[bytes], list[bool]]


@pytest.fixture(scope="module")
def verify(keys: dict[str, RSAPrivateKey | Ed25519PrivateKey]) -> Verify:
    """What dkimpy says of each of a message's signatures."""
    rsa, ed = keys["r1"], keys["e1"]
    records = {
        b"r1._domainkey.vendor.example.": b"v=DKIM1; k=rsa; p="
        + base64.b64encode(
            rsa.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        ),
        b"e1._domainkey.vendor.example.": b"v=DKIM1; k=ed25519; p="
        + base64.b64encode(ed.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)),
    }

    def said(message: bytes) -> list[bool]:
        found = []
        for number in range(2):
            try:
                found.append(
                    dkim.DKIM(message).verify(
                        idx=number, dnsfunc=lambda name, **_: records.get(name)
                    )
                )
            except dkim.DKIMException:
                found.append(False)
        return found

    return said


ODD_HEADERS = (
    b"From: =?utf-8?q?Z=C3=B6e?= <a@vendor.example>\r\n"
    b"To:   Ada    Ex\t<ada@c.example>  \r\n"
    b"Subject: folded\r\n over\r\n\t  three lines \r\n"
    b"subject-not: x\r\n"
    b"Date: Mon, 23 Nov 2026 12:00:00 +0000\r\n"
    b"MESSAGE-ID:<x@vendor.example>\r\n"
    b"List-Unsubscribe:\r\n <https://n.vendor.example/u/abc>\r\n"
    b"List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n"
)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\r\n",
        b"\r\n\r\n\r\n",
        b"one line\r\n",
        b"no end of line",
        b"trailing  \t \r\n  leading and   many    spaces\t\r\n\r\n\r\n",
        b" \r\n \t\r\n",
        b".dots\r\n..more\r\n",
        b"a\r\n\r\n \r\n\r\n",
    ],
    ids=range(9),
)
def test_both_signatures_of_odd_messages_verify(
    signer: Signer, verify: Verify, body: bytes
) -> None:
    message = signer.sign(ODD_HEADERS + b"\r\n" + body)
    assert verify(message) == [True, True]


def a_letter(**others: str) -> bytes:
    url = f"https://n.{DOMAIN}/unsubscribe/{'x' * 100}"
    stationery = Stationery(
        sender=f"privacy@{DOMAIN}", vendor_name="Vendör, Ltd.", news_sender=f"n@{DOMAIN}"
    )
    recipient = Recipient(others.get("name", "Zoë"), "zoe@c.example", "app", Language.GERMAN)
    envelope = Envelope("<1@vendor.example>", NOW, Unsubscribing("news", url, url))
    return PolicyChanges(stationery, sheets_of(), url).write(REVISION, recipient, envelope).content


def test_what_a_letter_needs_is_signed(signer: Signer, verify: Verify) -> None:
    message = signer.sign(a_letter())
    assert verify(message) == [True, True]
    for header in (b"From: ", b"Subject: ", b"List-Unsubscribe:", b"List-Unsubscribe-Post: "):
        assert verify(message.replace(b"\n" + header, b"\n" + header + b"x", 1)) == [False, False]
    assert verify(message + b"more\r\n") == [False, False]


@pytest.mark.parametrize("header", [b"From: x@evil.example", b"Subject: Pay now", b"To: all"])
def test_a_second_header_of_what_must_stand_once_breaks_the_signatures(
    signer: Signer, verify: Verify, header: bytes
) -> None:
    assert verify(header + b"\r\n" + signer.sign(a_letter())) == [False, False]


@pytest.mark.parametrize(
    "told",
    [
        "",
        "[]",
        "{}",
        '{"domain": "a.example", "keys": []}',
        '{"domain": "a b", "keys": [{"selector": "s", "private_key": ""}]}',
        '{"domain": "a.example", "keys": [{"selector": "s", "private_key": "no key"}]}',
    ],
    ids=range(6),
)
def test_a_file_that_is_none_is_refused(tmp_path: Path, told: str) -> None:
    path = tmp_path / "dkim.json"
    path.write_text(told)
    with pytest.raises(BadDkimFile):
        Signer.load(path)


def test_a_missing_file_and_weak_keys_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadDkimFile, match="cannot be read"):
        Signer.load(tmp_path / "none.json")
    curve = new_curve_key(SECP256R1()).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    for pem, why in ((pem_of(new_rsa_key(65537, 1024)), "bits"), (curve.decode(), "neither")):
        path = tmp_path / "dkim.json"
        keys = [{"selector": "s", "private_key": pem}]
        path.write_text(json.dumps({"domain": DOMAIN, "keys": keys}))
        with pytest.raises(BadDkimFile, match=why) as refused:
            Signer.load(path)
        assert "PRIVATE" not in str(refused.value)


async def test_who_changes_the_keys_as_the_runbook_says_is_believed_by_its_records(
    tmp_path: Path,
) -> None:
    file = tmp_path / "dkim"
    file.write_text(json.dumps({"domain": "vendor.example", "keys": []}))
    page = ROOT / "docs" / "runbooks" / "keys.md"
    given = {"FILE": str(file), "SELECTOR": "k7"}
    await follow(page, "dkim", given)
    said = await follow(page, "dkim-records", given)
    records = {
        f"{name}.".encode(): record.encode()
        for name, record in (line.split(" ", 1) for line in said.splitlines())
    }
    signed = Signer.load(tmp_path / "dkim.next").sign(
        b"From: a@vendor.example\r\nTo: b@c.example\r\nSubject: x\r\n\r\nx\r\n"
    )
    for number in range(2):
        message = dkim.DKIM(signed)
        assert message.verify(idx=number, dnsfunc=lambda name, **_: records.get(name))
    assert (tmp_path / "dkim.next").stat().st_mode & 0o077 == 0
