"""A customer's own data in the app: taken out, put back, looked at, and its erasure asked for."""

import os
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
from playwright.async_api import expect

from tests.support.browser import browser
from tests.support.journey import Travellers, entrust, erasure_request, until_it_sees
from tests.support.visits import Visit, Visits, visit

__all__ = ["browser", "visit"]


async def open_screen(seen: Visit, name: str) -> None:
    await seen.app.get_by_role("link", name=name, exact=True).click()
    await expect(seen.app.get_by_role("heading", level=2, name=name)).to_be_focused()


async def test_everything_goes_out_as_a_file_and_comes_back_after_it_was_shown(
    customer: Travellers, visit: Visits, tmp_path: Path
) -> None:
    acme, other = customer("acme"), customer("other")
    given = await entrust(acme)
    await other.install()
    seen = await visit(acme)
    await seen.until_ready()
    await open_screen(seen, "Export and import")
    async with seen.page.expect_download() as started:
        await seen.app.get_by_role("button", name="Download the ZIP file").press("Enter")
    file = tmp_path / "export.zip"
    await (await started.value).save_as(file)
    await expect(seen.app.locator("#export-told")).to_contain_text("your browser's downloads")
    with ZipFile(file) as archive:
        told = str([archive.read(name) for name in archive.namelist()])
    assert "source 0" in told
    assert not any(password in told for password in given.passwords)

    there = await visit(other)
    await there.until_ready()
    await open_screen(there, "Export and import")
    await there.app.get_by_label("ZIP file").set_input_files(file)
    await there.app.get_by_role("button", name="Show what would change").press("Enter")
    result = there.app.locator("#import-result")
    await expect(result).to_contain_text("source 1")
    assert await other.datasources() == []
    await there.app.get_by_role("button", name="Import the file").press("Enter")
    await expect(result).to_contain_text("Imported: 2 created, 0 replaced.")
    assert {each["name"] for each in await other.datasources()} == {"source 0", "source 1"}

    broken = tmp_path / "broken.zip"
    broken.write_bytes(b"no zip")
    await there.app.get_by_label("ZIP file").set_input_files(broken)
    await expect(result).to_be_empty()
    await there.app.get_by_role("button", name="Show what would change").click()
    await expect(result.get_by_role("alert")).to_contain_text("cannot be imported")
    assert there.errors == seen.errors == []


async def test_erasure_is_asked_for_by_typed_words_and_withdrawn(
    customer: Travellers, visit: Visits
) -> None:
    acme = customer("initech")
    await entrust(acme)
    session = await acme.open_session()
    seen = await visit(acme)
    await seen.until_ready()
    await open_screen(seen, "Your data")
    field = seen.app.get_by_label("To go on, type")
    await field.fill("erase")
    await field.press("Enter")
    await expect(seen.app.get_by_text("Nothing has changed.").first).to_be_visible()
    assert (await erasure_request(acme, session, "GET"))["stage"] == "none"
    await seen.app.get_by_label("To go on, type").fill("ERASE EVERYTHING")
    await seen.app.get_by_role("button", name="Ask for erasure").press("Enter")
    withdraw = seen.app.get_by_role("button", name="Withdraw it, keep everything")
    await expect(withdraw).to_be_visible()
    await until_it_sees(acme, session, "asked", planned=True)
    await withdraw.press("Enter")
    await expect(withdraw).to_be_hidden()
    await until_it_sees(acme, session, "none")
    assert seen.errors == []


@pytest.mark.parametrize("theme", ["light", "dark"])
async def test_the_screens_are_for_everybody(
    customer: Travellers, visit: Visits, theme: str
) -> None:
    acme = customer("acme")
    await acme.install()
    locale = "en_US" if theme == "light" else "de_DE"
    seen = await visit(acme, color_scheme=theme, locale_of_site=locale)
    await seen.until_ready()
    for path, name in (("transfer", "export-import"), ("your-data", "your-data")):
        await seen.run(f"location.hash = '#/{path}'")
        await expect(seen.app.locator(f"article[data-path='{path}']")).to_be_visible()
        if path == "your-data":
            await expect(seen.app.locator("[data-receipt-form]")).to_be_visible()
            await seen.app.locator("details.stores > summary").click()
        await seen.is_for_everybody()
        if folder := os.environ.get("KEEPWORD_PICTURES"):
            await seen.page.set_viewport_size({"width": 900, "height": 3900})
            await seen.page.screenshot(path=f"{folder}/app-{name}-{theme}.png")


async def test_a_page_tells_which_screens_were_used_and_nothing_else(
    customer: Travellers, visit: Visits
) -> None:
    acme = customer("acme")
    await acme.install()
    seen = await visit(acme)
    await seen.until_ready()
    await open_screen(seen, "Your data")
    async with seen.page.expect_response("**/api/v1/usage") as answered:
        await seen.run(
            "Object.defineProperty(document, 'hidden', { value: true });"
            "document.dispatchEvent(new Event('visibilitychange'))"
        )
    answer = await answered.value
    assert answer.status == 204
    told: Any = answer.request.post_data_json
    assert set(told) == {"batch_id", "uses"}
    assert {"feature": "your-data", "uses": 1} in told["uses"]
    assert {each["feature"] for each in told["uses"]} <= {"datasources", "your-data"}


async def test_an_administrator_names_who_gets_the_receipt_and_nobody_else_learns_it(
    customer: Travellers, visit: Visits
) -> None:
    acme = customer("umbrella")
    await entrust(acme)
    seen = await visit(acme)
    await seen.until_ready()
    await open_screen(seen, "Your data")
    part = seen.app.get_by_role("region", name="Who gets the receipt")
    await expect(part.get_by_text("Nobody is named.")).to_be_visible()
    field = part.get_by_label("Mail address")
    await field.fill("nobody at all")
    await field.press("Enter")
    await expect(field).to_have_attribute("aria-invalid", "true")
    await expect(part.get_by_text("That is no address")).to_be_visible()
    await field.fill("auditor@umbrella.example")
    async with seen.page.expect_request(
        lambda request: request.method == "PUT" and request.url.endswith("/receipt-address")
    ) as sent:
        await field.press("Enter")
    assert (await sent.value).url.startswith(acme.stack.endpoints.notifier)
    await expect(part.get_by_text("An address is named since:")).to_be_visible()
    await expect(field).to_have_value("")
    await expect(field).to_be_focused()
    await expect(seen.app.locator("#said")).to_have_text("It is named.")
    assert "auditor" not in await seen.app.locator("body").inner_text()
    assert await acme.traces_of("auditor@umbrella.example") == []

    other = await visit(acme, administers=False)
    await other.until_ready()
    await open_screen(other, "Your data")
    theirs = other.app.get_by_role("region", name="Who gets the receipt")
    await expect(theirs.get_by_text("An address is named since:")).to_be_visible()
    await expect(theirs.get_by_text("Only who administers your site")).to_be_visible()
    await expect(theirs.get_by_role("button")).to_have_count(0)
    await other.is_for_everybody()

    await part.get_by_role("button", name="Name nobody").press("Enter")
    await expect(part.get_by_text("Nobody is named.")).to_be_visible()
    await expect(field).to_be_focused()
    # The refused address is the one thing that the browser wrote down.
    assert all("422" in error for error in seen.errors)
