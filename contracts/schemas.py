"""The published schemas: what we promise to send, one JSON Schema per message type and release."""

from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from contracts.registry import MessageType

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def published_schema(message_type: MessageType) -> dict[str, Any]:
    """Generate the schema of a message type's body from today's model.

    It is closed, since it says all that we send, while our own readers ignore
    what they do not know. Registries call an open schema incompatible with
    every added field, so an open one could never grow.
    """
    generated = message_type.model.model_json_schema(
        schema_generator=_Closed, mode="validation", ref_template="#/$defs/{model}"
    )
    return {
        "$schema": _DIALECT,
        "$id": f"urn:keepword:{message_type.name}:v{message_type.major}:{message_type.schema}",
        **generated,
        "title": message_type.name,
    }


class _Closed(GenerateJsonSchema):
    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        return {**super().model_schema(schema), "additionalProperties": False}

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 - pydantic's signature
        return False
