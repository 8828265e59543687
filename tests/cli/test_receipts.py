import json
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cli.audit import (
    Ledger,
    NotVerified,
    check_entries,
    check_receipt,
    entries_of,
    public_keys_of,
)
from cli.receipts import run_verify
from contracts.classes import DataClass
from contracts.ledger import (
    GENESIS,
    EntryKind,
    LedgerEntry,
    Receipt,
    ReceiptStage,
    StepProof,
    UnsealedEntry,
    key_id_of,
    seal,
)
from services.purger.checkpoints import Checkpoint, append_checkpoint
from services.purger.ledger_key import LedgerKey

KEY = Ed25519PrivateKey.generate()
KEYS = {key_id_of(KEY.public_key()): KEY.public_key()}
AT = datetime(2027, 4, 25, tzinfo=UTC)
CODE = "a-receipt-code-of-some-length"


def sealed(number: int, previous_hash: str, stage: ReceiptStage | None) -> LedgerEntry:
    receipt = None
    if stage is not None:
        steps = (
            StepProof(
                step="erase-config",
                owner="config",
                counts={DataClass.CONTENT: 3},
                erased_at=AT,
                open=False,
            ),
        )
        receipt = Receipt(stage=stage, receipt_code=CODE, steps=steps, deadline=AT, erase_by=AT)
    return seal(
        UnsealedEntry(
            number=number,
            kind=EntryKind.RECEIPT if stage else EntryKind.TENANT_ERASED,
            at=AT,
            purge_id=UUID(int=1),
            tenant_id=None if stage else UUID(int=2),
            classes=(DataClass.CONTENT,),
            receipt=receipt,
            previous_hash=previous_hash,
        ),
        KEY,
        key_id_of(KEY.public_key()),
    )


@pytest.fixture(scope="module")
def ledger() -> Ledger:
    """Wave 1, its receipt, wave 2, the last receipt: as purger writes them."""
    entries: list[LedgerEntry] = []
    for number, stage in enumerate((None, ReceiptStage.ERASED, None, ReceiptStage.CLOSED), 1):
        entries.append(sealed(number, entries[-1].hash if entries else GENESIS, stage))
    return Ledger(tuple(entries), entries[-1].hash)


