"""The schema of the chart's values: strict, without remote references, usable below a parent chart."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from contracts.topics import SERVICES

Schema = dict[str, Any]

_TEXT: Final[Schema] = {"type": "string"}
_NAME: Final[Schema] = {"type": "string", "pattern": "^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$"}
_NAME_OR_NONE: Final[Schema] = {
    "type": "string",
    "pattern": "^([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?)?$",
}
_KEY: Final[Schema] = {"type": "string", "pattern": "^[A-Za-z0-9._-]+$"}
_FLAG: Final[Schema] = {"type": "boolean"}
_PORT: Final[Schema] = {"type": "integer", "minimum": 1, "maximum": 65535}
_TEXTS: Final[Schema] = {"type": "object", "additionalProperties": {"type": "string"}}
# Kubernetes knows their inside, and says so when they are applied.
_OBJECT: Final[Schema] = {"type": "object"}
_OBJECTS: Final[Schema] = {"type": "array", "items": {"type": "object"}}
_SITE: Final[Schema] = {"type": "string", "pattern": "^https://[^/@?#]+$"}
_MEMORY: Final[Schema] = {"type": ["string", "number"]}
_RESOURCES: Final[Schema] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["requests", "limits"],
    "properties": {
        each: {"type": "object", "required": ["memory"], "additionalProperties": _MEMORY}
        for each in ("requests", "limits")
    },
}


def _whole(least: int, most: int | None = None) -> Schema:
    found: Schema = {"type": "integer", "minimum": least}
    return found if most is None else {**found, "maximum": most}


def _one_of(*words: str) -> Schema:
    return {"enum": list(words)}


def _group(required: Sequence[str] = (), /, **properties: Schema) -> Schema:
    found: Schema = {
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
    }
    return {**found, "required": list(required)} if required else found


_SECRET: Final = _group(["existingSecret"], existingSecret=_NAME)

_COMMON: Final[Mapping[str, Schema]] = {
    "enabled": _FLAG,
    "replicas": _whole(1, 50),
    "podAnnotations": _TEXTS,
    "podLabels": _TEXTS,
    "nodeSelector": _TEXTS,
    "tolerations": _OBJECTS,
    "priorityClassName": _NAME_OR_NONE,
    "preStopSeconds": _whole(0, 60),
    "terminationGracePeriodSeconds": _whole(30, 600),
    "logLevel": _one_of("debug", "info", "warning", "error"),
    "autoscaling": _group(
        kind=_one_of("none", "keda", "hpa"),
        minReplicas=_whole(1),
        maxReplicas=_whole(1, 50),
        lagThreshold=_whole(1),
        cpuPercent=_whole(1, 100),
        stabilisationSeconds=_whole(0, 3600),
    ),
    "extraEgress": _OBJECTS,
}


def _service(service: str, variables: Sequence[str], files: Sequence[str]) -> Schema:
    own: dict[str, Schema] = {
        **_COMMON,
        "publicUrl": _SITE,
        "database": _SECRET,
        "migration": _group(existingSecret=_NAME_OR_NONE),
        "kafkaUser": _group(name=_NAME, existingSecret=_NAME, key=_KEY),
        "files": _group(
            ["existingSecret"],
            existingSecret=_NAME,
            keys={"type": "array", "uniqueItems": True, "items": _one_of(*files)},
        ),
        "settings": _group(**dict.fromkeys(variables, _TEXT)),
        "resources": _RESOURCES,
    }
    if service == "purger":
        own["checkpoints"] = _group(existingClaim=_NAME_OR_NONE)
    if service == "notifier":
        own["bounces"] = _group(domain=_NAME_OR_NONE, port=_whole(1024, 65535))
    found = _group(**own)
    # A service that is off needs none of what has no default.
    switched_off = {"properties": {"enabled": {"const": False}}, "required": ["enabled"]}
    needed = _loosened(found)
    return {"if": switched_off, "then": needed, "else": found}


def _loosened(schema: Schema) -> Schema:
    kept = {"publicUrl": _TEXT, "database": _OBJECT, "migration": _OBJECT, "files": _OBJECT}
    return {**schema, "properties": {**schema["properties"], **kept}}


def values_schema(
    variables: Mapping[str, Sequence[str]], files: Mapping[str, Sequence[str]]
) -> Schema:
    """Give the schema, by the settings and the files that each service knows."""
    storage = _group(["size"], size=_TEXT, storageClass=_NAME_OR_NONE)
    whole = _group(
        ["image", "kafka", *SERVICES],
        **{
            "global": _OBJECT,  # Helm hands these two down from a parent chart
            "enabled": _FLAG,
            "nameOverride": _NAME_OR_NONE,
            "fullnameOverride": _NAME_OR_NONE,
            "image": _group(
                ["repository"],
                repository={"type": "string", "pattern": "^[^:@ ]+(:[0-9]+/[^:@ ]+)?$"},
                tag={"type": "string", "pattern": "^[A-Za-z0-9_.-]{0,128}$"},
                digest={"type": "string", "pattern": "^(sha256:[0-9a-f]{64})?$"},
                pullPolicy=_one_of("Always", "IfNotPresent", "Never"),
                pullSecrets=_OBJECTS,
            ),
            "kafka": _group(
                ["bootstrapServers"],
                bootstrapServers={
                    "type": "string",
                    "pattern": "^[A-Za-z0-9.-]+:[0-9]+(,[A-Za-z0-9.-]+:[0-9]+)*$",
                },
                caSecret=_group(name=_NAME_OR_NONE, key=_KEY),
                secured=_FLAG,
            ),
            "retention": _group(residueDays=_whole(0, 90), backupDays=_whole(0, 90)),
            "migrations": _group(
                mode=_one_of("hook", "job", "none"),
                deadlineSeconds=_whole(60),
                backoffLimit=_whole(0, 20),
                ttlSecondsAfterFinished=_whole(60),
                resources=_RESOURCES,
            ),
            "defaults": _group(**_COMMON),
            **{each: _service(each, variables[each], files[each]) for each in SERVICES},
            "traces": _group(otlpEndpoint={"type": "string", "pattern": "^(https?://[^@?#]+)?$"}),
            "ingress": _group(
                enabled=_FLAG,
                className=_NAME_OR_NONE,
                annotations=_TEXTS,
                tlsSecrets=_group(**dict.fromkeys(SERVICES, _NAME)),
                staff=_group(enabled=_FLAG, className=_NAME_OR_NONE, annotations=_TEXTS),
            ),
            "gateway": _group(
                enabled=_FLAG,
                parentRefs=_OBJECTS,
                annotations=_TEXTS,
                staff=_group(enabled=_FLAG, parentRefs=_OBJECTS),
            ),
            "networkPolicy": _group(
                enabled=_FLAG,
                **dict.fromkeys(("kafkaPort", "postgresPort", "smtpPort", "otlpPort"), _PORT),
                **dict.fromkeys(
                    ("kafkaPeers", "postgresPeers", "smtpPeers", "identityPeers", "otlpPeers"),
                    _OBJECTS,
                ),
                privateCidrs={"type": "array", "items": _TEXT},
                ingressPeers=_OBJECTS,
                monitoringPeers=_OBJECTS,
            ),
            "monitoring": _group(
                kind=_one_of("none", "ServiceMonitor", "PodMonitor"),
                interval={"type": "string", "pattern": "^[0-9]+(ms|s|m)$"},
                labels=_TEXTS,
                rules=_FLAG,
                dashboards=_FLAG,
                runbooks=_TEXT,
            ),
            "strimzi": _group(
                enabled=_FLAG,
                cluster=_NAME_OR_NONE,
                namespace=_NAME_OR_NONE,
                replicas=_whole(1, 9),
                minInsyncReplicas=_whole(1, 9),
            ),
            "cloudNativePg": _group(
                enabled=_FLAG,
                imageName=_TEXT,
                instances=_whole(1, 9),
                # One that serves, one that has it too, one that may go.
                installerInstances=_whole(3, 9),
                storage=storage,
                walStorage=storage,
                resources=_RESOURCES,
                rolesSecretPrefix=_TEXT,
                backups=_group(
                    enabled=_FLAG,
                    destinationPath=_TEXT,
                    endpointUrl=_TEXT,
                    existingSecret=_NAME_OR_NONE,
                    windowDays=_whole(1, 60),
                    schedule=_TEXT,
                ),
            ),
        },
    )
    return {"$schema": "http://json-schema.org/draft-07/schema#", **whole}
