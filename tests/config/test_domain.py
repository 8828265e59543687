from typing import Any
from uuid import uuid4

import pytest
from pydantic import ValidationError

from contracts.classes import DataClass
from contracts.tenants import ClassState, Platform, TenantStatus
from services.config.domain.access import Access, Tenant, access_to_content
from services.config.domain.datasources import Datasource
from services.config.domain.things import Sort, cursor_after, place_of
from tests.config.builders import a_datasource


def a_known_tenant(**others: Any) -> Tenant:
    given: dict[str, Any] = {
        "tenant_id": uuid4(),
        "status": TenantStatus.INSTALLED,
        "platform": Platform.CONNECT,
        "content": ClassState.LIVE,
    }
    return Tenant(**(given | others))


@pytest.mark.parametrize(
    ("tenant", "erased", "access"),
    [
        (a_known_tenant(), (), Access.OPEN),
        (a_known_tenant(), (DataClass.CONTACTS,), Access.OPEN),
        (a_known_tenant(), (DataClass.CONTENT,), Access.GOING),
        (None, (DataClass.CONTENT,), Access.GOING),
        (None, (), Access.UNKNOWN),
        (a_known_tenant(content=ClassState.PURGING), (), Access.GOING),
        (a_known_tenant(content=ClassState.ERASED), (), Access.GOING),
        (a_known_tenant(status=TenantStatus.UNINSTALLED), (), Access.LEFT),
        (a_known_tenant(status=TenantStatus.PURGED), (), Access.LEFT),
        (a_known_tenant(platform=Platform.FORGE), (), Access.READABLE),
        (a_known_tenant(platform=Platform.FORGE), (DataClass.CONTENT,), Access.GOING),
        (a_known_tenant(platform=Platform.FORGE, status=TenantStatus.UNINSTALLED), (), Access.LEFT),
        (a_known_tenant(platform=Platform.DATACENTER), (), Access.KEPT_ELSEWHERE),
    ],
)
def test_content_is_open_to_installed_connect_tenants_alone(
    tenant: Tenant | None, erased: tuple[DataClass, ...], access: Access
) -> None:
    assert access_to_content(tenant, frozenset(erased)) is access


def test_credentials_are_not_in_what_a_datasource_prints() -> None:
    wanted = Datasource.model_validate(a_datasource())
    assert "correct-horse" not in f"{wanted!r} {wanted} {wanted.model_dump_json()}"


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"name": "n" * 201},
        {"name": "line\nbreak"},
        {"name": "nul\x00"},
        {"kind": "ftp"},
        {"url": "db.customer.test"},
        {"url": "https://db.customer.test"},
        {"url": "postgresql://user:pass@db.customer.test/sales"},
        {"url": "postgresql://db.customer.test/sales?password=x"},
        {"url": "postgresql://db.customer.test/sales#x"},
        {"url": "postgresql://db.customer.test:99999/sales"},
        {"url": "postgresql://[::1/sales"},
        {"options": {"password": "x"}},
        {"options": {"apiKey": "x"}},
        {"options": {"nested": {"a": 1}}},
        {"options": {"ratio": 0.5}},
        {"options": {"nul": "\x00"}},
        {"options": {"huge": 10**30}},
        {"options": {f"o{n}": 1 for n in range(51)}},
        {"credentials": ""},
        {"credentials": "c" * 8193},
        {"tenant_id": str(uuid4())},
    ],
)
def test_a_datasource_that_is_wrong_is_refused_without_repeating_it(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as refused:
        Datasource.model_validate(a_datasource(**wrong))
    assert "pass@" not in str(refused.value)


def test_a_replacement_keeps_secret_that_it_does_not_mention() -> None:
    silent = a_datasource()
    del silent["credentials"]
    assert Datasource.model_validate(silent).keeps_secret
    assert not Datasource.model_validate(a_datasource(credentials=None)).keeps_secret


@pytest.mark.parametrize(
    ("key", "sort"), [("Sales", Sort.NAME), ("שלום 🙂" * 20, Sort.NAME), (-(2**40), Sort.ORDER)]
)
def test_a_cursor_leads_back_to_its_place(key: str | int, sort: Sort) -> None:
    thing_id = uuid4()
    assert place_of(cursor_after(key, thing_id), sort) == (key, thing_id)
    for wrong in ("", "x", "é", "AAAA", "A" * 64, cursor_after(2**63, thing_id)):
        with pytest.raises(ValueError):
            place_of(wrong, Sort.ORDER)
    with pytest.raises(ValueError):
        place_of(cursor_after("a\x00", thing_id), Sort.NAME)
