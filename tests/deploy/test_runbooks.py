"""Installing, upgrading, going back: what the pages say to type is run, as far as no cluster is needed.

Helm renders where it would install, and of what it would ask a cluster its options are compared with
its own help. `kubectl` makes Secrets by itself; of the rest its options are compared likewise, and
what it names with what the chart makes. `psql`, `keepword` and `python -m deploy` are run on servers.
"""

import re
import shlex
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from contracts.topics import SERVICES
from deploy.first_secrets import PASSWORDS
from devstack.kafka import start_kafka
from devstack.postgres import binary, start_postgres
from tests.support.chart import CHART, VALUES, Manifest, rendered
from tests.support.note_takers import note_takers, noted, real
from tests.support.runbooks import follow

ROOT = CHART.parents[1]
PAGES = ROOT / "docs" / "runbooks"
NAMESPACE = "apps"


@dataclass(frozen=True)
class Operator:
    """Somebody with a checkout, a folder of secrets, and tools that take note."""

    folder: Path
    environment: Mapping[str, str]

    async def follows(self, page: str, block: str, **variables: str) -> str:
        return await follow(
            PAGES / f"{page}.md",
            block,
            {**self.environment, **variables},
            folder=self.folder / "checkout",
            tools=(self.folder / "tools", binary("psql").parent),
        )


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    folder = tmp_path_factory.mktemp("operator")
    real("kubectl")
    note_takers(folder)
    (folder / "checkout").mkdir()
    for part in ("deploy", "pyproject.toml", "docs"):
        (folder / "checkout" / part).symlink_to(ROOT / part)
    server, broker = start_postgres(folder / "postgres"), start_kafka(folder / "kafka")
    at = urlsplit(server.superuser_url())
    environment = {
        "NAMESPACE": NAMESPACE,
        "SECRETS": str(folder / "secrets"),
        "MAIL_DOMAIN": "apps.example.com",
        "VALUES": str(CHART / VALUES["prod"][0]),
        "DATABASE_SERVER": f"{at.hostname}:{at.port}",
        "PGHOST": str(at.hostname),
        "PGPORT": str(at.port),
        "PGUSER": str(at.username),
        "PGPASSWORD": str(at.password),
        "PGDATABASE": "postgres",
        "KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap_servers,
        "PYTHONPATH": str(ROOT),
        "COLUMNS": "200",
    }
    yield Operator(folder, environment)
    broker.kill()
    server.kill()


# It types some thirty commands.
@pytest.mark.timeout(300)
async def test_a_new_place_gets_what_the_chart_wants(operator: Operator) -> None:
    for block in ("namespace", "secrets", "databases", "hand-over", "topics"):
        await operator.follows("install", block)
    manifests = list(yaml.safe_load_all(await operator.follows("install", "release")))
    [given] = [each["given"] for each in noted(operator.folder) if each["given"]]
    made = {
        each["metadata"]["name"]: set(each["data"])
        for each in yaml.safe_load_all(given)
        if each is not None
    }
    from_others = {"marketplace-token", "smtp-password", "tickets-token"}
    for service in SERVICES:
        wanted = secrets_of(manifests, service)
        assert set(wanted) == {f"keepword-{service}-{what}" for what in ("db", "owner", "files")}
        for secret, keys in wanted.items():
            assert keys - made[secret] <= from_others

    # What was handed over lets each role in.
    urls = owner_urls(operator, given)
    await operator_runs(operator, "keepword migrate config", **urls)
    await operator.follows("install", "check")
    await operator.follows("keys", "hand-over", SERVICE="purger")
    [again] = [each["given"] for each in noted(operator.folder) if each["given"]][1:]
    assert set(yaml.safe_load(again)["data"]) == made["keepword-purger-files"]
    await operator.follows("keys", "roll-out", SERVICE="purger")
    await operator.follows("move-region", "stop")


def secrets_of(manifests: list[Manifest], service: str) -> dict[str, set[str]]:
    """The Secrets that a service's pods name, each with its keys; not those of Kafka."""
    found: dict[str, set[str]] = {}
    for each in manifests:
        if each and each["metadata"]["name"] in (
            f"keepword-{service}",
            f"keepword-{service}-migrate",
        ):
            spec = each["spec"].get("template", {}).get("spec", {})
            for container in spec.get("containers", []):
                for variable in container["env"]:
                    reference = variable.get("valueFrom", {}).get("secretKeyRef")
                    if reference:
                        found.setdefault(reference["name"], set()).add(reference["key"])
            for volume in spec.get("volumes", []):
                if "secret" in volume:
                    keys = {item["key"] for item in volume["secret"]["items"]}
                    found.setdefault(volume["secret"]["secretName"], set()).update(keys)
    return {name: keys for name, keys in found.items() if name.startswith("keepword-")}


