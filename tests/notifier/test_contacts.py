"""People come from the Marketplace's report, and go when it names them no longer."""

from collections.abc import AsyncIterator
from datetime import timedelta
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from connect.marketplace import ReportAway
from contracts.classes import DataClass
from contracts.suppressions import SuppressionState
from contracts.tenants import ClassState
from services.notifier.domain.campaigns import Kind
from services.notifier.domain.contacts import language_of, segment
from services.notifier.domain.people import ADDRESS_INDEX, Language, Tenant
from services.notifier.domain.suppressions import EVERYTHING, Reason
from services.notifier.store.deliveries import suppressed_among
from services.notifier.store.suppressions import suppressions_of
from tests.notifier.builders import Notifier, Purge
from tests.notifier.office import APP, Office, a_person, a_row, open_office
from tests.support.chassis import suppressed

DAY = timedelta(days=1)
EMPTY: dict[str, Any] = {"email": "RTBF", "name": "RTBF"}


@pytest.fixture
async def office(notifier: Notifier, tmp_path: Path) -> AsyncIterator[Office]:
    async with open_office(notifier, tmp_path) as opened:
        yield opened


def index_of(office: Office, address: str) -> bytes:
    return office.notifier.keys.blind_index(ADDRESS_INDEX, address)


def naming(technical: Any, **others: Any) -> dict[str, Any]:
    """A row of licence 1 with this in place of its technical contact."""
    details = {"country": "France", "technicalContact": technical}
    return a_row("1", contactDetails=details, **others)


@pytest.mark.parametrize(
    ("country", "language"),
    [
        ("Germany", Language.GERMAN),
        (" austria\r", Language.GERMAN),
        ("CH", Language.GERMAN),
        ("France", Language.ENGLISH),
        ("", Language.ENGLISH),
        (None, Language.ENGLISH),
    ],
)
def test_a_country_tells_the_language(country: str | None, language: Language) -> None:
    assert language_of(country) is language


def test_equal_segments_are_equal() -> None:
    assert segment(" Jira  Software ") == segment("jira software") == "jira software"
    assert segment(None) is None


async def test_people_are_kept_sealed_once_with_their_roles_and_language(office: Office) -> None:
    tenant_id = await office.tenant("SEN-1")
    office.holds(
        a_row("1", "ada", "bob", "paul", country="Germany"),
        a_row("9", "stranger"),
        a_row("3", "other", addonKey="com.example.another", licenseId="SEN-1"),
    )
    office.holds(a_row("2", "bob", licenseId="SEN-1"))

    assert await office.read() == 3

    assert await office.addresses(tenant_id) == [
        "ada@c.example",
        "bob@c.example",
        "paul@c.example",
    ]
    audience = await office.audience(tenant_id)
    assert sorted(roles for roles, _ in audience) == [
        ["billing", "technical"],
        ["partner"],
        ["technical"],
    ]
    row = await office.notifier.runtime.fetchrow(
        "SELECT product, edition, region FROM tenants WHERE tenant_id = $1", tenant_id
    )
    assert row is not None
    assert tuple(row) == ("jira", "premium", "emea")
    stored = await office.notifier.everything()
    for private in ("Ada", "c.example", "Secret Street", "555", "Germany", "Customer"):
        assert private not in stored


async def test_the_same_report_again_changes_nobody(office: Office) -> None:
    tenant_id = await office.tenant("1")
    office.holds(a_row("1", "ada"))
    await office.read()
    before = [row["contact_id"] for row in await office.notifier.contacts(tenant_id)]
    assert await office.read() is None
    office.notifier.clock.advance(DAY)

    assert await office.read() == 1
    assert [row["contact_id"] for row in await office.notifier.contacts(tenant_id)] == before


async def test_who_is_named_no_longer_goes_with_a_report_of_everything_alone(
    office: Office,
) -> None:
    tenant_id = await office.tenant("1")
    by_hand = await office.notifier.post(
        tenant_id=str(tenant_id), name="Hand", address="hand@c.example"
    )
    assert by_hand.status_code == 201
    office.holds(a_row("1", "ada", "bob"))
    await office.read()

    office.holds(a_row("1", "eve"))
    office.notifier.clock.advance(DAY)
    await office.read()
    assert await office.addresses(tenant_id) == [
        f"{name}@c.example" for name in ("ada", "bob", "eve", "hand")
    ]

    office.notifier.clock.advance(7 * DAY)
    await office.read()
    assert await office.addresses(tenant_id) == ["eve@c.example", "hand@c.example"]


