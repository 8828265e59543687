"""Who says what to whom, as AsyncAPI 3.0 documents: one for each service, and one for the whole."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from contracts.messages import Kind
from contracts.registry import MESSAGE_TYPES, MessageType, ce_source
from contracts.replays import FORCED_HEADER, REPLAY_HEADER, REPLAYED
from contracts.topics import ALL_TOPICS, SERVICES, Topic, is_replays, subscriptions

FOLDER: Final = "docs/asyncapi"
"""Where the documents lie, from the project's root; they point to schemas and samples from there."""

_ROOT: Final = "../.."
_BINDING: Final = "0.5.0"

# Those that AsyncAPI's Kafka binding knows; all others stand in the topics' own table.
_TOPIC_CONFIGURATION: Final = frozenset(
    {"retention.ms", "retention.bytes", "delete.retention.ms", "max.message.bytes"}
)

KIND_MEANS: Final[Mapping[Kind, str]] = {
    Kind.STATE: "The whole state of its key; the newest version is all one needs.",
    Kind.COMMAND: "What another has to do; asking twice is harmless.",
    Kind.EVENT: "What was answered; each once by its id.",
    Kind.LOG: "A numbered sequence, read whole and in order.",
}
"""What the records of a topic are, in a sentence."""


def documents(root: Path) -> dict[str, dict[str, Any]]:
    """Make the documents by name: each service's own, and ``keepword`` for the whole.

    The examples in them are the golden samples under ``root``.
    """
    samples = {each.name: sample_of(each, root) for each in MESSAGE_TYPES}
    whole = _document("Keepword", "What the services say to each other.", SERVICES, samples)
    return {
        "keepword": whole,
        **{
            service: _document(
                f"Keepword: {service}", f"What {service} says and hears.", [service], samples
            )
            for service in SERVICES
        },
    }


def types_on(topic: Topic) -> tuple[MessageType, ...]:
    """List the message types that travel on a topic; on one of replays, all that may be replayed."""
    if is_replays(topic):
        heard = set(subscriptions(topic.owner))
        return tuple(
            each for each in MESSAGE_TYPES if each.kind in REPLAYED and heard & set(each.topics)
        )
    return tuple(each for each in MESSAGE_TYPES if topic in each.topics)


def may_be_tombstone(topic: Topic) -> bool:
    """Whether a record of it may be without a body: its key is no more, or never was."""
    return topic.kind is Kind.STATE


def sample_of(message_type: MessageType, root: Path) -> Any:
    """Read a message type's newest golden sample."""
    folder = root / "contracts" / "samples" / message_type.name
    return json.loads((folder / f"{message_type.schema}.json").read_text())


def summary_of(message_type: MessageType) -> str:
    """Say in a paragraph what a message type's body is."""
    paragraph = (message_type.model.__doc__ or "").strip().split("\n\n")[0]
    return " ".join(paragraph.split())


def _document(
    title: str, description: str, services: Sequence[str], samples: Mapping[str, Any]
) -> dict[str, Any]:
    topics = [
        topic
        for topic in ALL_TOPICS
        if topic.owner in services or any(topic in subscriptions(each) for each in services)
    ]
    types = [each for each in MESSAGE_TYPES if set(each.topics) & set(topics)]
    return {
        "asyncapi": "3.0.0",
        "info": {"title": title, "version": "1.0.0", "description": description},
        "defaultContentType": "application/json",
        "channels": {topic.name: _channel(topic) for topic in topics},
        "operations": {
            name: operation
            for service in services
            for topic in topics
            for name, operation in _operations(service, topic)
        },
        "components": {
            "messages": {each.name: _message(each, samples[each.name]) for each in types},
            "messageTraits": {"cloudevent": {"headers": _HEADERS}},
        },
    }


def _channel(topic: Topic) -> dict[str, Any]:
    known = {key: int(topic.config[key]) for key in _TOPIC_CONFIGURATION & topic.config.keys()}
    return {
        "address": topic.name,
        "description": KIND_MEANS[topic.kind],
        "messages": {
            each.name: {"$ref": f"#/components/messages/{each.name}"} for each in types_on(topic)
        },
        "bindings": {
            "kafka": {
                "topic": topic.name,
                "partitions": topic.partitions,
                "topicConfiguration": {
                    "cleanup.policy": topic.config["cleanup.policy"].split(","),
                    **dict(sorted(known.items())),
                },
                "bindingVersion": _BINDING,
            }
        },
    }


def _operations(service: str, topic: Topic) -> Iterable[tuple[str, dict[str, Any]]]:
    channel = {"$ref": f"#/channels/{topic.name}"}
    if topic.owner == service:
        yield (
            f"{service}.says.{topic.name}",
            {"action": "send", "channel": channel, "summary": f"{service} says it."},
        )
    if topic in subscriptions(service):
        yield (
            f"{service}.hears.{topic.name}",
            {
                "action": "receive",
                "channel": channel,
                "summary": f"{service} hears it.",
                "bindings": {
                    "kafka": {
                        "groupId": {"type": "string", "pattern": f"^{service}\\."},
                        "bindingVersion": _BINDING,
                    }
                },
            },
        )


# Written by contracts/envelope.py (CloudEvents, Kafka protocol binding 1.0.2, section 3.2).
_HEADERS: Final[Mapping[str, Any]] = {
    "type": "object",
    "required": ["ce_specversion", "ce_id", "ce_source", "ce_type", "ce_time", "content-type"],
    "properties": {
        "ce_specversion": {"type": "string", "const": "1.0"},
        "ce_id": {"type": "string", "format": "uuid"},
        "ce_source": {"type": "string", "enum": [ce_source(each) for each in SERVICES]},
        "ce_type": {"type": "string"},
        "ce_time": {"type": "string", "format": "date-time"},
        "ce_subject": {"type": "string", "description": "The tenant's id."},
        "ce_partitionkey": {"type": "string", "description": "The record's key."},
        "ce_dataschema": {"type": "string", "description": "The schema's path in the project."},
        "ce_traceparent": {"type": "string", "description": "W3C Trace Context."},
        "ce_causationid": {"type": "string", "description": "The message that led to this one."},
        "ce_correlationid": {"type": "string", "description": "What a whole story has in common."},
        REPLAY_HEADER: {
            "type": "string",
            "format": "uuid",
            "description": "Which replay says it again; on topics of replays alone.",
        },
        FORCED_HEADER: {
            "type": "string",
            "const": "true",
            "description": "That it is to be handled although it was.",
        },
        "content-type": {"type": "string", "const": "application/json"},
    },
}


def _message(message_type: MessageType, sample: Any) -> dict[str, Any]:
    return {
        "name": message_type.ce_type,
        "title": message_type.name,
        "summary": summary_of(message_type),
        "contentType": "application/json",
        "traits": [{"$ref": "#/components/messageTraits/cloudevent"}],
        "payload": {"$ref": f"{_ROOT}/{message_type.dataschema}"},
        "bindings": {
            "kafka": {
                "key": {
                    "type": "string",
                    "description": f"The text of `{message_type.topics[0].key}`.",
                },
                "bindingVersion": _BINDING,
            }
        },
        "examples": [{"payload": sample}],
    }


def write_documents(root: Path) -> None:
    """Make the documents under ``root`` what the contracts say."""
    folder = root / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for name, document in documents(root).items():
        text = json.dumps(document, indent=2, ensure_ascii=False)
        (folder / f"{name}.json").write_text(f"{text}\n")
