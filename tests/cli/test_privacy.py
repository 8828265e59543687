"""What is kept of whom is said as the data maps declare it, and the pages that say it never drift."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.async_api import Browser

from chassis.data_map import DataMap, External, StoredTopic, Table, usual_externals
from cli.privacy import CONTROLLER_FILE, generated_pages, run_record, run_table
from cli.record import (
    Activity,
    Controller,
    Recipient,
    Record,
    as_html,
    as_json,
    as_markdown,
    data_map_of,
    load_controller,
    make_record,
    record_of_all,
    retention_table,
)
from contracts.classes import DataClass
from contracts.topics import SERVICES
from tests.support.browser import browser

__all__ = ["browser"]

NOTES = Table(
    name="notes",
    data_class=DataClass.CONTENT,
    promise="P2",
    purpose="what tenants note",
    retention="until the end | of all <days>",
    tenant_column="tenant_id",
    column_classes={"author": DataClass.CONTACTS},
    columns={"tenant_id": "whose", "author": "who wrote it"},
)
OTHERS = replace(NOTES, name="others")
QUEUE = External(name="queue", purpose="waits", retention="5 days", data_class=DataClass.CONTACTS)
SAID = StoredTopic(
    name="a.said.v1", data_class=DataClass.CONTENT, purpose="says", retention="1 day"
)
A = DataMap("a", tables=(NOTES,), topics=(SAID,), externals=usual_externals(DataClass.CONTENT))
B = DataMap("b", tables=(OTHERS,), externals=(*usual_externals(DataClass.CONTACTS), QUEUE))
CONTROLLER = Controller(
    name="Us & Co",
    address="Here",
    contact="privacy@us.example.com",
    data_location="There",
    recipients=(Recipient(name="Host", place="There", purpose="hosts", safeguard="clauses"),),
)


NAMES_OF_A_TENANT = {"tenant_id", "client_key", "base_url", "cloud_id"}


def test_what_is_kept_for_good_has_no_column_that_names_a_tenant() -> None:
    kept = [
        table
        for service in SERVICES
        for table in data_map_of(service).tables
        if table.retention.startswith("as long as")
    ]
    assert {"ledger", "brake"} <= {table.name for table in kept}
    for table in kept:
        assert table.tenant_column is None
        assert not NAMES_OF_A_TENANT & table.columns.keys()


def record() -> Record:
    return make_record(CONTROLLER, [A, B])


def activity(record: Record, data_class: DataClass) -> Activity:
    return next(each for each in record.activities if each.data_class is data_class)


def test_the_generated_pages_say_what_the_data_maps_say_now() -> None:
    stale = [str(page) for page, text in generated_pages().items() if page.read_text() != text]
    assert stale == [], "run `python -m cli.privacy`"


def test_every_store_of_every_service_stands_in_the_record_once() -> None:
    whole = record_of_all(load_controller(CONTROLLER_FILE))
    found = [
        (store.service, store.kind, store.name)
        for each in whole.activities
        for store in each.stores
    ]
    assert len(found) == len(set(found))
    names = {(service, name) for service, _, name in found}
    for service in SERVICES:
        declared = data_map_of(service)
        for kind in (declared.all_tables, declared.topics, declared.externals):
            for store in kind:
                assert {(service, store.name), ("each", store.name)} & names, store.name


def test_what_all_services_have_alike_is_named_once_as_each_ones() -> None:
    plumbing = activity(record(), DataClass.PLUMBING).stores
    assert [store.service for store in plumbing if store.name == "inbox"] == ["each"]
    assert [store.service for store in plumbing if store.name == "logs"] == ["each"]
    # Backups hold other things in each, and so stand apart.
    content = activity(record(), DataClass.CONTENT).stores
    assert [store.service for store in content if store.name == "backups"] == ["a"]


def test_a_store_tells_its_columns_and_which_of_them_are_of_another_class() -> None:
    notes = next(s for s in activity(record(), DataClass.CONTENT).stores if s.name == "notes")
    assert [(column.name, column.data_class) for column in notes.columns] == [
        ("tenant_id", None),
        ("author", DataClass.CONTACTS),
    ]


def test_article_30_is_answered_in_every_format() -> None:
    told = record()
    for text in (as_markdown(told), as_html(told), as_json(told)):
        for part in ("privacy@us.example.com", "There", "Host", "clauses", "AES-256-GCM"):
            assert part in text
        for part in ("what tenants note", "5 days", "1 day", "a.said.v1", A.hash(), B.hash()):
            assert part in text
    assert json.loads(as_json(told))["activities"][1]["data_class"] == "content"


def test_what_is_declared_can_break_neither_a_table_nor_a_page() -> None:
    told = record()
    assert "until the end \\| of all <days>" in retention_table(told)
    assert "of all &lt;days&gt;" in as_html(told)
    assert "Us &amp; Co" in as_html(told)
    for line in retention_table(told).splitlines():
        assert line.replace("\\|", "").count("|") == 6


def test_a_class_of_which_nothing_is_kept_says_so() -> None:
    assert activity(record(), DataClass.TICKETS).stores == ()
    assert "Nothing of this class is kept today." in as_markdown(record())


def test_the_command_writes_each_format_where_it_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "record.html"
    assert run_record("html", output=page, controller=None) == 0
    assert page.read_text().startswith("<!doctype html>")
    assert run_record("md", output=None, controller=None) == 0
    assert capsys.readouterr().out.startswith("# Record of processing")
    assert run_table(controller=None) == 0
    assert "| installer | table `installations` |" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "No such file"),
        ("name = ", "is not TOML"),
        ('name = "Us"', "address"),
        ('name = "Us"\nsecret = "x"', "secret"),
    ],
)
def test_a_controller_that_says_too_little_is_misuse(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None, complaint: str
) -> None:
    file = tmp_path / "controller.toml"
    if content is not None:
        file.write_text(content)
    assert run_record("md", output=None, controller=file) == 2
    assert complaint in capsys.readouterr().err


def test_an_unknown_format_is_misuse(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_record("pdf", output=None, controller=None) == 2
    assert "md, json, html" in capsys.readouterr().err


async def test_the_page_fetches_nothing_and_fits_a_telephone(
    browser: Browser, tmp_path: Path
) -> None:
    file = tmp_path / "record.html"
    file.write_text(as_html(record_of_all(load_controller(CONTROLLER_FILE))))
    page = await browser.new_page(viewport={"width": 360, "height": 800})
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    await page.goto(file.as_uri())
    assert asked == [file.as_uri()]
    assert await page.evaluate("document.documentElement.scrollWidth") <= 360
