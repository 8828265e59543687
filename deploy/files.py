"""The chart's files that follow from the code: topics, permissions, consumers, doors, settings."""

import json
import re
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import yaml

from chassis.consumer import main_group
from chassis.settings import PREFIX, ServiceSettings
from contracts.messages import Kind
from contracts.topics import ALL_TOPICS, SERVICES, Acl, acls, is_replays, subscriptions
from deploy.doors import DOORS, FOR_STAFF
from deploy.schema import values_schema
from devstack.postgres import ROLE_KINDS

SOURCE: Final = Path(__file__).parent.parent
CHART: Final = Path("deploy/chart")
COMPOSE: Final = Path("deploy/compose")
SCHEMA: Final = CHART / "values.schema.json"
_FILES: Final = CHART / "files"
_HEAD: Final = "# Made by `python -m deploy` of {}; a test compares them.\n"

_SQL_HEAD: Final = """\\set ON_ERROR_STOP on
-- Made by `python -m deploy`; a test compares them. For psql, when the server is new.
-- A refused statement would stand in the log with the password in it.
SET log_min_error_statement = 'panic';
"""

_SITE: Final = """{host} {{
\t@public path {paths}
\thandle @public {{
\t\treverse_proxy {service}:8080
\t}}
\thandle {{
\t\trespond 404
\t}}
}}
"""

_TABLE_BEGINS: Final = "<!-- made of values.yaml by `python -m deploy` -->"
_TABLE_ENDS: Final = "<!-- until here -->"
_KEY_OF_A_LINE: Final = re.compile(r"([A-Za-z]+):")

# What the chart itself gives, from values of their own or from Secrets.
_GIVEN_BY_THE_CHART: Final = frozenset(
    {
        "database_url",
        "worker_database_url",
        "eraser_database_url",
        "owner_database_url",
        "kafka_bootstrap_servers",
        "kafka_security_protocol",
        "kafka_username",
        "kafka_password",
        "kafka_ca_file",
        "http_host",
        "http_port",
        "public_url",
        "log_level",
        "otlp_endpoint",
        "config_public_url",
        "purger_public_url",
        "session_jwks_url",
        "export_jwks_url",
        "installer_public_url",
        "notifier_public_url",
        "residue_days",
        "backup_retention_days",
        "checkpoint_file",
        "bounce_port",
        "bounce_domain",
        "staff_services",
    }
)
_FOR_A_LAPTOP: Final = frozenset({"development", "clock_offset_file", "development_site_hosts"})
_PATTERNS: Final = {"LITERAL": "literal", "PREFIXED": "prefix"}
_LEDGER_GROUP: Final = "{}.ledger.v1"


def settings_of(service: str) -> type[ServiceSettings]:
    """Find the class that says what a service reads from its environment."""
    module = import_module(f"services.{service}.settings")
    found: type[ServiceSettings] = getattr(module, f"{service.capitalize()}Settings")
    return found


def variables(service: str) -> list[str]:
    """List what may be set under ``settings`` of a service: its variables without their prefix."""
    return sorted(name.upper() for name in _open_settings(service) if not name.endswith("_file"))


def files(service: str) -> list[str]:
    """List the files that a service may be given, each a key of one Secret."""
    return sorted(
        name.removesuffix("_file").replace("_", "-")
        for name in _open_settings(service)
        if name.endswith("_file")
    )


def consumer_groups(service: str) -> list[str]:
    """List the consumer groups of a service."""
    return [main_group(service), _LEDGER_GROUP.format(service)]


def write_files(root: Path) -> None:
    """Make all of them anew under ``root``."""
    folder = root / _FILES
    folder.mkdir(parents=True, exist_ok=True)
    topics = {"topics": _topics(), "permissions": _permissions(), "consumers": _consumers()}
    _write(folder / "contracts.yaml", "contracts/topics.py", topics)
    _write(folder / "doors.yaml", "deploy/doors.py", {"doors": _doors(), "staff": list(FOR_STAFF)})
    values = (SOURCE / CHART / "values.yaml").read_text("utf-8")
    table = _values_table(yaml.safe_load(values), _comments(values))
    page = (SOURCE / CHART / "README.md").read_text("utf-8")
    before, _, rest = page.partition(_TABLE_BEGINS)
    after = rest.partition(_TABLE_ENDS)[2]
    whole = f"{before}{_TABLE_BEGINS}\n{table}\n{_TABLE_ENDS}{after}"
    (root / CHART / "README.md").write_text(whole, "utf-8")
    beside = root / COMPOSE
    beside.mkdir(parents=True, exist_ok=True)
    (beside / "roles.sql").write_text(_roles_sql(), "utf-8")
    caddyfile = _HEAD.format("deploy/doors.py") + _caddyfile()
    (beside / "Caddyfile").write_text(caddyfile, "utf-8")
    schema = values_schema(
        {service: variables(service) for service in SERVICES},
        {service: files(service) for service in SERVICES},
    )
    (root / SCHEMA).write_text(json.dumps(schema, indent=2) + "\n", "utf-8")


