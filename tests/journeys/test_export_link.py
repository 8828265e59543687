"""Who has left takes its data along by the reminder's link, and who comes back needs it no more."""

import json
import re
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit
from zipfile import ZipFile

from playwright.async_api import Browser, Page, expect

from contracts.purges import Phase
from devstack.journey import Journey
from tests.support.browser import browser
from tests.support.journey import Travellers, entrust, leave

__all__ = ["browser"]

_LINK = re.compile(r"http://\S+/export\?language=en#\S+")


async def link_in_the_reminder(journey: Journey, address: str) -> str:
    async def came() -> str | None:
        mails = (await journey.http.get(f"{journey.stack.endpoints.mail}/messages.json")).json()
        links = [
            found[0]
            for mail in mails
            if mail["recipients"] == [address] and (found := _LINK.search(mail["text"]))
        ]
        return links[-1] if links else None

    return await journey.until(came, "the reminder is mailed")


async def says(page: Page, link: str, title: str) -> None:
    await page.goto("about:blank")
    await page.goto(link)
    await page.get_by_role("button").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text(title)


async def test_months_after_the_uninstall_the_reminders_link_gives_everything(
    customer: Travellers, browser: Browser
) -> None:
    acme = customer("acme")
    given = await entrust(acme)
    plan = await leave(acme)
    await acme.move_to(plan.start_at - timedelta(days=30) + timedelta(minutes=1))
    link = await link_in_the_reminder(acme, given.address)

    page = await (await browser.new_context()).new_page()
    # What scans mail follows links, and sends no fragment.
    looked = await acme.http.get(link.partition("#")[0])
    assert looked.status_code == 200
    await page.goto(link)
    async with page.expect_download() as started:
        await page.get_by_role("button", name="Download the ZIP file").click()
    with ZipFile(Path(await (await started.value).path())) as archive:
        assert archive.testzip() is None
        told = {name: archive.read(name).decode() for name in archive.namelist()}
    names = {thing["name"] for thing in json.loads(told["datasources.json"])}
    assert names == {"source 0", "source 1"}
    assert not any(password in str(told) for password in given.passwords)
    token = urlsplit(link).fragment
    assert await acme.traces_of(token, token.rpartition(".")[2]) == []

    # It comes back: the purge is called off, and the link with it.
    await acme.install()

    async def called_off() -> bool | None:
        return all(each.phase is Phase.WITHDRAWN for each in await acme.plans()) or None

    await acme.until(called_off, "the purge is withdrawn")

    async def is_dead() -> bool | None:
        config = acme.stack.endpoints.of("config")
        answer = await acme.http.post(f"{config}/export", data={"token": token})
        return answer.status_code == 410 or None

    await acme.until(is_dead, "config has heard of it")
    await says(page, link, "Nothing is going to be erased any more")
    uses = await acme.http.get(
        f"{acme.stack.endpoints.of('config')}/api/v1/export-uses",
        headers=await acme.open_session(),
    )
    assert "link" in {each["way"] for each in uses.json()["uses"]}
    await says(page, link[:-9], "This link does not open anything")
    await page.context.close()
