"""Settings that cannot keep the promise are refused before anything starts."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_public_key,
)
from structlog.testing import capture_logs

from chassis.settings import BadSettings
from contracts.ledger import key_id_of
from services.purger import app
from services.purger.ledger_key import BadLedgerKey, LedgerKey, LedgerKeyFile
from services.purger.settings import PurgerSettings

ENVIRONMENT = {
    "DATABASE_URL": "postgresql://a:b@localhost:5432/purger",
    "WORKER_DATABASE_URL": "postgresql://a:b@localhost:5432/purger",
    "ERASER_DATABASE_URL": "postgresql://a:b@localhost:5432/purger",
    "KAFKA_BOOTSTRAP_SERVERS": "localhost:9092",
    "HTTP_PORT": "0",
    "PUBLIC_URL": "https://purger.example.com",
    "LEDGER_KEY_FILE": "/nowhere/ledger.pem",
}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(f"KEEPWORD_{name}", value)
    return monkeypatch


def test_the_usual_settings_keep_the_promise(environment: pytest.MonkeyPatch) -> None:
    settings = PurgerSettings.load()

    assert settings.retention.complaints(copies_kept=settings.copies_kept) == []


@pytest.mark.parametrize(
    ("name", "value", "word"),
    [
        ("GRACE_DAYS", "152", "six months"),
        ("GRACE_DAYS", "-1", "GRACE_DAYS"),
        ("RESIDUE_DAYS", "13", "backups (14 days)"),
        ("BACKUP_RETENTION_DAYS", "35", "backups (35 days)"),
        ("LOG_RETENTION_DAYS", "15", "logs (15 days)"),
        ("TRACE_RETENTION_DAYS", "15", "traces (15 days)"),
        ("MAIL_QUEUE_DAYS", "15", "the mail queue (15 days)"),
        ("RUN_MARGIN_DAYS", "6", "run margin"),
        ("RUN_MARGIN_DAYS", "150", "six months"),
        ("SWEEP_SECONDS", "0", "SWEEP_SECONDS"),
    ],
)
def test_what_cannot_keep_the_promise_is_refused_with_the_reason(
    environment: pytest.MonkeyPatch, name: str, value: str, word: str
) -> None:
    environment.setenv(f"KEEPWORD_{name}", value)

    with pytest.raises(BadSettings) as refused:
        PurgerSettings.load()

    assert word in str(refused.value)


def test_longer_backups_are_accepted_with_a_longer_residue(
    environment: pytest.MonkeyPatch,
) -> None:
    environment.setenv("KEEPWORD_BACKUP_RETENTION_DAYS", "35")
    environment.setenv("KEEPWORD_RESIDUE_DAYS", "35")

    assert PurgerSettings.load().retention.residue.days == 35


def test_a_process_with_bad_settings_ends_and_says_why(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert app.main() == 2
    assert "KEEPWORD_LEDGER_KEY_FILE" in capsys.readouterr().err

    environment.setenv("KEEPWORD_GRACE_DAYS", "170")
    assert app.main() == 2
    assert "KEEPWORD_GRACE_DAYS" in capsys.readouterr().err


def pem(key: Ed25519PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def test_the_ledger_key_is_read_and_named_by_its_public_half(tmp_path: Path) -> None:
    file = tmp_path / "ledger.pem"
    file.write_bytes(pem(Ed25519PrivateKey.generate()))

    key = LedgerKey.load(file)

    assert len(key.key_id) == 16
    assert LedgerKey.load(file).key_id == key.key_id
    assert LedgerKey(Ed25519PrivateKey.generate()).key_id != key.key_id
    assert load_pem_public_key(key.public_pem.encode()) == key.private_key.public_key()
    assert "PRIVATE" not in key.public_pem


def public_pem(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def test_the_first_key_signs_and_the_public_halves_of_earlier_ones_are_shown(
    tmp_path: Path,
) -> None:
    new, middle, old = (Ed25519PrivateKey.generate() for _ in range(3))
    file = tmp_path / "ledger.pem"
    file.write_bytes(pem(new) + b"until May:\n" + pem(middle) + public_pem(old))

    key = LedgerKey.load(file)

    assert key.private_key.private_bytes_raw() == new.private_bytes_raw()
    ids = [key_id_of(each.public_key()) for each in (new, middle, old)]
    assert list(key.public_keys) == ids
    assert key.public_pem.encode() == public_pem(new) + public_pem(middle) + public_pem(old)


def test_a_changed_file_is_read_again_and_a_bad_one_changes_nothing(tmp_path: Path) -> None:
    first, second = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    file = tmp_path / "ledger.pem"
    file.write_bytes(pem(first))
    keys = LedgerKeyFile(file)
    assert keys.current().key_id == key_id_of(first.public_key())

    file.write_bytes(pem(second) + public_pem(first))
    assert list(keys.current().public_keys) == [
        key_id_of(second.public_key()),
        key_id_of(first.public_key()),
    ]

    file.write_bytes(pem(first)[:40])
    with capture_logs() as lines:
        assert keys.current().key_id == key_id_of(second.public_key())
    file.unlink()
    assert keys.current().key_id == key_id_of(second.public_key())
    assert [(line["log_level"], line["event"]) for line in lines] == [
        ("error", "ledger keys not read again")
    ]


def test_a_file_in_which_only_a_public_key_comes_first_or_a_key_twice_is_refused(
    tmp_path: Path,
) -> None:
    key = Ed25519PrivateKey.generate()
    file = tmp_path / "ledger.pem"
    for content, complaint in (
        (public_pem(key), "cannot sign"),
        (pem(key) + public_pem(key), "twice"),
        (pem(key) + pem(key)[:60], "Ed25519"),
    ):
        file.write_bytes(content)
        with pytest.raises(BadLedgerKey, match=complaint):
            LedgerKey.load(file)


@pytest.mark.parametrize("content", [b"", b"no key", None])
def test_a_file_without_such_a_key_is_refused(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "ledger.pem"
    if content is not None:
        file.write_bytes(content)

    with pytest.raises(BadLedgerKey, match="KEEPWORD_LEDGER_KEY_FILE"):
        LedgerKey.load(file)


def test_a_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "ledger.pem"
    other = generate_private_key(SECP256R1())
    file.write_bytes(other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))

    with pytest.raises(BadLedgerKey, match="Ed25519"):
        LedgerKey.load(file)