@pytest.fixture
def pair(ledger: Ledger) -> list[LedgerEntry]:
    return [ledger.entries[1], ledger.entries[3]]


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "ledger.pub"
    path.write_bytes(KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return path


def verify(file: Path | None = None, key: Path | None = None, code: str | None = None) -> int:
    return run_verify(code, file=file, public_key=key, purger_url=None, state=None)


def written(path: Path, entries: list[LedgerEntry]) -> Path:
    told = [entry.model_dump(mode="json") for entry in entries]
    path.write_text(json.dumps({"receipt_code": CODE, "closed": True, "entries": told}))
    return path


def test_a_pair_from_a_file_verifies_and_is_shown(
    pair: list[LedgerEntry], key_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify(written(tmp_path / "receipt.json", pair), key_file) == 0

    said = capsys.readouterr().out
    assert "Verified" in said
    assert "erase-config" in said
    assert "3 content" in said


def test_a_changed_count_does_not_verify(
    pair: list[LedgerEntry], key_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path / "receipt.json", pair)
    file.write_text(file.read_text().replace('"content": 3', '"content": 4'))

    assert verify(file, key_file) == 1
    assert "its content was changed" in capsys.readouterr().out


def test_another_key_does_not_verify_whatever_the_entries_call_it(
    pair: list[LedgerEntry],
) -> None:
    other = Ed25519PrivateKey.generate().public_key()

    with pytest.raises(NotVerified, match="not known"):
        check_entries(pair, {key_id_of(other): other})
    with pytest.raises(NotVerified, match="signature"):
        check_entries(pair, {key_id_of(KEY.public_key()): other})


def test_neighbours_must_follow_each_other(ledger: Ledger) -> None:
    stranger = sealed(3, GENESIS, None)

    with pytest.raises(NotVerified, match="entry 3"):
        check_entries([ledger.entries[1], stranger], KEYS)


def test_a_receipt_must_stand_in_the_ledger(ledger: Ledger, pair: list[LedgerEntry]) -> None:
    check_receipt(pair, ledger, KEYS)
    forged = sealed(2, GENESIS, ReceiptStage.ERASED)

    with pytest.raises(NotVerified, match="not that of the ledger"):
        check_receipt([forged], ledger, KEYS)


def test_a_ledger_that_was_cut_off_does_not_verify(ledger: Ledger) -> None:
    shortened = Ledger(ledger.entries[:-1], ledger.head_hash)

    with pytest.raises(NotVerified, match="last"):
        check_receipt([ledger.entries[1]], shortened, KEYS)


def test_a_ledger_whose_beginning_is_gone_does_not_verify(ledger: Ledger) -> None:
    beheaded = Ledger(ledger.entries[1:], ledger.head_hash)

    with pytest.raises(NotVerified):
        check_receipt([ledger.entries[1]], beheaded, KEYS)


@pytest.mark.parametrize("text", ["", "{}", "[]", "[1]", '{"entries": [{"number": 1}]}'])
def test_what_is_no_receipt_is_refused(text: str) -> None:
    with pytest.raises(NotVerified):
        entries_of(text)


def test_what_is_no_key_is_refused() -> None:
    with pytest.raises(NotVerified, match="Ed25519"):
        public_keys_of(b"-----BEGIN PUBLIC KEY-----")


def test_a_file_that_is_not_there_fails_by_name(
    key_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify(tmp_path / "nowhere.json", key_file) == 1
    assert "No such file" in capsys.readouterr().out


def test_neither_or_half_of_the_two_ways_is_misuse(
    key_file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("KEEPWORD_STATE_DIR", str(tmp_path))

    assert verify() == 2
    assert verify(file=tmp_path / "receipt.json") == 2
    assert verify(code=CODE, file=tmp_path / "receipt.json", key=key_file) == 2
    assert verify(code=CODE) == 2


def test_a_purger_that_is_away_is_no_proof(capsys: pytest.CaptureFixture[str]) -> None:
    status = run_verify(
        CODE, file=None, public_key=None, purger_url="http://127.0.0.1:1", state=None
    )

    assert status == 1
    assert "does not answer" in capsys.readouterr().out


def test_a_ledger_whose_end_is_gone_is_found_by_the_checkpoints(
    ledger: Ledger,
    key_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Purger agrees with itself: its head was moved back as well."""
    file = tmp_path / "checkpoints"
    for number in (2, 4):
        entry_hash = ledger.entries[number - 1].hash
        append_checkpoint(file, Checkpoint.of(number, entry_hash, at=AT, key=LedgerKey(KEY)))
    told = [ledger]

    async def the_receipt(*_: object) -> list[LedgerEntry]:
        return [ledger.entries[1]]

    async def the_ledger(*_: object) -> Ledger:
        return told[-1]

    monkeypatch.setattr("cli.receipts.fetch_receipt", the_receipt)
    monkeypatch.setattr("cli.receipts.fetch_ledger", the_ledger)

    def status(checkpoints: Path | None) -> int:
        return run_verify(
            CODE,
            file=None,
            public_key=key_file,
            purger_url="http://purger",
            state=None,
            checkpoints=checkpoints,
        )

    assert status(file) == 0
    assert "All 2 checkpoints stand in it" in capsys.readouterr().out
    told.append(Ledger(ledger.entries[:3], ledger.entries[2].hash))
    assert status(None) == 0
    assert status(file) == 1
    assert "ledger entry 4: missing, but a checkpoint names it" in capsys.readouterr().out
    assert status(tmp_path / "nowhere") == 1
