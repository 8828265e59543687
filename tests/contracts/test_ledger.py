"""The chain of ledger entries, and every way to tamper with it that we can think of."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from typing import Any
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import ValidationError

from contracts.classes import DataClass
from contracts.ledger import (
    GENESIS,
    BrokenChain,
    EntryKind,
    LedgerEntry,
    LedgerHead,
    Receipt,
    StepProof,
    UnsealedEntry,
    entry_hash,
    seal,
    verify_chain,
)

PURGE = UUID("94785665-c63c-5ba3-8b05-c45dd5da2019")
TENANT = UUID("0198f2b6-7a40-7c3e-9d21-5b8e4f6a1c07")
AT = datetime(2027, 1, 31, 6, tzinfo=UTC)
OURS = Ed25519PrivateKey.from_private_bytes(bytes(32))
THEIRS = Ed25519PrivateKey.from_private_bytes(bytes([1]) * 32)
KEYS = {"ours": OURS.public_key()}


def a_receipt(**changes: Any) -> Receipt:
    step = StepProof(
        step="erase-config",
        owner="config",
        counts={DataClass.ERRORS: 2, DataClass.CONTENT: 7},
        data_map_hash="ab" * 32,
        erased_at=AT,
        open=False,
    )
    fields = {
        "stage": "erased",
        "receipt_code": "rcp_7Qm2Zt9XcV4bN8Ka",
        "steps": (step,),
        "deadline": AT,
        "erase_by": AT,
    }
    return Receipt.model_validate(fields | changes)


def unsealed(number: int, previous_hash: str, **changes: Any) -> UnsealedEntry:
    fields: dict[str, Any] = {
        "number": number,
        "kind": EntryKind.TENANT_ERASED,
        "at": AT,
        "purge_id": PURGE,
        "tenant_id": TENANT,
        "classes": (DataClass.CONTENT, DataClass.ERRORS),
        "previous_hash": previous_hash,
    }
    return UnsealedEntry.model_validate(fields | changes)


@cache
def a_chain(length: int = 5) -> tuple[LedgerEntry, ...]:
    entries: list[LedgerEntry] = []
    for number in range(1, length + 1):
        previous_hash = entries[-1].hash if entries else GENESIS
        receipt = {"kind": "receipt", "tenant_id": None, "receipt": a_receipt()}
        entry = unsealed(number, previous_hash, **(receipt if number % 2 == 0 else {}))
        entries.append(seal(entry, OURS, "ours"))
    return tuple(entries)


def head_of(entry: LedgerEntry) -> LedgerHead:
    return LedgerHead(number=entry.number, hash=entry.hash, cluster_id="cluster-1", at=AT)


def broken_at(
    entries: Sequence[LedgerEntry], head: LedgerHead | None = None, start_hash: str = GENESIS
) -> tuple[int, str]:
    with pytest.raises(BrokenChain) as caught:
        verify_chain(entries, KEYS, head=head, start_hash=start_hash)
    return caught.value.number, caught.value.reason


def test_an_untouched_chain_holds() -> None:
    verify_chain(a_chain(), KEYS)
    verify_chain(a_chain(), KEYS, head=head_of(a_chain()[-1]))
    verify_chain(a_chain(), KEYS, head=head_of(a_chain()[2]))


def test_a_chain_holds_after_the_wire() -> None:
    verify_chain([LedgerEntry.decode(entry.encode()) for entry in a_chain()], KEYS)
    verify_chain(
        [LedgerEntry.model_validate_json(entry.model_dump_json()) for entry in a_chain()], KEYS
    )


def test_a_chain_can_be_taken_up_where_one_left_off() -> None:
    _, second, *rest = a_chain()

    verify_chain(rest, KEYS, start_hash=second.hash, head=head_of(rest[-1]))
    assert broken_at(rest, start_hash="ab" * 32) == (3, "does not follow the one before")
    assert broken_at([rest[0], rest[2]], start_hash=second.hash) == (4, "found number 5")


@pytest.mark.parametrize(
    "change",
    [
        {"at": AT.replace(year=2028)},
        {"purge_id": TENANT},
        {"tenant_id": PURGE},
        {"classes": (DataClass.CONTENT,)},
        {"classes": (DataClass.ERRORS, DataClass.CONTENT)},
    ],
)
def test_a_changed_body_is_found(change: dict[str, Any]) -> None:
    one, two, three, *rest = a_chain()

    assert broken_at([one, two, three.model_copy(update=change), *rest]) == (
        3,
        "its content was changed",
    )


@pytest.mark.parametrize(
    "change",
    [
        {"stage": "closed"},
        {"receipt_code": "rcp_another_code_1"},
        {"steps": ()},
        {"deadline": AT.replace(year=2028)},
        {"erase_by": AT.replace(year=2028)},
    ],
)
def test_a_changed_receipt_is_found(change: dict[str, Any]) -> None:
    one, two, *rest = a_chain()
    forged = two.model_copy(update={"receipt": a_receipt(**change)})

    assert broken_at([one, forged, *rest]) == (2, "its content was changed")


def test_a_changed_body_with_a_fitting_hash_has_no_signature() -> None:
    one, two, three, *rest = a_chain()
    changed = three.model_copy(update={"purge_id": TENANT})
    forged = changed.model_copy(update={"hash": entry_hash(changed)})

    assert broken_at([one, two, forged, *rest]) == (3, "its signature is not of the named key")


@pytest.mark.parametrize("position", [0, 1, 2, 3])
def test_a_dropped_entry_is_found(position: int) -> None:
    entries = list(a_chain())
    del entries[position]

    assert broken_at(entries) == (position + 1, f"found number {position + 2}")


def test_a_reordered_chain_is_found() -> None:
    one, two, three, four, five = a_chain()

    assert broken_at([one, three, two, four, five]) == (2, "found number 3")


def test_an_entry_that_comes_twice_is_found() -> None:
    one, two, *rest = a_chain()

    assert broken_at([one, two, two, *rest]) == (3, "found number 2")


def test_a_dropped_entry_with_numbers_closed_up_is_found() -> None:
    one, _, three, *_ = a_chain()
    moved = seal(three.model_copy(update={"number": 2}), OURS, "ours")

    assert broken_at([one, moved]) == (2, "does not follow the one before")


def test_a_fork_is_found_where_the_chain_goes_on() -> None:
    one, two, three, four, five = a_chain()
    forked = seal(unsealed(3, two.hash, purge_id=TENANT), OURS, "ours")

    verify_chain([one, two, forked], KEYS)
    assert broken_at([one, two, forked, four, five]) == (4, "does not follow the one before")
    assert broken_at([one, two, three, forked]) == (4, "found number 3")


def test_a_fork_at_the_end_is_found_by_the_head() -> None:
    *rest, four, five = a_chain()
    forked = seal(unsealed(5, four.hash, purge_id=TENANT), OURS, "ours")

    assert broken_at([*rest, four, forked], head_of(five)) == (
        5,
        "is not the one that the head names",
    )


def test_a_cut_off_end_is_found_by_the_head_alone() -> None:
    *rest, last = a_chain()

    verify_chain(rest, KEYS)
    assert broken_at(rest, head_of(last)) == (5, "missing, but the head names it")
    assert broken_at([], head_of(last)) == (5, "missing, but the head names it")


def test_a_missing_beginning_is_found() -> None:
    assert broken_at(a_chain()[1:]) == (1, "found number 2")
    assert broken_at([seal(unsealed(1, "ab" * 32), OURS, "ours")]) == (
        1,
        "does not follow the one before",
    )


def test_an_empty_ledger_has_an_empty_head() -> None:
    empty = LedgerHead(number=0, hash=GENESIS, cluster_id="cluster-1", at=AT)

    verify_chain([], KEYS, head=empty)
    verify_chain(a_chain(), KEYS, head=empty)
    assert broken_at([], empty.model_copy(update={"hash": "ab" * 32})) == (
        0,
        "is not the one that the head names",
    )


def test_another_key_is_found() -> None:
    one, two, *rest = a_chain()

    assert broken_at([one, seal(two, THEIRS, "ours"), *rest]) == (
        2,
        "its signature is not of the named key",
    )
    assert broken_at([one, seal(two, THEIRS, "theirs"), *rest]) == (
        2,
        "signed by a key that is not known",
    )


def test_a_signature_of_another_entry_is_found() -> None:
    one, two, *rest = a_chain()
    swapped = two.model_copy(update={"signature": one.signature})

    assert broken_at([one, swapped, *rest]) == (2, "its signature is not of the named key")


def test_keys_may_change_along_the_chain() -> None:
    one, two, three = a_chain(3)
    renewed = [one, two, seal(three, THEIRS, "next")]

    verify_chain(renewed, {**KEYS, "next": THEIRS.public_key()})


def test_anyone_can_compute_the_hash_from_the_bytes_on_the_wire() -> None:
    for entry in a_chain():
        body = drop_nulls(json.loads(entry.encode()))
        for name in ("hash", "signature", "key_id"):
            del body[name]
        canonical = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False)

        assert sha256(canonical.encode()).hexdigest() == entry.hash


def drop_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: drop_nulls(each) for key, each in value.items() if each is not None}
    return [drop_nulls(each) for each in value] if isinstance(value, list) else value


def test_the_hash_stays_what_it_was_in_earlier_releases() -> None:
    assert entry_hash(unsealed(1, GENESIS)) == (
        "264910a7eace4c28c60af69c2251c05182fe6a88c5e78d38385bcddeae3ab601"
    )


def test_the_same_instant_in_another_zone_has_the_same_hash() -> None:
    shifted = datetime.fromisoformat("2027-01-31T15:00:00+09:00")

    assert entry_hash(unsealed(1, GENESIS, at=shifted)) == entry_hash(unsealed(1, GENESIS))


@pytest.mark.parametrize("where", ["entry", "receipt", "step"])
def test_a_field_of_a_later_version_is_covered_by_the_hash(where: str) -> None:
    body = json.loads(a_chain()[1].encode())
    part = {"entry": body, "receipt": body["receipt"], "step": body["receipt"]["steps"][0]}[where]
    part["colour"] = "green"
    later = seal(LedgerEntry.model_validate(body), OURS, "ours")
    previous_hash = a_chain()[0].hash

    read = LedgerEntry.decode(later.encode())
    verify_chain([read], KEYS, start_hash=previous_hash)
    changed = LedgerEntry.decode(later.encode().replace(b"green", b"white"))

    assert broken_at([changed], start_hash=previous_hash) == (2, "its content was changed")


def test_a_null_and_a_missing_field_have_the_same_hash() -> None:
    body = drop_nulls(json.loads(a_chain()[0].encode()))

    assert "receipt" not in body
    verify_chain([LedgerEntry.model_validate(body)], KEYS)


@pytest.mark.parametrize(
    "wrong",
    [
        {"number": 0},
        {"tenant_id": None},
        {"receipt": a_receipt()},
        {"kind": "receipt"},
        {"kind": "receipt", "receipt": a_receipt()},
        {"kind": "receipt", "tenant_id": None},
        {"previous_hash": "AB" * 32},
        {"classes": (DataClass.PLUMBING,)},
    ],
)
def test_an_entry_that_makes_no_sense_is_never_made(wrong: dict[str, Any]) -> None:
    good = unsealed(1, GENESIS).model_dump()

    with pytest.raises(ValidationError):
        UnsealedEntry.model_validate(good | wrong)


def test_an_entry_knows_its_message_type() -> None:
    assert [entry.type_name for entry in a_chain(2)] == ["tenant-erased", "erasure-receipted"]
