"""The ledger is walked every night, and what was cut off or written anew is found."""

import json
from pathlib import Path

import asyncpg
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from cli.audit import Ledger, NotVerified, check_checkpoints, read_checkpoints_of
from contracts.ledger import LedgerEntry, UnsealedEntry, seal, verify_chain
from services.purger import chain
from services.purger.chain import WALKED_WHOLE_EVERY, ChainWatch
from services.purger.checkpoints import read_checkpoints
from services.purger.figures import LedgerFigures
from services.purger.ledger_key import LedgerKey
from tests.purger.builders import DAY, answer
from tests.purger.conftest import Purger


def content_of(file: Path) -> str | None:
    return file.read_text() if file.exists() else None


def put(file: Path, content: str) -> None:
    file.write_text(content)


def remove(file: Path) -> None:
    file.unlink()


class Auditor:
    """The nightly walk, and what becomes of it."""

    def __init__(self, purger: Purger, file: Path | None) -> None:
        self.registry = CollectorRegistry()
        self.watch = ChainWatch(purger.units, LedgerFigures(self.registry), file)

    async def complaint(self) -> str | None:
        with capture_logs() as lines:
            well = await self.watch.check()
        errors = [line for line in lines if line["log_level"] == "error"]
        assert well is not bool(errors)
        assert self.registry.get_sample_value("keepword_ledger_broken") == (0 if well else 1)
        return errors[0]["reason"] if errors else None

    def verified(self) -> float | None:
        return self.registry.get_sample_value("keepword_ledger_verified_number")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "checkpoints"


@pytest.fixture
def auditor(purger: Purger, file: Path) -> Auditor:
    return Auditor(purger, file)


_MOVE_HEAD = """
    UPDATE ledger_head SET number = l.number, hash = l.entry::jsonb ->> 'hash'
      FROM ledger l WHERE l.number = {}
"""


class Intruder:
    """Somebody who owns the database, and so can lift what protects the ledger."""

    def __init__(self, purger: Purger) -> None:
        self._purger = purger

    async def run(self, *statements: str) -> None:
        connection = await asyncpg.connect(self._purger.roles.owner_url)
        try:
            await connection.execute("ALTER TABLE ledger DISABLE TRIGGER ALL")
            for statement in statements:
                await connection.execute(statement)
            await connection.execute("ALTER TABLE ledger ENABLE TRIGGER ALL")
        finally:
            await connection.close()

    async def cut_off(self, *, after: int, head: bool = True) -> None:
        await self.run(
            f"DELETE FROM ledger WHERE number > {after}",
            *((_MOVE_HEAD.format(after),) if head else ()),
        )

    async def write_anew(self, *, count: str) -> None:
        """All entries with other counts, chained and signed by the real key."""
        key = self._purger.keys[-1]
        previous: LedgerEntry | None = None
        for entry in await self._purger.ledger():
            told = json.loads(entry.encode())
            told = json.loads(json.dumps(told).replace('"content": 3', f'"content": {count}'))
            unsealed = {k: v for k, v in told.items() if k not in {"hash", "signature", "key_id"}}
            if previous is not None:
                unsealed["previous_hash"] = previous.hash
            previous = seal(
                UnsealedEntry.model_validate_json(json.dumps(unsealed)), key.private_key, key.key_id
            )
            text = previous.encode().decode().replace("'", "''")
            await self.run(f"UPDATE ledger SET entry = '{text}' WHERE number = {previous.number}")
        assert previous is not None
        await self.run(f"UPDATE ledger_head SET hash = '{previous.hash}'")


@pytest.fixture
def intruder(purger: Purger) -> Intruder:
    return Intruder(purger)


async def test_a_whole_ledger_verifies_and_leaves_a_checkpoint_when_it_has_grown(
    purger: Purger, auditor: Auditor, file: Path
) -> None:
    assert await auditor.complaint() is None
    assert content_of(file) is None
    (contacts,) = await purger.finish_wave_one()
    assert await auditor.complaint() is None
    assert await auditor.complaint() is None
    await purger.hear(answer(contacts, purger.clock.now()))

    assert await auditor.complaint() is None

    entries = await purger.ledger()
    assert [(c.number, c.hash) for c in read_checkpoints(file)] == [
        (3, entries[2].hash),
        (4, entries[3].hash),
    ]
    assert auditor.verified() == 4


