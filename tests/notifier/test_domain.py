from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from pydantic import ValidationError

from contracts.classes import TENANT_CLASSES, DataClass
from contracts.tenants import ClassState
from services.notifier.domain.deliveries import message_id, pause_after
from services.notifier.domain.people import (
    Access,
    ContactInput,
    Tenant,
    access_to_contacts,
    one_form,
)
from services.notifier.domain.receipts import erased_classes
from tests.notifier.builders import NOW, a_step


def a_contact(**others: Any) -> dict[str, Any]:
    given = {"tenant_id": uuid4(), "name": "Zoë O'Neil", "address": "Zoe.ONeil+apps@Ex-1.example"}
    return given | others


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"name": "n" * 201},
        {"name": "Ada\r\nBcc: all@example.com"},
        {"name": "Ada\u202e"},
        {"address": "ada"},
        {"address": "ada@localhost"},
        {"address": "ada@example.com\r\nBcc: all@example.com"},
        {"address": "ada@example.com\n"},
        {"address": "<ada@example.com>"},
        {"address": "ada@example.com, bob@example.com"},
        {"address": '"ada b"@example.com'},
        {"address": "adä@example.com"},
        {"address": f"{'a' * 65}@example.com"},
        {"address": f"a@{'b' * 60}.{'c' * 60}.{'d' * 60}.{'e' * 60}.{'f' * 20}.com"},
        {"phone": "1"},
    ],
)
def test_a_contact_that_cannot_be_written_to_is_refused(wrong: dict[str, Any]) -> None:
    ContactInput.model_validate(a_contact())
    with pytest.raises(ValidationError):
        ContactInput.model_validate(a_contact(**wrong))


def test_a_contact_does_not_print_itself() -> None:
    wanted = ContactInput.model_validate(a_contact())
    assert "Zo" not in repr(wanted)


def test_one_address_has_one_form() -> None:
    assert one_form(" Ada@Example.COM ") == one_form("ada@example.com")
    assert one_form("ada@example.com") != one_form("ada+x@example.com")


LIVE = Tenant(UUID(int=1), "com.example.app", ClassState.LIVE)
PURGING = Tenant(UUID(int=1), "com.example.app", ClassState.PURGING)


@pytest.mark.parametrize(
    ("tenant", "erased", "access"),
    [
        (LIVE, (), Access.OPEN),
        (LIVE, (DataClass.CONTENT,), Access.OPEN),
        (LIVE, (DataClass.CONTACTS,), Access.GOING),
        (None, (DataClass.CONTACTS,), Access.GOING),
        (PURGING, (), Access.GOING),
        (None, (), Access.UNKNOWN),
    ],
)
def test_people_are_kept_of_tenants_whose_contacts_live(
    tenant: Tenant | None, erased: tuple[DataClass, ...], access: Access
) -> None:
    assert access_to_contacts(tenant, frozenset(erased)) is access


def test_pauses_double_from_a_minute_to_four_hours() -> None:
    minutes = [pause_after(attempt) // timedelta(minutes=1) for attempt in range(1, 12)]
    assert minutes == [1, 2, 4, 8, 16, 32, 64, 128, 240, 240, 240]
    assert pause_after(100_000) == timedelta(hours=4)


def test_a_message_id_is_the_same_each_time_and_tells_nothing() -> None:
    def keyed_hash(purpose: str, told: bytes) -> bytes:
        return (purpose.encode() + told)[::-1][:32]

    campaign = uuid4()
    made = message_id(keyed_hash, campaign, b"ada", "vendor.example")
    assert made == message_id(keyed_hash, campaign, b"ada", "vendor.example")
    assert made != message_id(keyed_hash, campaign, b"bob", "vendor.example")
    assert made != message_id(keyed_hash, uuid4(), b"ada", "vendor.example")
    assert made.endswith("@vendor.example>")


def test_a_receipt_has_a_line_for_each_class_and_each_open_step() -> None:
    counts = dict.fromkeys(TENANT_CLASSES, 2)
    lines = erased_classes(
        (
            a_step("erase-config", "config", counts),
            a_step("erase-jira", "notifier", {}, erased_at=None, open=True),
            a_step("erase-late", "config", {DataClass.ERRORS: 1}, open=True),
            # What the letter says of itself: it goes out before the contacts are forgotten.
            a_step("erase-contacts", "notifier", {}, erased_at=None, open=True),
        )
    )
    assert [line.data_class for line in lines] == [*TENANT_CLASSES, "erase-jira", "errors"]
    assert [line.erased_at for line in lines] == [NOW] * 5 + [None, None]
    assert all(line.what for line in lines)


def test_what_a_person_erased_uncounted_is_not_called_nothing() -> None:
    none, some = {DataClass.TICKETS: 0}, {DataClass.TICKETS: 3}
    lines = erased_classes(
        (
            a_step("erase-notifier", "notifier", none, by="person"),
            a_step("erase-notifier", "notifier", some, by="person"),
            a_step("erase-notifier", "notifier", none),
        )
    )
    assert [line.records for line in lines] == [None, 3, 0]