def _values_table(values: Mapping[str, Any], comments: Mapping[str, str]) -> str:
    """Give every value with its default and what stands above it in ``values.yaml``."""
    rows = ["| value | default | |", "|---|---|---|"]
    for path, value in _leaves(values):
        shown = json.dumps(value, ensure_ascii=False)
        rows.append(f"| `{path}` | `{shown}` | {comments.get(path, '')} |")
    return "\n".join(rows)


def _leaves(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        path = f"{above}{name}"
        if isinstance(value, dict) and value and "requests" not in value:
            yield from _leaves(value, f"{path}.")
        else:
            yield path, value


def _comments(text: str) -> dict[str, str]:
    """Read the comment right above each value; one of several lines is one sentence or more."""
    found: dict[str, str] = {}
    above: list[tuple[int, str]] = []
    said: list[str] = []
    for line in text.splitlines():
        bare = line.strip()
        name = _KEY_OF_A_LINE.match(bare)
        if bare.startswith("#"):
            said.append(bare.removeprefix("#").strip())
        elif name is not None:
            depth = len(line) - len(line.lstrip())
            above = [each for each in above if each[0] < depth]
            path = ".".join([*(each for _, each in above), name[1]])
            above.append((depth, name[1]))
            found[path] = " ".join(said).replace("|", "\\|")
            said = []
        else:
            said = []
    return found


def _roles_sql() -> str:
    """Give the statements that make four databases and their roles, with passwords of the environment."""
    parts = [_SQL_HEAD]
    for service in SERVICES:
        for kind in ROLE_KINDS:
            role, sees_all = f"{service}_{kind}", kind == "backup"
            parts.append(f"\\getenv word {role.upper()}_PASSWORD")
            bypass = "BYPASSRLS" if sees_all else "NOBYPASSRLS"
            parts.append(f"CREATE ROLE {role} LOGIN {bypass} PASSWORD :'word';")
            if sees_all:
                parts.append(f"GRANT pg_read_all_data TO {role};")
                parts.append(f"ALTER ROLE {role} SET default_transaction_read_only = on;")
        everyone = ", ".join(f"{service}_{kind}" for kind in ROLE_KINDS)
        parts.append(f"CREATE DATABASE {service} OWNER {service}_owner;")
        parts.append(f"REVOKE ALL ON DATABASE {service} FROM public;")
        parts.append(f"GRANT CONNECT ON DATABASE {service} TO {everyone};\n")
    return "\n".join(parts)


def _caddyfile() -> str:
    """Give the way in of a single host: to each service by its host, to its public paths alone."""
    return "\n".join(
        _SITE.format(
            host=f"{{${service.upper()}_HOST}}",
            paths=" ".join(f"{door} {door}/*" for door in doors.public),
            service=service,
        )
        for service, doors in DOORS.items()
    )


def _open_settings(service: str) -> list[str]:
    own = settings_of(service)
    assert own.model_config["env_prefix"] == PREFIX
    return [name for name in own.model_fields if name not in _GIVEN_BY_THE_CHART | _FOR_A_LAPTOP]


def _topics() -> list[dict[str, Any]]:
    return [
        {"name": topic.name, "partitions": topic.partitions, "config": dict(topic.config)}
        for topic in ALL_TOPICS
    ]


def _permissions() -> dict[str, list[dict[str, Any]]]:
    """Say the permissions of each service's user in the words of Strimzi's KafkaUser."""
    found: dict[str, list[dict[str, Any]]] = {service: [] for service in SERVICES}
    for acl in acls():
        found[acl.principal.removeprefix("User:")].append(_permission(acl))
    return found


def _permission(acl: Acl) -> dict[str, Any]:
    resource = {
        "type": acl.resource.lower(),
        "name": acl.name,
        "patternType": _PATTERNS[acl.pattern],
    }
    return {"resource": resource, "operations": [acl.operation.capitalize()], "host": "*"}


def _consumers() -> dict[str, dict[str, Any]]:
    """Say by which group each service works, and on which topics its lag is work that waits."""
    return {
        service: {
            "group": main_group(service),
            "topics": [topic.name for topic in _work(service)],
            "partitions": max(topic.partitions for topic in _work(service)),
        }
        for service in SERVICES
    }


def _work(service: str) -> list[Any]:
    """What a service's main group reads that can pile up: others' topics, but not the ledger."""
    return [
        topic
        for topic in subscriptions(service)
        if topic.owner != service and topic.kind is not Kind.LOG and not is_replays(topic)
    ]


def _doors() -> dict[str, dict[str, Any]]:
    return {
        service: {
            "public": list(doors.public),
            "https": list(doors.https),
            "calls": list(doors.calls),
            "sendsMail": doors.sends_mail,
        }
        for service, doors in DOORS.items()
    }


def _write(path: Path, source: str, told: Mapping[str, Any]) -> None:
    text = yaml.safe_dump(dict(told), sort_keys=False, width=100)
    path.write_text(_HEAD.format(source) + text, "utf-8")