@pytest.mark.parametrize("trouble", ["unreadable row", "broken off", "no licence of theirs"])
async def test_a_report_that_is_not_whole_forgets_nobody(office: Office, trouble: str) -> None:
    tenant_id = await office.tenant("1")
    office.holds(a_row("1", "ada"))
    await office.read()
    office.notifier.clock.advance(7 * DAY)
    match trouble:
        case "unreadable row":
            office.holds(a_row("1", "eve"), a_row("2", status="asleep"))
            await office.read()
        case "broken off":
            office.has(broken=100)
            with pytest.raises(ReportAway):
                await office.read()
        case _:
            office.marketplace._rows.clear()
            await office.read()

    assert "ada@c.example" in await office.addresses(tenant_id)


async def test_a_person_who_stays_in_one_role_loses_the_other(office: Office) -> None:
    tenant_id = await office.tenant("1")
    office.holds(a_row("1", "ada", "ada"))
    await office.read()
    assert await office.audience(tenant_id) == [(["billing", "technical"], "en")]
    office.holds(a_row("1", "ada"))
    office.notifier.clock.advance(7 * DAY)
    await office.read()
    assert await office.audience(tenant_id) == [(["technical"], "en")]


@pytest.mark.parametrize(
    "person",
    [
        a_person("quentin", email="no address"),
        a_person("quentin", email="quentin@localhost"),
        a_person("quentin", email="quentin@c.example\r\nBcc: all@c.example"),
        a_person("quentin", email="e" * 250 + "@c.example"),
        a_person("quentin", email=["quentin@c.example"]),
        a_person("quentin", name="Quentin\r\nBcc: all@c.example"),
        a_person("quentin", name="e" * 100_000),
        "quentin@c.example",
    ],
    ids=["none", "no domain", "header", "long", "list", "header in name", "long name", "text"],
)
async def test_who_cannot_be_written_to_is_counted_not_kept_and_not_logged(
    office: Office, person: Any
) -> None:
    tenant_id = await office.tenant("1")
    office.holds(a_row("1", "ada"))
    await office.read()
    office.holds(naming(person))
    office.notifier.clock.advance(7 * DAY)

    with capture_logs() as logs:
        assert await office.read() == 0

    # The licence still names somebody, and we cannot tell that it is another.
    assert await office.addresses(tenant_id) == ["ada@c.example"]
    assert office.figure("people_report_contacts_refused") == 1
    assert "uentin" not in str(logs).lower()


async def test_a_person_without_a_name_is_called_by_their_address(office: Office) -> None:
    tenant_id = await office.tenant("1")
    office.holds(naming({"email": "ada@c.example", "name": "null\r"}))
    await office.read()
    assert await office.notifier.people(tenant_id) == [("ada@c.example", "ada@c.example")]


async def test_who_was_erased_at_atlassian_goes_at_once_everywhere_and_never_comes_back(
    office: Office,
) -> None:
    one, two = await office.tenant("1"), await office.tenant("2")
    office.holds(a_row("1", "ada", "bob"), a_row("2", "ada", "eve"))
    await office.read()
    office.notifier.clock.advance(DAY)
    office.holds(naming(EMPTY))

    await office.read()

    assert await office.addresses(one) == ["bob@c.example"]
    assert await office.addresses(two) == ["eve@c.example"]
    ada = index_of(office, "ada@c.example")
    async with office.notifier.units.begin() as uow:
        assert await suppressions_of(uow.connection, ada) == {(EVERYTHING, Reason.ERASED)}
    said = await office.notifier.worker.fetchval(
        "SELECT payload FROM outbox WHERE record_key = $1", ada.hex()
    )
    assert SuppressionState.decode(said).suppressions[0].reason == "erased"

    office.notifier.clock.advance(7 * DAY)
    await office.read()
    assert await office.addresses(two) == ["eve@c.example"]


async def test_who_came_before_the_erased_person_is_not_erased_with_them(office: Office) -> None:
    tenant_id = await office.tenant("1")
    office.holds(a_row("1", "ada"))
    await office.read()
    for row in (a_row("1", "bob"), naming(EMPTY)):
        office.notifier.clock.advance(DAY)
        office.holds(row)
        await office.read()
    assert await office.addresses(tenant_id) == ["ada@c.example"]


