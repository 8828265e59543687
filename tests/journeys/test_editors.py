"""What a customer makes on the screens, from a first datasource to a preview, in a real browser."""

from typing import Any

from playwright.async_api import Locator, expect

from tests.support.browser import browser
from tests.support.journey import Travellers, leave, let_it_start
from tests.support.visits import Visit, Visits, visit

__all__ = ["browser", "visit"]

THEMES = ("light", "dark")


async def look(seen: Visit) -> None:
    """Let axe look at the screen that is shown, in both themes."""
    for theme in THEMES:
        await seen.run(f"document.documentElement.dataset.colorMode = '{theme}'")
        await seen.is_for_everybody()


async def open_screen(seen: Visit, path: str, heading: str) -> None:
    await seen.run(f"location.hash = '#/{path}'")
    await expect(seen.app.get_by_role("heading", name=heading)).to_be_visible()


async def save(seen: Visit, name: str) -> None:
    await seen.app.get_by_role("button", name="Save", exact=True).click()
    await expect(seen.app.get_by_role("heading", name=name, exact=True)).to_be_focused()
    await expect(seen.app.locator("#said")).to_have_text("It is saved.")


def named(seen: Visit) -> Locator:
    return seen.app.get_by_label("Name", exact=True)


def code(seen: Visit, name: str) -> Locator:
    """An editor of code, once it has taken the place of its field."""
    return seen.app.locator("[data-code]").get_by_role("textbox", name=name)


SALES = "Sales \u05d0\u05d1 \U0001f98a"
DOUBLED = "rows.map(row => ({ ...row, sum: 2 * row.sum }))"


async def make_a_datasource(seen: Visit) -> None:
    """What is wrong is said where it is, and nothing typed is lost, nor comes back."""
    app = seen.app
    await app.get_by_role("link", name="New datasource").click()
    await expect(app.get_by_role("heading", name="New datasource")).to_be_focused()
    await named(seen).evaluate("field => { field.value = 'no \\u0000 is kept' }")
    await app.get_by_label("Address").fill("postgresql://db.acme.example/sales")
    await app.get_by_label("This one").check()
    await app.get_by_label("New password or token").fill("s3cret-of-sales")
    await app.get_by_role("button", name="Save", exact=True).click()
    await expect(app.get_by_role("heading", name="It is not saved yet")).to_be_focused()
    await expect(named(seen)).to_have_attribute("aria-invalid", "true")
    await look(seen)
    await app.locator("#errors").get_by_role("button", name="Name").click()
    await expect(named(seen)).to_be_focused()
    await named(seen).fill(SALES)
    await save(seen, SALES)
    await expect(app.get_by_label("One is set. Keep it")).to_be_checked()
    assert "s3cret" not in await seen.run("document.documentElement.outerHTML")
    await look(seen)


async def make_what_presents_it(seen: Visit) -> None:
    """A converter and a template, each tried while it is written."""
    app = seen.app
    result = app.frame_locator("iframe[title=Preview]").frame_locator("iframe")
    await open_screen(seen, "converters/new", "New converter")
    await named(seen).fill("Doubled")
    await code(seen, "JavaScript").fill(DOUBLED)
    await expect(result.locator("pre")).to_contain_text('"sum": 240')
    await code(seen, "JavaScript").fill("while (true);")
    await expect(app.locator("#preview-trouble")).to_contain_text("loop without end")
    await code(seen, "JavaScript").fill(DOUBLED)
    await expect(app.locator("#preview-trouble")).to_have_text("")
    await look(seen)
    await save(seen, "Doubled")

    await open_screen(seen, "templates/new", "New template")
    await named(seen).fill("Sums")
    await code(seen, "Template").fill("{% for row in rows %}<p>{{ row.sum }}</p>{% endfor %}")
    await expect(result.locator("p")).to_have_text(["120", "95"])
    await app.get_by_label("Converter before it").select_option(label="Doubled")
    await expect(result.locator("p")).to_have_text(["240", "190"])
    await look(seen)
    await save(seen, "Sums")


