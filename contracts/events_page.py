"""``docs/events.md``: who says what to whom, field by field, for people."""

import json
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from contracts.asyncapi import FOLDER, KIND_MEANS, may_be_tombstone, sample_of, summary_of, types_on
from contracts.messages import Kind
from contracts.registry import MESSAGE_TYPES, MessageType, types_of
from contracts.schemas import published_schema
from contracts.topics import ALL_TOPICS, SERVICES, Topic, is_replays, readers

PAGE: Final = "docs/events.md"
"""Where the page lies, from the project's root."""

_HEAD: Final = """\
# Events: who says what to whom

Made by `python -m contracts` from `contracts/`; the tests refuse a page that says something else. The same for programs,
as AsyncAPI 3: [the whole]({folder}/keepword.json), {services}.

How messages travel and how one changes stands in [contracts](../contracts/README.md); the words in the
[glossary](glossary.md). No secret, client key, host, person or content is ever on the bus: each field below has one of
the classes that may be, and a test refuses others.
"""


def page(root: Path) -> str:
    """Write the page as Markdown; samples are read under ``root``."""
    return "\n".join(
        [
            *_head(),
            *_diagram(),
            *_topics(),
            *(line for topic in ALL_TOPICS for line in _topic(topic)),
            "## Messages",
            "",
            *(line for each in MESSAGE_TYPES for line in _message(each, root)),
        ]
    )


def write_page(root: Path) -> None:
    """Make the page under ``root`` what the contracts say."""
    (root / PAGE).write_text(page(root))


def _head() -> Iterator[str]:
    folder = FOLDER.removeprefix("docs/")
    services = ", ".join(f"[{each}]({folder}/{each}.json)" for each in SERVICES)
    yield _HEAD.format(folder=folder, services=services)


def _diagram() -> Iterator[str]:
    """Draw the services with what goes from one to another; what one hears of itself is left out."""
    yield from ("```mermaid", "flowchart LR")
    for owner in SERVICES:
        for reader in SERVICES:
            said = [t.name for t in ALL_TOPICS if t.owner == owner and reader in readers(t)]
            if said and reader != owner:
                yield f'    {owner} -->|"{"<br/>".join(said)}"| {reader}'
    yield from ("```", "")


def _topics() -> Iterator[str]:
    yield from (
        "## Topics",
        "",
        "| topic | kind | said by | heard by | key | partitions | kept |",
        "|---|---|---|---|---|---|---|",
    )
    for topic in ALL_TOPICS:
        cells = (
            f"[`{topic.name}`](#{_anchor(topic.name)})",
            topic.kind,
            topic.owner,
            ", ".join(readers(topic)),
            f"`{topic.key}`",
            topic.partitions,
            _kept(topic),
        )
        yield f"| {' | '.join(map(str, cells))} |"
    yield ""
    for kind in Kind:
        yield f"- **{kind}**: {KIND_MEANS[kind]}"
    yield ""


def _kept(topic: Topic) -> str:
    config = topic.config
    if config["cleanup.policy"] == "compact":
        overwritten = _days(config["segment.ms"]) + _days(config["max.compaction.lag.ms"])
        tombstones = _days(config["delete.retention.ms"])
        return f"the newest of each key; older ones {overwritten} d, tombstones {tombstones} d more"
    return f"{_days(config['retention.ms'])} d"


def _days(milliseconds: str) -> int:
    return timedelta(milliseconds=int(milliseconds)) // timedelta(days=1)


def _topic(topic: Topic) -> Iterator[str]:
    yield from (f"### {topic.name}", "")
    heard = ", ".join(readers(topic))
    if is_replays(topic):
        yield f"What others have said, again for {topic.owner} alone, by `keepword events replay`."
    else:
        yield f"{KIND_MEANS[topic.kind]} Said by {topic.owner}, heard by {heard}."
    yield f"A tenant's copies in outbox, inbox and dead letters go with its class `{topic.erases_as}`."
    yield ""
    yield from (f"- [{each.name}](#{_anchor(each.name)})" for each in types_on(topic))
    if may_be_tombstone(topic):
        yield "- a record without a body (tombstone): what its key named is gone, or never was"
    yield ""


