"""A place that gives variables alone: the page's start command makes files of them."""

import re
from pathlib import Path

import pytest

from contracts.topics import SERVICES
from deploy.files import files
from tests.support.chart import VALUES, rendered
from tests.support.runbooks import follow

PAGE = Path(__file__).parents[2] / "docs" / "runbooks" / "heroku.md"
_NAMED = re.compile(r"(installer|config|purger|notifier) ((?:`[a-z -]+`)|`[a-z -]+`)")


def named() -> dict[str, list[str]]:
    """The files that the page has each service be given."""
    [line] = [each for each in PAGE.read_text().splitlines() if "`KEEPWORD_FILES` of each" in each]
    return {service: text.strip("`").split() for service, text in _NAMED.findall(line)}


@pytest.mark.parametrize("service", SERVICES)
def test_each_service_is_given_the_files_that_it_cannot_start_without(service: str) -> None:
    given = named()[service]
    assert set(given) <= set(files(service))
    [deployment] = [
        each
        for each in rendered(next(iter(VALUES)))
        if each["kind"] == "Deployment" and each["metadata"]["name"] == f"keepword-{service}"
    ]
    [volume] = [
        each
        for each in deployment["spec"]["template"]["spec"]["volumes"]
        if each["name"] == "files"
    ]
    assert sorted(given) == sorted(item["key"] for item in volume["secret"]["items"])


async def test_what_came_as_variables_is_read_as_files_and_stays_in_none(tmp_path: Path) -> None:
    said = await follow(
        _started_by(tmp_path),
        "start",
        {
            "PORT": "5000",
            "KEEPWORD_FILES": "session-key key-encryption-keys",
            "FILE_session_key": "-----BEGIN\nkey\n",
            "FILE_key_encryption_keys": "{}",
        },
    )
    path = tmp_path / "keepword"
    assert f"KEEPWORD_SESSION_KEY_FILE={path}/session-key" in said
    assert f"KEEPWORD_KEY_ENCRYPTION_KEYS_FILE={path}/key-encryption-keys" in said
    assert "KEEPWORD_HTTP_PORT=5000" in said
    assert "BEGIN" not in said
    assert (path / "session-key").read_text() == "-----BEGIN\nkey\n"
    assert (path / "session-key").stat().st_mode & 0o077 == 0


def _started_by(tmp_path: Path) -> Path:
    """The page, with a folder of the test's instead of /tmp, starting a program that shows its variables."""
    page = tmp_path / "page.md"
    text = PAGE.read_text().replace("/tmp/keepword", str(tmp_path / "keepword"))
    page.write_text(text.replace('exec "$@"', "exec env"))
    return page