def owner_urls(operator: Operator, given: str) -> dict[str, str]:
    passwords = dict(
        line.split("=", 1)
        for line in (operator.folder / "secrets" / PASSWORDS).read_text("utf-8").splitlines()
    )
    server = operator.environment["DATABASE_SERVER"]
    urls = {
        f"KEEPWORD_{service.upper()}_OWNER_DATABASE_URL": (
            f"postgresql://{service}_owner:"
            f"{passwords[f'{service.upper()}_OWNER_PASSWORD']}@{server}/{service}"
        )
        for service in SERVICES
    }
    for each in yaml.safe_load_all(given):
        if each and each["metadata"]["name"] == "keepword-config-owner":
            told = subprocess.run(
                ["base64", "-d"],
                input=each["data"]["owner-database-url"].encode(),
                capture_output=True,
                check=True,
            ).stdout.decode()
            assert told == urls["KEEPWORD_CONFIG_OWNER_DATABASE_URL"]
    return urls


async def operator_runs(operator: Operator, command: str, **variables: str) -> str:
    page = operator.folder / "typed.md"
    page.write_text(f"```sh typed\n{command}\n```\n")
    return await follow(
        page, "typed", {**operator.environment, **variables}, folder=operator.folder / "checkout"
    )


@pytest.mark.timeout(120)
async def test_an_upgrade_is_rendered_before_it_is_done(operator: Operator) -> None:
    await operator.follows("upgrade", "release")
    await operator.follows("roll-back", "back", REVISION="3")
    told = [each["told"] for each in noted(operator.folder)]
    assert ["rollback", "keepword", "3"] in [each[:3] for each in told]


def blocks() -> list[tuple[str, str]]:
    """All blocks of commands of the pages, with the page's name."""
    return [
        (page.stem, text)
        for page in sorted(PAGES.glob("*.md"))
        for text in re.findall(
            r"^```sh [a-z-]+\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL
        )
    ]


def asked_of_a_cluster() -> Iterator[tuple[str, list[str]]]:
    """Each call of helm and kubectl in the pages, in its blocks and between backquotes."""
    for page, text in blocks():
        for line in text.replace("\\\n", " ").splitlines():
            for part in re.split(r"\| |&& ", line):
                if re.match(r" *(done )?(helm|kubectl) ", part):
                    yield page, shlex.split(re.sub(r"<\([^)]*\)", "FILE", part))
    for path in sorted(PAGES.glob("*.md")):
        for text in re.findall(r"`((?:helm|kubectl) [^`]+)`", path.read_text()):
            yield path.stem, shlex.split(text)


def test_what_is_asked_of_a_cluster_are_options_that_there_are() -> None:
    helps: dict[tuple[str, ...], str] = {}
    common = subprocess.run(
        [real("kubectl"), "options"], capture_output=True, text=True, check=True
    ).stdout
    checked = 0
    for page, (name, *words) in asked_of_a_cluster():
        verbs = [word for word in words if re.fullmatch(r"[a-z]+", word)]
        deep = {
            "create": 3 if "secret" in verbs else 2,
            "rollout": 2,
            "get": 2 if name == "helm" else 1,
        }
        asked = (real(name), *verbs[: deep.get(verbs[0], 1)])
        if asked not in helps:
            helps[asked] = subprocess.run(
                [*asked, "--help"], capture_output=True, text=True, check=True
            ).stdout
        known = helps[asked] + common * (name == "kubectl")
        for option in (word.partition("=")[0] for word in words if word.startswith("--")):
            assert re.search(rf"{option}\b", known), f"{page}: {' '.join(asked)} {option}"
            checked += 1
    assert checked > 20


def test_what_is_named_to_a_cluster_is_made_by_the_chart() -> None:
    made = {f"{each['kind']}/{each['metadata']['name']}".lower() for each in rendered("prod")}
    named = []
    for page, (name, *words) in asked_of_a_cluster():
        for word in words:
            if name == "kubectl" and re.match(r"(deployment|job|service)/", word):
                for service in SERVICES:
                    full = word.replace("$SERVICE", service)
                    assert full in made, f"{page}: {full}"
                named.append(word)
    assert len(named) > 5


def test_every_block_of_a_page_is_followed_by_a_test() -> None:
    tests = [each.read_text("utf-8") for each in (ROOT / "tests").rglob("test_*.py")]
    tests.append((ROOT / "tests" / "support" / "drills.py").read_text("utf-8"))
    left = [
        (page.stem, block)
        for page in PAGES.glob("*.md")
        for block in re.findall(r"^```sh ([a-z-]+)$", page.read_text(), re.MULTILINE)
        if not any(page.stem in text and f'"{block}"' in text for text in tests)
    ]
    assert left == []
