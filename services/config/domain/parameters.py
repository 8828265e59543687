"""The parameters of a query: found in its text as ``:name``, each with a type and its values."""

import re
from collections.abc import Iterable
from datetime import date
from enum import StrEnum
from typing import Annotated, Final, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StringConstraints,
    model_validator,
)
from pydantic_core import PydanticCustomError

from services.config.domain.datasources import DatasourceKind
from services.config.domain.definitions import LARGEST_WHOLE, OptionText, whole

_NAME: Final = r"[A-Za-z_][A-Za-z0-9_]{0,62}"

# What is no parameter comes first: whatever lies in it is passed over with it. A text, a quoted
# name or a comment that nothing closes goes on to the end.
_IN_SQL: Final = re.compile(
    rf"""
      [eE]'(?:[^'\\]|\\.|'')*(?:'|\Z)          # text with escapes (PostgreSQL)
    | '(?:[^']|'')*(?:'|\Z)                    # text
    | "(?:[^"]|"")*(?:"|\Z)                    # quoted name
    | `[^`]*(?:`|\Z)                           # quoted name (MySQL)
    | \$(?P<tag>(?:[A-Za-z_]\w*)?)\$.*?(?:\$(?P=tag)\$|\Z)   # text between dollars (PostgreSQL)
    | --[^\n]*                                 # comment
    | (?P<comment>/\*)                         # comment, which may hold others
    | ::+                                      # cast
    | [\w\\]:+\w*                              # slice, time or escaped colon
    | :(?P<name>{_NAME})(?!\w)
    """,
    re.VERBOSE | re.DOTALL,
)
_IN_PATH: Final = re.compile(rf"::+|[\w\\]:+\w*|:(?P<name>{_NAME})(?!\w)")
_COMMENT_EDGE: Final = re.compile(r"/\*|\*/")


def parameters_in(text: str, kind: DatasourceKind) -> list[str]:
    """List the names that a query's text has as ``:name``, each once, in the order of the text.

    In a statement none is found in texts, quoted names, comments and casts, nor
    where a letter, digit or backslash stands before the colon.
    """
    found: dict[str, None] = {}
    pattern = _IN_PATH if kind is DatasourceKind.REST else _IN_SQL
    at = 0
    while (match := pattern.search(text, at)) is not None:
        at = match.end()
        if match.groupdict().get("comment"):
            at = _end_of_comment(text, at)
        elif name := match["name"]:
            found[name] = None
    return list(found)


def _end_of_comment(text: str, at: int) -> int:
    depth = 1
    while depth and (edge := _COMMENT_EDGE.search(text, at)) is not None:
        depth += 1 if edge[0] == "/*" else -1
        at = edge.end()
    return len(text) if depth else at


class ParameterType(StrEnum):
    """What values a parameter takes."""

    TEXT = "text"
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    DATE = "date"


_DATE: Final = re.compile(r"\d{4}-\d{2}-\d{2}")
Value = (
    StrictBool
    | Annotated[
        # In the other order the document of the API would not know the limits.
        int,
        Field(strict=True, ge=-LARGEST_WHOLE, le=LARGEST_WHOLE),
        BeforeValidator(whole),
    ]
    | Annotated[float, Field(strict=True, ge=-LARGEST_WHOLE, le=LARGEST_WHOLE, allow_inf_nan=False)]
    | OptionText
)


class Parameter(BaseModel):
    """One parameter of a query; without ``allowed`` every value of its type may be given."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: Annotated[str, StringConstraints(pattern=rf"^{_NAME}$")]
    type: ParameterType = ParameterType.TEXT
    default: Value | None = None
    allowed: Annotated[tuple[Value, ...], Field(min_length=1, max_length=100)] | None = None

    @model_validator(mode="after")
    def _has_values_of_its_type(self) -> Self:
        values = [*(self.allowed or ()), *([] if self.default is None else [self.default])]
        if not all(_is_of(self.type, value) for value in values):
            raise PydanticCustomError(
                "value_of_another_type",
                "a default or allowed value is none of the type {type}",
                {"type": self.type.value},
            )
        if self.default is not None and not self._allows(self.default):
            raise PydanticCustomError("default_not_allowed", "the default is not allowed")
        return self

    def _allows(self, value: Value) -> bool:
        # True is 1 to Python, and to nobody else.
        return self.allowed is None or any(
            type(each) is type(value) and each == value for each in self.allowed
        )


def _is_of(kind: ParameterType, value: bool | float | str) -> bool:
    match kind:
        case ParameterType.TEXT:
            return isinstance(value, str)
        case ParameterType.BOOLEAN:
            return isinstance(value, bool)
        case ParameterType.INTEGER:
            return isinstance(value, int) and not isinstance(value, bool)
        case ParameterType.NUMBER:
            return isinstance(value, int | float) and not isinstance(value, bool)
        case ParameterType.DATE:
            return isinstance(value, str) and _is_date(value)


def _is_date(value: str) -> bool:
    if not _DATE.fullmatch(value):
        return False
    try:
        date.fromisoformat(value)
    except ValueError:
        return False
    return True


def complete(declared: Iterable[Parameter], names: Iterable[str]) -> tuple[Parameter, ...]:
    """Put the declared parameters into the text's order, and add those that only the text has.

    Raises ``PydanticCustomError`` where one is declared twice, or is not in the text.
    """
    by_name: dict[str, Parameter] = {}
    for each in declared:
        if each.name in by_name:
            raise PydanticCustomError("declared_twice", "a parameter is declared twice")
        by_name[each.name] = each
    wanted = list(names)
    if by_name.keys() - set(wanted):
        raise PydanticCustomError(
            "not_in_the_text", "a parameter is declared that the text does not have as :name"
        )
    return tuple(by_name.get(name) or Parameter(name=name) for name in wanted)
