"""What reshapes an answer and what presents it: converters and templates, which are texts to us."""

from enum import StrEnum

from services.config.domain.definitions import Definition, Text


class Converter(Definition):
    """JavaScript that reshapes a query's answer. It is kept here, and never run."""

    text: Text


class TemplateKind(StrEnum):
    """What a template makes of an answer."""

    TABLE = "table"
    CHART = "chart"


class Template(Definition):
    """Nunjucks text that presents a query's answer. It is kept here, and never run."""

    kind: TemplateKind
    text: Text
