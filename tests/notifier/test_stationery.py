"""What every letter has in common: its headers, its form on the wire, its styles."""

from dataclasses import replace
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path

import pytest

from services.notifier.domain.people import Recipient
from services.notifier.letters.letter import (
    Envelope,
    Letter,
    Stationery,
    Unsubscribing,
    inline_styles,
)
from tests.notifier.builders import NOW

ENVELOPE = Envelope("<1@vendor.example>", NOW)


def stationery(folder: Path, *, text: str = "Hello\n", html: str = "<p>Hello</p>\n") -> Stationery:
    (folder / "t.subject.txt").write_text("{{ subject }}\n", "utf-8")
    (folder / "t.txt").write_text(text, "utf-8")
    (folder / "t.html").write_text(html, "utf-8")
    return Stationery(
        sender="privacy@vendor.example",
        vendor_name="Vendor",
        news_sender="news@vendor.example",
        pages=folder,
    )


def read(letter: Letter) -> EmailMessage:
    return message_from_bytes(letter.content, policy=policy.default)


def test_what_is_optional_names_its_list_its_way_out_and_comes_from_another_address(
    tmp_path: Path,
) -> None:
    sheet = stationery(tmp_path, text="{{ unsubscribing.preferences_url }}\n")
    url = f"https://notifier.vendor.example/unsubscribe/{'t' * 120}"
    letter = sheet.letter(
        "t",
        {"subject": "News"},
        Recipient("Ada", "ada@c.example", None),
        replace(ENVELOPE, unsubscribing=Unsubscribing("product-update", url, f"{url}/all")),
    )
    message = read(letter)
    assert letter.sender == "news@vendor.example"
    assert message["From"] == "Vendor <news@vendor.example>"
    assert message["List-Id"] == "<product-update.vendor.example>"
    assert message["List-Unsubscribe"].strip() == f"<{url}>"
    assert message["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert f"{url}/all" in letter.content.decode()


def test_what_is_owed_offers_no_way_out(tmp_path: Path) -> None:
    letter = stationery(tmp_path).letter(
        "t", {"subject": "Owed"}, Recipient("Ada", "ada@c.example", None), ENVELOPE
    )
    assert letter.sender == "privacy@vendor.example"
    assert b"List-" not in letter.content


@pytest.mark.parametrize(
    "name",
    [
        "Ada\r\nBcc: all@evil.example",
        "Ada\nX: y",
        "Ada\x85\u2028Ex",
        "\x00",
        "",
        '"; <b@c.example>,',
    ],
    ids=range(6),
)
def test_no_name_and_no_subject_brings_a_header_of_its_own(tmp_path: Path, name: str) -> None:
    letter = stationery(tmp_path).letter(
        "t", {"subject": name}, Recipient(name, "ada@c.example", None), ENVELOPE
    )
    message = read(letter)
    assert {key.lower() for key in message} == {
        "from",
        "to",
        "subject",
        "date",
        "message-id",
        "auto-submitted",
        "mime-version",
        "content-type",
    }
    (recipient,) = message["To"].addresses
    assert recipient.addr_spec == "ada@c.example"


@pytest.mark.parametrize(
    "text",
    ["plain\n", "Grüße an alle\n.\n..dots \n", "x" * 1200 + "\n", "no end", "one\r\ntwo\rthree\n"],
    ids=range(5),
)
def test_both_forms_arrive_as_they_were_written(tmp_path: Path, text: str) -> None:
    letter = stationery(tmp_path, text="{{ said }}", html="<p>{{ said }}</p>").letter(
        "t", {"subject": "S", "said": text}, Recipient("Ada", "ada@c.example", None), ENVELOPE
    )
    assert letter.content.isascii()
    assert max(map(len, letter.content.split(b"\r\n"))) <= 998
    assert letter.content.replace(b"\r\n", b"").count(b"\n") == 0
    message = read(letter)
    plain, html = message.get_body(("plain",)), message.get_body(("html",))
    assert plain is not None
    assert html is not None
    wanted = text.replace("\r\n", "\n")
    wanted += "" if wanted.endswith("\n") else "\n"
    assert plain.get_content().replace("\r\n", "\n") == wanted
    assert "<p>" in html.get_content()


def test_a_style_sheet_goes_into_its_elements_once_and_statements_stay_where_they_are() -> None:
    page = inline_styles(
        "<html><head><style>td { color: red } @media print { td { color: black } }</style></head>"
        "<body><table>\n{% for row in rows %}\n<tr><td>{{ row.a | upper }}</td></tr>\n{% endfor %}\n"
        '</table><a href="{{ url }}">{{ "x < y" }}</a>{# no comment #}</body></html>'
    )
    assert '<td style="color: red' in page
    assert "@media print" in page
    table = page[page.index("<table>") : page.index("</table>")]
    assert table.index("{% for row in rows %}") < table.index("<tr>") < table.index("{% endfor %}")
    assert 'href="{{ url }}"' in page
    assert '{{ "x < y" }}' in page
    assert "jinja-" not in page
