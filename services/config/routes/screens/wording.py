"""How each kind of things is called on the screens, and what it is for."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from chassis.words import word


@dataclass(frozen=True, slots=True)
class Wording:
    """What is said of one kind; all of it is looked up in the reader's language."""

    many: str
    new: str
    about: str
    """What it is for, and so what to do first where there is none."""


WORDING: Final[Mapping[str, Wording]] = {
    "datasource": Wording(
        many=word("Datasources"),
        new=word("New datasource"),
        about=word(
            "A datasource says where your data is: a database, or a REST API. Begin with one; queries ask it."
        ),
    ),
    "query": Wording(
        many=word("Queries"),
        new=word("New query"),
        about=word(
            "A query says what to ask a datasource, and how its answer is reshaped and shown."
        ),
    ),
    "converter": Wording(
        many=word("Converters"),
        new=word("New converter"),
        about=word(
            "A converter is JavaScript that reshapes the answer of a query before it is shown. You need one only where the answer is not yet as a template wants it."
        ),
    ),
    "template": Wording(
        many=word("Templates"),
        new=word("New template"),
        about=word(
            "A template presents the answer of a query, as a table or a chart. You see what it makes while you write it."
        ),
    ),
}
