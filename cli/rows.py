"""Shows rows: a table at a terminal, JSON lines where a program reads them."""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

Row = Mapping[str, Any]

# What is copied from the table into the next command has to stay in one piece.
_WHOLE: Final = frozenset({"at", "group", "letter"})


def show_rows(console: Console, columns: Sequence[str], rows: Iterable[Row]) -> None:
    """Write rows, each with these columns and possibly more, which programs get too."""
    if not console.is_terminal:
        for row in rows:
            print(json.dumps(row, default=_plain, ensure_ascii=False))  # noqa: T201 - Rich would wrap it
        return
    table = Table(*(Column(name, no_wrap=name in _WHOLE) for name in columns))
    for row in rows:
        table.add_row(*(escape(_told(row.get(column))) for column in columns))
    if table.rows:
        console.print(table)


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _told(value: object) -> str:
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {each}" for name, each in value.items())
    return "" if value is None else str(value)
