"""What the pages about grants stand on: templates, and style besides that of faults."""

from datetime import datetime
from pathlib import Path
from typing import Final

from chassis.pages import StaffPages

_PAGES: Final = Path(__file__).parent.parent / "pages"
_STATIC: Final = {"grants.css": "text/css"}


class GrantPages(StaffPages):
    """The pages about grants, and what they load from us besides the style of faults."""

    def __init__(self) -> None:
        super().__init__(_PAGES, _STATIC)
        self.templates.filters.update(moment=_moment, minutes_to=_minutes_to)


def _moment(moment: datetime) -> str:
    return f"{moment.day} {moment:%b %Y, %H:%M} UTC"


def _minutes_to(end: datetime, now: datetime) -> str:
    minutes = max(0, int((end - now).total_seconds() // 60))
    if minutes == 0:
        return "in less than a minute"
    return f"in {minutes} minute{'' if minutes == 1 else 's'}"
