"""`keepword privacy`: what is kept of whom, why and until when, as the data maps declare it.

``python -m cli.privacy`` writes the generated pages of ``docs/`` anew, and what customers are shown of it.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import typer
from pydantic import ValidationError

from cli.record import (
    Controller,
    Record,
    as_html,
    as_json,
    as_markdown,
    load_controller,
    record_of_all,
    retention_table,
    stores_of_customers,
)
from cli.running import MISUSED
from devstack.programs import ROOT

CONTROLLER_FILE: Final = ROOT / "docs" / "controller.toml"
RECORD_FILE: Final = ROOT / "docs" / "privacy-record.md"
# Config shows it, and knows no other service.
STORES_FILE: Final = ROOT / "services" / "config" / "pages" / "app" / "stores.json"
TABLE_FILE: Final = ROOT / "docs" / "privacy.md"

BEGIN: Final = (
    "<!-- Written by `python -m cli.privacy`; what is changed here by hand is lost. -->\n"
)
END: Final = "<!-- The end of what is written by it. -->\n"

_FORMATS: Final[Mapping[str, Callable[[Record], str]]] = {
    "md": as_markdown,
    "json": as_json,
    "html": as_html,
}


def run_record(format_name: str, *, output: Path | None, controller: Path | None) -> int:
    """Write the record of processing in one of its formats."""
    if format_name not in _FORMATS:
        return _misused(f"There is no format {format_name}; there are {', '.join(_FORMATS)}.")
    return _write(_FORMATS[format_name], output=output, controller=controller)


def run_table(*, controller: Path | None) -> int:
    """Write the retention table."""
    return _write(retention_table, output=None, controller=controller)


def _write(show: Callable[[Record], str], *, output: Path | None, controller: Path | None) -> int:
    try:
        text = show(record_of_all(_controller(controller or CONTROLLER_FILE)))
        if output is None:
            typer.echo(text, nl=False)
        else:
            output.write_text(text, encoding="utf-8")
    except _Unfit as unfit:
        return _misused(str(unfit))
    except OSError as failure:
        return _misused(f"{failure.filename}: {failure.strerror}. Name another file.")
    return 0


class _Unfit(Exception):  # noqa: N818 - names what is so
    """A file that does not say what it has to."""


def _controller(path: Path) -> Controller:
    try:
        return load_controller(path)
    except ValidationError as refused:
        places = {".".join(map(str, error["loc"])) for error in refused.errors()}
        raise _Unfit(f"{path}: look at {', '.join(sorted(places))}") from None
    except ValueError as refused:
        raise _Unfit(f"{path} is not TOML: {refused}") from None


def _misused(advice: str) -> int:
    typer.echo(advice, err=True)
    return MISUSED


def generated_pages() -> dict[Path, str]:
    """Say what the generated pages have to hold."""
    record = record_of_all(load_controller(CONTROLLER_FILE))
    head, rest = TABLE_FILE.read_text(encoding="utf-8").split(BEGIN)
    tail = rest.split(END)[1]
    return {
        RECORD_FILE: as_markdown(record),
        STORES_FILE: stores_of_customers(record),
        TABLE_FILE: f"{head}{BEGIN}\n{retention_table(record)}\n{END}{tail}",
    }


if __name__ == "__main__":
    for page, text in generated_pages().items():
        page.write_text(text, encoding="utf-8")
