"""What an app's page says, in every language that it speaks."""

import re
import tomllib

import pytest

from chassis.words import Language
from devstack.atlassian import Site
from services.installer.routes.pages import PAGES
from tests.installer.conftest import APP, Installer
from tests.installer.test_pages import open_page
from tests.support.words import texts_in


@pytest.mark.parametrize("language", [each for each in Language if each is not Language.ENGLISH])
def test_every_text_is_said_in_every_language_and_no_other(language: Language) -> None:
    told = tomllib.loads((PAGES / f"{language}.toml").read_text("utf-8"))["words"]
    assert set(told) == set(texts_in(PAGES))
    for english, other in told.items():
        assert other.strip()
        assert re.findall(r"%\(\w+\)s", other) == re.findall(r"%\(\w+\)s", english)


@pytest.mark.parametrize(
    ("accepted", "language", "said"),
    [
        ("de-AT,de;q=0.9", "de", "Was wir für Sie aufbewahren"),
        ("en", "en", "What we keep for you"),
        ("fr", "en", "What we keep for you"),
    ],
)
async def test_a_page_speaks_the_readers_language(
    installer: Installer, site: Site, accepted: str, language: str, said: str
) -> None:
    await installer.installed(site)
    page = await open_page(installer, site, language=accepted)
    assert f'<html lang="{language}">' in page.text
    assert said in page.text
    assert page.headers["vary"] == "accept-language"


async def test_a_refusal_speaks_the_readers_language(installer: Installer) -> None:
    page = await installer.http.get(
        f"{installer.url}/connect/{APP}/entry",
        headers={"accept": "text/html", "accept-language": "de"},
    )
    assert "Diese Seite ließ sich nicht öffnen" in page.text
