"""The pages on which staff find a tenant; what a customer is called is not for every role."""

from typing import Any
from uuid import UUID, uuid4

import pytest

from chassis.staff.people import Person, Role, present
from devstack.atlassian import Site
from services.installer.domain.searches import Search, read_search
from tests.installer.conftest import Installer

PAGE = {"accept": "text/html"}
TENANT = UUID("01930000-0000-7000-8000-000000000001")


def at(host: str) -> tuple[str, ...]:
    return (f"https://{host}", f"https://{host}/wiki", f"https://{host}/jira")


@pytest.mark.parametrize(
    ("typed", "wanted"),
    [
        (f" {TENANT} ", Search(tenant_id=TENANT)),
        ("Customer.atlassian.net", Search(sites=at("customer.atlassian.net"))),
        ("https://customer.atlassian.net/wiki/x?y", Search(sites=at("customer.atlassian.net"))),
        ("SEN-12345678", Search(number="SEN-12345678")),
        ("12345678", Search(number="12345678")),
        ("e-aaa-bbb-ccc-ddd", Search(number="E-AAA-BBB-CCC-DDD")),
        ("", Search()),
        ("customer", Search()),
        ("%", Search()),
        ("a\x00b.example", Search()),
        ("http://[", Search()),
        ("x" * 10_000, Search()),
        ("'; DROP TABLE tenants; --", Search()),
    ],
)
def test_what_was_typed_is_read_as_id_site_or_number(typed: str, wanted: Search) -> None:
    assert read_search(typed) == wanted


async def find(installer: Installer, typed: str) -> str:
    answer = await installer.http.post(
        f"{installer.url}/staff/tenants/search",
        data={"typed": typed},
        headers=PAGE | {"sec-fetch-site": "same-origin"},
    )
    assert answer.status_code == 200
    return answer.text


async def test_a_tenant_is_found_by_its_site_its_number_and_its_id(
    installer: Installer, site: Site
) -> None:
    tenant_id = await installer.installed(site)
    for typed in (site.base_url, "SEN-12345678", "12345678", str(tenant_id)):
        assert f"/staff/tenants/{tenant_id}" in await find(installer, typed), typed
    assert "Nobody is found by that" in await find(installer, "SEN-87654321")
    listed = await installer.http.get(f"{installer.url}/staff/tenants", headers=PAGE)
    assert f"staff/tenants/{tenant_id}" in listed.text


async def test_whose_purge_has_begun_is_found_by_the_id_alone(
    installer: Installer, site: Site
) -> None:
    tenant_id = await installer.installed(site)
    await installer.database.runtime.execute(
        "UPDATE installations SET live = false WHERE tenant_id = $1", tenant_id
    )
    assert "Nobody is found by that" in await find(installer, site.base_url)
    assert str(tenant_id) in await find(installer, str(tenant_id))


@pytest.mark.parametrize(
    ("role", "names"),
    [(Role.SUPPORT, True), (Role.PRIVACY, True), (Role.DEVELOPER, False), (Role.OPERATOR, False)],
)
async def test_what_a_customer_is_called_only_some_roles_read(
    installer: Installer, site: Site, monkeypatch: pytest.MonkeyPatch, *, role: Role, names: bool
) -> None:
    tenant_id = await installer.installed(site)
    person = Person("ada", "Ada", frozenset({role}))

    async def whose(*_: Any) -> Person:
        return person

    monkeypatch.setattr("chassis.staff.door.Door.person_of", whose)
    page = await installer.http.get(f"{installer.url}/staff/tenants/{tenant_id}", headers=PAGE)
    assert page.status_code == 200
    assert "installed" in page.text
    assert (site.base_url in page.text) == names
    assert ("SEN-12345678" in page.text) == names
    assert present.get(None) is None


async def test_an_unknown_tenant_has_a_page_that_says_so(installer: Installer) -> None:
    page = await installer.http.get(f"{installer.url}/staff/tenants/{uuid4()}", headers=PAGE)
    assert page.status_code == 404
    assert "There is no such tenant" in page.text
    for odd in ("x", "0"):
        page = await installer.http.get(f"{installer.url}/staff/tenants/{odd}", headers=PAGE)
        assert page.status_code == 404
