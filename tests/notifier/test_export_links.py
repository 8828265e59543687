"""The reminder's link goes to the technical contact alone, and config can read it."""

import re
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import httpx2
import pytest
from pydantic import ValidationError

from chassis.settings import BadSettings
from chassis.signing import JWKS_PATH
from chassis.tokens import PublishedKeys, claims_of, key_id_of
from contracts.classes import TENANT_CLASSES, DataClass
from contracts.exports import AUDIENCE, ISSUER, PATH, ExportLink
from contracts.purges import PurgeReminder
from devstack.key_files import ensure_signing_key
from devstack.mail import MailSink
from devstack.postgres import Roles
from services.notifier.app import build
from services.notifier.domain.lifecycle import Event, Facts, Word
from services.notifier.domain.people import ADDRESS_INDEX, Language
from services.notifier.handlers import remind_people
from services.notifier.letters.lifecycle import Notices
from tests.notifier.builders import NOW, Notifier, notifier_of, settings_for
from tests.notifier.specimens import (
    _STATIONERY,
    ENVELOPE,
    WORDS,
    links_of,
    parts_of,
    reader,
    sheets_of,
)
from tests.support.sessions import answering

CONFIG = "https://config.vendor.example"
START = NOW + timedelta(days=30)
END = START + timedelta(days=14)
_LINK = re.compile(r"https://config\S+#\S+")


@pytest.fixture
async def notifier(
    notifier_roles: Roles, tmp_path: Path, sink: MailSink
) -> AsyncIterator[Notifier]:
    """A notifier that gives links."""
    given = {
        "config_public_url": CONFIG,
        "export_key_file": ensure_signing_key(tmp_path / "exports.pem"),
    }
    async with notifier_of(notifier_roles, tmp_path, sink, **given) as opened:
        yield opened


def a_reminder(tenant_id: UUID, days: int, *classes: DataClass) -> PurgeReminder:
    return PurgeReminder(
        purge_id=uuid4(),
        step=f"remind-{days}",
        tenant_id=tenant_id,
        classes=classes or TENANT_CLASSES,
        clock="uninstalled",
        start_at=START,
        erase_by=END,
        days_before=days,
    )


async def remind(notifier: Notifier, command: PurgeReminder) -> None:
    async with notifier.units.begin() as uow:
        await remind_people(command, uow)
    await notifier.mail.run()


def links_to(notifier: Notifier, address: str) -> list[str]:
    mails = [mail for mail in notifier.mails if mail.recipients == (address,)]
    assert mails
    return [link for mail in mails for link in _LINK.findall(mail.text)]


async def claimed(notifier: Notifier, link: str) -> ExportLink:
    """Read a link as config does: by the keys that are published, offline."""
    async with notifier.client() as client:
        published = (await client.get(JWKS_PATH)).json()
    keys = PublishedKeys(
        "http://notifier.test/",
        answering(lambda _: httpx2.Response(200, json=published)),
    )
    token = urlsplit(link).fragment
    claims = claims_of(
        token,
        await keys.find(key_id_of(token)),
        issuer=ISSUER,
        audience=AUDIENCE,
        at=NOW,
    )
    return ExportLink.of(claims)


async def test_the_technical_contact_gets_a_link_that_config_reads_and_others_get_none(
    notifier: Notifier,
) -> None:
    tenant_id = await notifier.tenant("tech@c.example", "billing@c.example", "both@c.example")
    for address, roles in (
        ("billing@c.example", ["billing"]),
        ("both@c.example", ["billing", "technical"]),
    ):
        await notifier.worker.execute(
            "UPDATE audience SET roles = $1 WHERE address_index = $2",
            roles,
            notifier.keys.blind_index(ADDRESS_INDEX, address),
        )
    command = a_reminder(tenant_id, 30)
    await remind(notifier, command)

    (link,) = links_to(notifier, "tech@c.example")
    assert links_to(notifier, "both@c.example") == [link]
    assert links_to(notifier, "billing@c.example") == []
    assert link.startswith(f"{CONFIG}{PATH}?language=en#")
    found = await claimed(notifier, link)
    assert found == ExportLink(tenant_id, command.purge_id, END)
    assert "you as the technical contact" in " ".join(notifier.mails[0].text.split())


async def test_every_reminder_of_a_purge_brings_the_same_link(notifier: Notifier) -> None:
    tenant_id = await notifier.tenant("tech@c.example")
    first = a_reminder(tenant_id, 30)
    await remind(notifier, first)
    notifier.clock.advance(timedelta(days=23))
    later = first.model_copy(update={"step": "remind-7", "days_before": 7})
    await remind(notifier, later)
    one, other = links_to(notifier, "tech@c.example")
    assert one == other


async def test_a_purge_that_takes_no_content_brings_no_link(notifier: Notifier) -> None:
    tenant_id = await notifier.tenant("tech@c.example")
    await remind(notifier, a_reminder(tenant_id, 30, DataClass.TICKETS, DataClass.CONTACTS))
    assert links_to(notifier, "tech@c.example") == []


async def test_without_a_key_there_is_no_link_and_nothing_is_published(
    notifier_roles: Roles, tmp_path: Path, sink: MailSink
) -> None:
    async with notifier_of(notifier_roles, tmp_path, sink) as notifier:
        tenant_id = await notifier.tenant("tech@c.example")
        await remind(notifier, a_reminder(tenant_id, 30))
        assert links_to(notifier, "tech@c.example") == []
        async with notifier.client() as client:
            assert (await client.get(JWKS_PATH)).status_code == 404


def test_a_key_needs_an_address_and_has_to_be_one(notifier_roles: Roles, tmp_path: Path) -> None:
    path = tmp_path / "exports.pem"
    for given in ({"config_public_url": CONFIG}, {"export_key_file": path}):
        with pytest.raises(ValidationError, match="EXPORT_KEY_FILE: set both, or none"):
            settings_for(notifier_roles, tmp_path, **given)
    path.write_text("no key", "utf-8")
    settings = settings_for(
        notifier_roles, tmp_path, config_public_url=CONFIG, export_key_file=path
    )
    with pytest.raises(BadSettings, match="EXPORT_KEY_FILE: is not a private key"):
        build(settings)


@pytest.mark.parametrize("language", list(Language))
def test_a_letter_says_where_the_link_leads_in_the_readers_language(
    language: Language, tmp_path: Path
) -> None:
    notices = Notices(_STATIONERY, sheets_of(), links_of(tmp_path))
    parts = parts_of(notices.write(WORDS["reminder-export"], reader(language), ENVELOPE))
    (link,) = _LINK.findall(parts.text)
    assert f"?language={language}#" in link
    assert f'href="{link}"' in parts.html
    assert "/your-data" not in parts.html


def test_only_the_reminder_of_a_purge_of_content_opens_anything() -> None:
    tenant_id, purge_id = uuid4(), uuid4()
    facts = Facts(classes=(DataClass.CONTENT,), start_at=START, erase_by=END)
    subject = f"{purge_id}/remind-30"
    word = Word.of(Event.REMINDER, facts, tenant_id, subject)
    assert word.opens == ExportLink(tenant_id, purge_id, END)
    for event in set(Event) - {Event.REMINDER}:
        assert Word.of(event, facts, tenant_id, subject).opens is None