async def make_a_query(seen: Visit) -> None:
    """Its parameters are found while it is typed, and keep what was said of them."""
    app = seen.app
    await open_screen(seen, "queries/new", "New query")
    await named(seen).fill("By region")
    await app.get_by_label("Datasource", exact=True).select_option(index=1)
    await code(seen, "Statement").fill("SELECT * FROM sales WHERE region = :region")
    await app.get_by_label("Default of region").fill("EMEA")
    await code(seen, "Statement").press("End")
    await seen.page.keyboard.type(" AND year = :year -- and not :never")
    await app.get_by_label("Type of year").select_option("integer")
    await expect(app.get_by_label("Default of region")).to_have_value("EMEA")
    await app.get_by_label("Converter").select_option(label="Doubled")
    await app.get_by_label("Template").select_option(label="Sums")
    await look(seen)
    await save(seen, "By region")
    await expect(app.locator(".pipeline a")).to_have_text([SALES, "Doubled", "Sums"])


async def test_from_a_datasource_to_a_query_and_its_history(
    customer: Travellers, visit: Visits
) -> None:
    acme = customer("acme")
    await acme.install()
    seen = await visit(acme)
    app = seen.app
    await seen.until_ready()
    await look(seen)
    await make_a_datasource(seen)
    await make_what_presents_it(seen)
    await make_a_query(seen)

    # What is in use names its users, and stays.
    await app.locator(".pipeline").get_by_role("link", name="Doubled").click()
    await expect(app.get_by_role("heading", name="Doubled", exact=True)).to_be_focused()
    await app.get_by_role("link", name="Remove", exact=True).click()
    await expect(app.get_by_role("heading", name="Doubled cannot be removed")).to_be_focused()
    await look(seen)
    await app.get_by_role("link", name="By region").click()
    await expect(named(seen)).to_have_value("By region")

    # Another version, and back again.
    await named(seen).fill("By region and year")
    await save(seen, "By region and year")
    await app.get_by_role("link", name="History", exact=True).click()
    await expect(app.get_by_role("heading", name="History of")).to_be_focused()
    await look(seen)
    await app.get_by_role("link", name="Version 1", exact=True).click()
    await expect(app.locator(".difference del")).to_have_text("By region")
    await look(seen)
    await app.get_by_role("button", name="Bring version 1 back").click()
    await expect(app.get_by_role("heading", name="By region", exact=True)).to_be_focused()

    await app.get_by_role("link", name="Remove", exact=True).click()
    await expect(app.get_by_role("heading", name="Remove By region?")).to_be_focused()
    await look(seen)
    await app.get_by_role("button", name="Remove it").click()
    await expect(app.locator("#said")).to_have_text("By region is removed.")
    await expect(app.get_by_role("heading", name="Queries")).to_be_focused()
    # Axe brings a style of its own, which the page's policy stops.
    ours = [line for line in seen.errors if "Applying inline style" not in line]
    assert [line for line in ours if "status of 422" not in line and "sandboxed" not in line] == []


async def test_two_who_change_one_thing_lose_nothing(customer: Travellers, visit: Visits) -> None:
    acme = customer("acme")
    await acme.install()
    await acme.add_datasource("shared", url="https://a.example", username="a", credentials="b")
    one, two = await visit(acme), await visit(acme)
    for seen in (one, two):
        await seen.until_ready()
        await seen.app.get_by_role("link", name="shared", exact=True).click()
    await one.app.get_by_label("Address").fill("https://one.example")
    await save(one, "shared")

    app = two.app
    await app.get_by_label("Address").fill("https://two.example")
    await app.get_by_role("button", name="Save", exact=True).click()
    await expect(app.get_by_role("heading", name="somebody else has changed")).to_be_focused()
    await expect(app.locator("#errors ins")).to_have_text("https://one.example")
    await look(two)
    await app.get_by_role("button", name="Go back to my text").click()
    await expect(app.get_by_label("Address")).to_have_value("https://two.example")
    await app.get_by_role("button", name="Save", exact=True).click()
    await app.get_by_role("button", name="Keep mine").click()
    await expect(app.locator("#said")).to_have_text("It is saved.")

    # The other comes late now, and takes what is there; who leaves without saving is asked.
    app = one.app
    await app.get_by_label("Address").fill("https://lost.example")
    await app.get_by_role("link", name="Templates").click()
    dialog = app.get_by_role("dialog")
    await expect(dialog).to_contain_text("Leave without saving?")
    await look(one)
    await dialog.get_by_role("button", name="Stay here").click()
    await expect(app.get_by_label("Address")).to_have_value("https://lost.example")
    await app.get_by_role("button", name="Save", exact=True).click()
    await app.get_by_role("button", name="Take the other").click()
    await expect(app.get_by_label("Address")).to_have_value("https://two.example")
    await app.get_by_label("Address").fill("https://lost.example")
    await app.get_by_role("link", name="Templates").click()
    await dialog.get_by_role("button", name="Leave").click()
    await expect(app.get_by_role("heading", name="Templates")).to_be_visible()


