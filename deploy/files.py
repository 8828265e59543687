"""The chart's files that follow from the code: topics, permissions, consumers, doors, settings."""

import json
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import yaml

from chassis.consumer import main_group
from chassis.settings import PREFIX, ServiceSettings
from contracts.messages import Kind
from contracts.topics import ALL_TOPICS, SERVICES, Acl, acls, is_replays, subscriptions
from deploy.doors import DOORS
from deploy.schema import values_schema

CHART: Final = Path("deploy/chart")
SCHEMA: Final = CHART / "values.schema.json"
_FILES: Final = CHART / "files"
_HEAD: Final = "# Made by `python -m deploy` of {}; a test compares them.\n"

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
        "residue_days",
        "backup_retention_days",
        "checkpoint_file",
        "bounce_port",
        "bounce_domain",
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
    _write(folder / "doors.yaml", "deploy/doors.py", {"doors": _doors()})
    schema = values_schema(
        {service: variables(service) for service in SERVICES},
        {service: files(service) for service in SERVICES},
    )
    (root / SCHEMA).write_text(json.dumps(schema, indent=2) + "\n", "utf-8")


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
            "callsInstaller": doors.calls_installer,
            "sendsMail": doors.sends_mail,
        }
        for service, doors in DOORS.items()
    }


def _write(path: Path, source: str, told: Mapping[str, Any]) -> None:
    text = yaml.safe_dump(dict(told), sort_keys=False, width=100)
    path.write_text(_HEAD.format(source) + text, "utf-8")