def _message(message_type: MessageType, root: Path) -> Iterator[str]:
    topics = ", ".join(f"`{topic.name}`" for topic in message_type.topics)
    yield from (f"### {message_type.name}", "")
    yield f"`{message_type.ce_type}` on {topics}; schema"
    yield f"[{message_type.schema}](../{message_type.dataschema}). {summary_of(message_type)}"
    first = types_of(message_type.model)[0]
    if first is not message_type:
        yield from (f"Its body is that of [{first.name}](#{_anchor(first.name)}).", "")
        return
    yield from ("", "| field | type | class | |", "|---|---|---|---|")
    schema = published_schema(message_type)
    for name, field, is_there in _fields(schema, schema.get("$defs", {}), is_there=True):
        optional = "" if is_there else "may be absent"
        yield f"| `{name}` | {_type(field)} | {field.get('x-class', '')} | {optional} |"
    sample = json.dumps(sample_of(message_type, root), indent=2, ensure_ascii=False)
    yield from ("", "<details><summary>sample</summary>", "", "```json", sample, "```")
    yield from ("", "</details>", "")


_Field = tuple[str, Mapping[str, Any], bool]


def _fields(
    schema: Mapping[str, Any], definitions: Mapping[str, Any], prefix: str = "", *, is_there: bool
) -> Iterator[_Field]:
    """List the fields of a schema and of what lies in it, as they stand, and which always do."""
    must = schema.get("required", ()) if is_there else ()
    for name, found in schema.get("properties", {}).items():
        yield from _unfolded(f"{prefix}{name}", found, definitions, is_there=name in must)


def _unfolded(
    path: str, found: Mapping[str, Any], definitions: Mapping[str, Any], *, is_there: bool
) -> Iterator[_Field]:
    may_be_null = any(each.get("type") == "null" for each in found.get("anyOf", ()))
    is_there = is_there and not may_be_null
    field = _resolved(found, definitions)
    items, values = field.get("items"), field.get("additionalProperties")
    outer = {key: field[key] for key in field.keys() & {"x-class"}}
    if "properties" in field:
        yield from _fields(field, definitions, f"{path}.", is_there=is_there)
    elif isinstance(items, Mapping):
        yield from _unfolded(f"{path}[]", {**outer, **items}, definitions, is_there=is_there)
    elif isinstance(values, Mapping):
        names = _resolved(field.get("propertyNames", {}), definitions)
        yield f"{path} (names)", {**outer, "type": "string", **names}, is_there
        yield from _unfolded(f"{path}.*", {**outer, **values}, definitions, is_there=is_there)
    else:
        yield path, field, is_there


def _resolved(found: Mapping[str, Any], definitions: Mapping[str, Any]) -> Mapping[str, Any]:
    """Follow a reference, and the one arm of a union beside null."""
    arms = [each for each in found.get("anyOf", ()) if each.get("type") != "null"]
    beside = {key: value for key, value in found.items() if key not in ("$ref", "anyOf")}
    if len(arms) == 1:
        return {**_resolved(arms[0], definitions), **beside}
    if "$ref" in found:
        target = definitions[found["$ref"].removeprefix("#/$defs/")]
        return {**_resolved(target, definitions), **beside}
    return found


def _type(field: Mapping[str, Any]) -> str:
    if "const" in field:
        return f"`{field['const']}`"
    if "enum" in field:
        return ", ".join(f"`{each}`" for each in field["enum"])
    return str(field.get("format", field.get("type", "")))


def _anchor(heading: str) -> str:
    """Spell the anchor that Markdown pages give a heading."""
    return heading.replace(".", "")