async def test_partners_get_no_news_and_what_is_owed_to_everybody(office: Office) -> None:
    await office.tenant("1")
    await office.tenant("2")
    office.holds(a_row("1", "ada", "bob", "paul"), a_row("2", "paul"))
    await office.read()
    async with office.notifier.units.begin() as uow:
        names = {index_of(office, f"{name}@c.example"): name for name in ("ada", "bob", "paul")}
        kinds = (Kind.PRODUCT_UPDATE, Kind.NEW_PRODUCT, Kind.POLICY_CHANGE)
        found = await suppressed_among(uow.connection, set(product(names, kinds)))
    kept_back = {(names[index], kind) for index, kind in found}
    assert kept_back == {("paul", Kind.PRODUCT_UPDATE), ("paul", Kind.NEW_PRODUCT)}


@pytest.mark.parametrize("contacts", [ClassState.PURGING, ClassState.ERASED])
async def test_a_tenant_on_its_way_out_gets_nobody(office: Office, contacts: ClassState) -> None:
    tenant_id = await office.tenant("1")
    await office.notifier.know(Tenant(tenant_id, APP, contacts))
    office.holds(a_row("1", "ada", "bob"))
    assert await office.read() == 0
    assert await office.addresses(tenant_id) == []
    assert suppressed(office.notifier.units) == {("import", "contacts"): 2}


async def test_a_guarded_tenant_gets_nobody_whatever_its_state_says(office: Office) -> None:
    tenant_id = await office.tenant("1")
    await office.notifier.runtime.execute(
        """
        INSERT INTO erased_tenants (tenant_id, data_class, ledger_number, purge_id, erased_at)
        VALUES ($1, $2, 1, $1, $3)
        """,
        tenant_id,
        DataClass.CONTACTS,
        office.notifier.clock.now(),
    )
    office.holds(a_row("1", "ada"))
    await office.read()
    assert await office.addresses(tenant_id) == []


async def test_a_person_of_two_tenants_stays_with_the_one_that_lives(office: Office) -> None:
    gone, living = await office.tenant("1"), await office.tenant("2")
    office.holds(a_row("1", "ada"), a_row("2", "ada"))
    await office.read()
    notifier = office.notifier

    await notifier.start_wave_2(gone)
    await notifier.mail.run()
    assert await notifier.erase() == 1

    assert await notifier.contacts(gone) == []
    assert await office.addresses(living) == ["ada@c.example"]
    left = await notifier.runtime.fetch("SELECT DISTINCT tenant_id FROM licence_contacts")
    assert [row["tenant_id"] for row in left] == [living]


async def test_a_tenant_heard_of_meanwhile_is_not_left_waiting_for_a_week(office: Office) -> None:
    office.holds(a_row("1", "ada", lastUpdated="2026-01-01"), a_row("2", "bob"))
    await office.tenant("2")
    await office.read()
    office.notifier.clock.advance(timedelta(hours=1))
    late = await office.tenant("1")
    assert await office.read() is None
    office.notifier.clock.advance(DAY)

    await office.read()
    assert await office.addresses(late) == ["ada@c.example"]


async def test_a_reader_that_died_is_taken_over_after_its_lease(office: Office) -> None:
    await office.tenant("1")
    office.holds(a_row("1", "ada"))
    assert await office.jobs._begin() is not None
    assert await office.read() is None
    office.notifier.clock.advance(timedelta(minutes=46))
    assert await office.read() == 1


async def test_people_who_move_stay_beside_their_licences(office: Office) -> None:
    notifier = office.notifier
    source, target = await office.tenant("1"), await office.tenant("2")
    office.holds(a_row("1", "ada"))
    await office.read()
    purge = Purge(source)
    await notifier.obey(purge.wave_2(target))
    assert await notifier.move_people() == 1

    stands = await notifier.runtime.fetch(
        "SELECT number, role FROM licence_contacts WHERE tenant_id = $1", target
    )
    assert [tuple(row) for row in stands] == [("1", "technical")]


async def test_figures_name_roles_and_reasons_and_nobody(office: Office) -> None:
    await office.tenant("1")
    await office.tenant("2")
    office.holds(a_row("1", "ada", "bob"), a_row("3", status="odd"))
    await office.read()
    await office.jobs.measure()

    assert office.figure("contacts", role="technical") == 1
    assert office.figure("contacts", role="partner") == 0
    assert office.figure("tenants_without_contact") == 1
    assert office.figure("people_report_rows_unreadable") == 1
    assert office.figure("people_report_age_seconds") == 0
    assert office.figure("suppressed_addresses", reason="erased") == 0