async def tab_to(seen: Visit, wanted: Locator, *, key: str = "Tab") -> None:
    for _ in range(40):
        if await wanted.evaluate("each => each.matches(':focus')"):
            return
        await seen.page.keyboard.press(key)
    await expect(wanted).to_be_focused()


async def test_the_keyboard_is_enough(customer: Travellers, visit: Visits) -> None:
    globex = customer("globex")
    await globex.install()
    seen = await visit(globex)
    app, keyboard = seen.app, seen.page.keyboard
    await seen.until_ready()
    for name in ("first", "second"):
        # From a screen's heading the navigation is behind; at first nothing has the focus.
        key = "Tab" if name == "first" else "Shift+Tab"
        await tab_to(seen, app.get_by_role("link", name="Converters", exact=True), key=key)
        await keyboard.press("Enter")
        await expect(app.get_by_role("heading", name="Converters")).to_be_focused()
        await tab_to(seen, app.get_by_role("link", name="New converter"))
        await keyboard.press("Enter")
        await expect(app.get_by_role("heading", name="New converter")).to_be_focused()
        await tab_to(seen, named(seen))
        await keyboard.type(name)
        await tab_to(seen, code(seen, "JavaScript"))
        await keyboard.type("rows")
        # Tab indents here; Escape and Tab lead out.
        await keyboard.press("Tab")
        await expect(code(seen, "JavaScript")).to_be_focused()
        await keyboard.press("Escape")
        await tab_to(seen, app.get_by_role("button", name="Save", exact=True))
        await keyboard.press("Enter")
        await expect(app.get_by_role("heading", name=name, exact=True)).to_be_focused()

    await tab_to(seen, app.get_by_role("link", name="← Converters"), key="Shift+Tab")
    await keyboard.press("Enter")
    rows = app.locator("#rows .what > a")
    await expect(rows).to_have_text(["first", "second"])
    await tab_to(seen, app.get_by_role("button", name="Move second up"))
    await keyboard.press("Enter")
    await expect(rows).to_have_text(["second", "first"])
    await expect(app.get_by_role("button", name="Move second up")).to_be_focused()
    await keyboard.press("Shift+Tab")
    await keyboard.press("Enter")
    await tab_to(seen, app.get_by_role("link", name="Remove", exact=True))
    await keyboard.press("Enter")
    await tab_to(seen, app.get_by_role("button", name="Remove it"))
    await keyboard.press("Enter")
    await expect(rows).to_have_text(["first"])
    assert seen.errors == []


async def test_a_list_is_searched_while_one_types(customer: Travellers, visit: Visits) -> None:
    initech = customer("initech")
    await initech.install()
    for name in ("alpha", "beta"):
        await initech.add_datasource(name, url="https://a.example", username="a", credentials="b")
    seen = await visit(initech, viewport={"width": 320, "height": 640})
    await seen.until_ready()
    await seen.app.get_by_label("Name or tag contains").press_sequentially("BET")
    await expect(seen.app.locator("#rows .what > a")).to_have_text(["beta"])
    await expect(seen.app.locator("#said")).to_have_text("1 is shown.")
    await expect(seen.app.get_by_label("Name or tag contains")).to_be_focused()
    root = "document.documentElement"
    for path in ("datasources", "queries/new", "templates/new"):
        await seen.run(f"location.hash = '#/{path}'")
        await expect(seen.app.locator(f"article[data-path='{path}']")).to_be_visible()
        assert await seen.run(f"{root}.scrollWidth - {root}.clientWidth") == 0, path
    await look(seen)


async def test_after_a_purge_an_open_page_says_what_to_do(
    customer: Travellers, visit: Visits
) -> None:
    hooli = customer("hooli")
    await hooli.install()
    await hooli.add_datasource("theirs", url="https://a.example", username="a", credentials="b")
    seen = await visit(hooli)
    await seen.until_ready()
    plan = await leave(hooli)
    await let_it_start(hooli, plan)
    await hooli.wait_until_gone()

    answers: list[Any] = []
    seen.page.on("response", lambda answer: answers.append((answer.status, answer.url)))
    await seen.app.get_by_role("link", name="Queries").click()
    await expect(seen.state).to_contain_text(
        "An administrator of your site installs it again", ignore_case=True
    )
    await expect(seen.app.locator("#app")).to_be_hidden()
    assert 410 in {status for status, _ in answers}
