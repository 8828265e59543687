"""The kinds of things that customers create, and all that differs between them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from services.config.domain.datasources import Datasource
from services.config.domain.definitions import Definition
from services.config.domain.presentation import Converter, Template
from services.config.domain.queries import Query

_NONE: Final[Mapping[str, str]] = {}
_ID: Final = "0193574b-6bd0-7c3a-9a55-{}"


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of things: another one is a model, an entry in ``KINDS``, and nothing else.

    ``refers`` maps a field that holds an id to the kind that is meant; those
    ``alike`` it must have the same ``kind`` field, which then never changes. What
    is ``long`` is left out of lists.
    """

    name: str
    plural: str
    model: type[Definition]
    example: Mapping[str, Any]
    refers: Mapping[str, str] = field(default_factory=lambda: _NONE)
    alike: frozenset[str] = frozenset()
    long: tuple[str, ...] = ()

    @property
    def has_secret(self) -> bool:
        """Whether something of it is sealed."""
        return "credentials" in self.model.model_fields

    @property
    def nature_is_fixed(self) -> bool:
        """Whether its ``kind`` field never changes, as others were made for it as it is."""
        return any(self.name == kind.refers[each] for kind in KINDS for each in kind.alike)


# Who is referred to comes before who refers, so that things are written in this order.
KINDS: Final = (
    Kind(
        name="datasource",
        plural="datasources",
        model=Datasource,
        example={
            "name": "Sales",
            "tags": ["finance"],
            "kind": "sql",
            "url": "postgresql://db.example.com:5432/sales",
            "options": {"schema": "public", "read_only": True},
            "username": "reader",
            "credentials": "write-only",
        },
    ),
    Kind(
        name="converter",
        plural="converters",
        model=Converter,
        example={"name": "By month", "tags": [], "text": "rows.map(row => [row.month, row.sum])"},
        long=("text",),
    ),
    Kind(
        name="template",
        plural="templates",
        model=Template,
        example={
            "name": "Plain table",
            "tags": [],
            "kind": "table",
            "text": "<table>{% for row in rows %}<tr><td>{{ row.sum }}</td></tr>{% endfor %}</table>",
        },
        long=("text",),
    ),
    Kind(
        name="query",
        plural="queries",
        model=Query,
        example={
            "name": "Sales of a region",
            "tags": ["finance"],
            "kind": "sql",
            "text": "SELECT month, sum FROM sales WHERE region = :region",
            "parameters": [
                {"name": "region", "type": "text", "default": "EMEA", "allowed": ["EMEA", "APAC"]}
            ],
            "datasource_id": _ID.format("000000000001"),
            "converter_id": _ID.format("000000000002"),
            "template_id": _ID.format("000000000003"),
            "spaces": ["SALES"],
        },
        refers={
            "datasource_id": "datasource",
            "converter_id": "converter",
            "template_id": "template",
        },
        alike=frozenset({"datasource_id"}),
        long=("text",),
    ),
)

KIND_OF: Final[Mapping[str, Kind]] = {kind.name: kind for kind in KINDS}
