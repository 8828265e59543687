"""Forms as the app's page sends them."""

from typing import Any

Pairs = list[tuple[str, str]]


def pairs(**fields: str | tuple[str, ...]) -> Pairs:
    """A form with these fields; a tuple is several fields of one name."""
    return [
        (name.replace("_", "-") if name.startswith("parameter") else name, each)
        for name, value in fields.items()
        for each in ((value,) if isinstance(value, str) else value)
    ]


def a_form(kind: str, /, **others: Any) -> Pairs:
    """What somebody types who makes a thing of this kind."""
    forms: dict[str, dict[str, Any]] = {
        "datasource": {
            "name": "Sales",
            "tags": "finance, monthly",
            "kind": "sql",
            "url": "postgresql://db.customer.test/sales",
            "username": "reader",
            "login": "replace",
            "credentials": "correct-horse-battery",
            "options": 'schema = public\ntimeout = 10\nread_only = true\nzip = "0123"',
        },
        "converter": {"name": "By month", "tags": "", "text": "rows.map(row => row.month)"},
        "template": {"name": "Plain", "tags": "", "kind": "table", "text": "{{ rows }}"},
        "query": {
            "name": "Sales of a region",
            "tags": "",
            "text": "SELECT 1 FROM sales WHERE region = :region AND year = :year",
            "spaces": "SALES, HR",
            "parameter_name": ("year", "region"),
            "parameter_type": ("integer", "text"),
            "parameter_default": ("2026", "EMEA"),
            "parameter_allowed": ("", "EMEA\nAPAC"),
            "converter_id": "",
            "template_id": "",
        },
    }
    return pairs(**{**forms[kind], **others})