async def test_only_what_is_new_is_walked_and_all_of_it_once_a_week(
    purger: Purger, auditor: Auditor, monkeypatch: pytest.MonkeyPatch
) -> None:
    walked: list[int] = []

    def noting(page: list[LedgerEntry], *rest: object, **more: object) -> None:
        walked.extend(entry.number for entry in page)
        verify_chain(page, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(chain, "verify_chain", noting)
    monkeypatch.setattr(chain, "_ENTRIES_A_PAGE", 2)
    (contacts,) = await purger.finish_wave_one()
    await auditor.complaint()
    await purger.hear(answer(contacts, purger.clock.now()))
    await auditor.complaint()
    assert walked == [1, 2, 3, 4]

    purger.clock.advance(WALKED_WHOLE_EVERY - DAY)
    await auditor.complaint()
    assert walked == [1, 2, 3, 4]
    purger.clock.advance(DAY)
    await auditor.complaint()

    assert walked == [1, 2, 3, 4, 1, 2, 3, 4]


async def test_a_changed_entry_is_found(
    purger: Purger, auditor: Auditor, intruder: Intruder
) -> None:
    await purger.finish_wave_one()
    await intruder.run(
        """UPDATE ledger SET entry = replace(entry, '"content":3', '"content":0')
            WHERE number = 2"""
    )

    assert await auditor.complaint() == "ledger entry 2: its content was changed"
    assert await auditor.complaint() == "ledger entry 2: its content was changed"
    assert auditor.verified() == 0


async def test_an_old_entry_that_was_changed_is_found_within_a_week(
    purger: Purger, auditor: Auditor, intruder: Intruder
) -> None:
    await purger.finish_wave_one()
    assert await auditor.complaint() is None
    await intruder.run(
        """UPDATE ledger SET entry = replace(entry, '"content":3', '"content":0')
            WHERE number = 2"""
    )
    purger.clock.advance(WALKED_WHOLE_EVERY)

    assert await auditor.complaint() == "ledger entry 2: its content was changed"


@pytest.mark.parametrize("head", [True, False])
async def test_an_end_that_was_cut_off_is_found(
    purger: Purger, auditor: Auditor, intruder: Intruder, *, head: bool
) -> None:
    await purger.finish_wave_one()
    await auditor.complaint()
    await intruder.cut_off(after=2, head=head)

    assert await auditor.complaint() == "ledger entry 3: missing, but a checkpoint names it"


async def test_an_end_that_was_cut_off_with_what_was_noted_of_it_is_found_by_the_checkpoint(
    purger: Purger, auditor: Auditor, intruder: Intruder
) -> None:
    await purger.finish_wave_one()
    await auditor.complaint()
    await intruder.cut_off(after=2)
    await intruder.run("UPDATE ledger_check SET number = 0, hash = repeat('0', 64)")

    assert await auditor.complaint() == "ledger entry 3: missing, but a checkpoint names it"


async def test_without_a_file_of_checkpoints_a_cut_below_what_was_verified_is_found(
    purger: Purger, intruder: Intruder
) -> None:
    auditor = Auditor(purger, None)
    await purger.finish_wave_one()
    await auditor.complaint()
    await intruder.cut_off(after=2)

    assert await auditor.complaint() == "ledger entry 3: missing, but it was verified before"


async def test_a_gap_is_found(purger: Purger, auditor: Auditor, intruder: Intruder) -> None:
    await purger.finish_wave_one()
    await intruder.run("DELETE FROM ledger WHERE number = 1")

    assert await auditor.complaint() == "ledger entry 1: missing"


async def test_a_ledger_written_anew_with_the_real_key_is_found_by_the_checkpoint(
    purger: Purger, auditor: Auditor, intruder: Intruder, file: Path
) -> None:
    await purger.finish_wave_one()
    await auditor.complaint()
    await intruder.write_anew(count="0")
    entries = await purger.ledger()
    await intruder.run("UPDATE ledger_check SET number = 0, hash = repeat('0', 64)")

    assert await auditor.complaint() == "ledger entry 3: is not the one that a checkpoint names"

    # Whoever has the file finds it as well, without us.
    keys = purger.keys[-1].public_keys
    told = Ledger(tuple(entries), entries[-1].hash)
    with pytest.raises(NotVerified, match="not the one that a checkpoint names"):
        check_checkpoints(told, read_checkpoints_of(file), keys)


async def test_a_file_that_is_gone_is_missed_and_not_begun_anew(
    purger: Purger, auditor: Auditor, file: Path
) -> None:
    (contacts,) = await purger.finish_wave_one()
    await auditor.complaint()
    await purger.hear(answer(contacts, purger.clock.now()))
    await auditor.complaint()
    whole = content_of(file)
    assert whole is not None
    gone = "the checkpoint of entry 4 is gone from its file, or the file is"

    remove(file)
    assert await auditor.complaint() == gone
    assert await auditor.complaint() == gone
    assert content_of(file) is None

    for cut in ("", whole.splitlines(keepends=True)[0]):
        put(file, cut)
        assert await auditor.complaint() == gone
        assert content_of(file) == cut
    assert await Auditor(purger, None).complaint() == gone

    put(file, whole)
    assert await auditor.complaint() is None


async def test_a_person_who_has_looked_lets_checkpoints_begin_anew(
    purger: Purger, auditor: Auditor, file: Path
) -> None:
    await purger.finish_wave_one()
    await auditor.complaint()
    remove(file)
    assert await auditor.complaint() is not None

    connection = await asyncpg.connect(purger.roles.owner_url)
    try:
        await connection.execute(statement_of_the_readme())
    finally:
        await connection.close()

    assert await auditor.complaint() is None
    assert [each.number for each in read_checkpoints(file)] == [3]


def statement_of_the_readme() -> str:
    text = Path("services/purger/README.md").read_text(encoding="utf-8")
    [statement] = [part for part in text.split("`") if part.startswith("UPDATE ledger_check")]
    return statement


async def test_a_forged_checkpoint_is_found(purger: Purger, auditor: Auditor, file: Path) -> None:
    await purger.finish_wave_one()
    await auditor.complaint()
    original = content_of(file)
    assert original is not None
    told = json.loads(original)
    signature = told["signature"]
    for change, complaint in (
        ({"number": 2}, "ledger entry 2: its checkpoint's signature is not of the named key"),
        ({"hash": "ab" * 32}, "ledger entry 3: its checkpoint's signature is not of the named key"),
        ({"signature": "x"}, "ledger entry 3: its checkpoint's signature is not of the named key"),
        (
            {"key_id": "0" * 16},
            "ledger entry 3: its checkpoint is signed by a key that is not known",
        ),
        ({"signature": signature, "more": 1}, "line 1 of the checkpoints cannot be read"),
    ):
        put(file, json.dumps({**told, **change}) + "\n")
        assert await auditor.complaint() == complaint
    put(file, original[:40])
    assert await auditor.complaint() == "line 1 of the checkpoints cannot be read"
    put(file, original)
    assert await auditor.complaint() is None


async def test_checkpoints_outlive_the_key_that_signed_them(
    purger: Purger, auditor: Auditor, file: Path
) -> None:
    (contacts,) = await purger.finish_wave_one()
    await auditor.complaint()
    old = purger.keys[-1]
    purger.keys.append(LedgerKey(Ed25519PrivateKey.generate(), (old.private_key.public_key(),)))
    await purger.hear(answer(contacts, purger.clock.now()))

    assert await auditor.complaint() is None

    assert [each.key_id for each in read_checkpoints(file)] == [old.key_id, purger.keys[-1].key_id]
