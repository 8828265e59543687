"""Which services are used how much: what a page may tell of it, and what statistics may show."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from typing import Annotated, Final
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

FEWEST_TENANTS: Final = 5
"""Fewer tenants than this could be guessed, so their numbers are shown to nobody."""

MOST_A_DAY: Final = 10_000
"""So much counts of a feature, tenant and day: more is a loop, and no use."""

_MOST_AT_ONCE: Final = 1_000


class Feature(StrEnum):
    """What can be used; a page can tell of nothing else."""

    DATASOURCES = "datasources"
    QUERIES = "queries"
    CONVERTERS = "converters"
    TEMPLATES = "templates"
    PREVIEW = "preview"
    HISTORY = "history"
    EXPORT = "export"
    IMPORT = "import"
    YOUR_DATA = "your-data"


class Size(StrEnum):
    """How many things a tenant keeps; never the number itself."""

    NONE = "0"
    TEN = "1-10"
    HUNDRED = "11-100"
    THOUSAND = "101-1000"
    MORE = "1001+"


_SIZES_UP_TO: Final = ((0, Size.NONE), (10, Size.TEN), (100, Size.HUNDRED), (1000, Size.THOUSAND))


def size_of(things: int) -> Size:
    """Say in which range a number of things lies."""
    return next((size for most, size in _SIZES_UP_TO if things <= most), Size.MORE)


class Use(BaseModel):
    """How often a feature was used."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    feature: Feature
    uses: Annotated[int, Field(ge=1, le=_MOST_AT_ONCE)]


class Batch(BaseModel):
    """What a page tells at once, under an id that it made up, so that it counts once.

    It has no time: the day is the day on which it comes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    batch_id: UUID
    uses: Annotated[tuple[Use, ...], Field(min_length=1, max_length=len(Feature))]


@dataclass(frozen=True, slots=True)
class Cell:
    """What is kept of one day: no tenant is named, but a few could be guessed."""

    day: date
    app: str
    feature: str
    size: str
    tenants: int
    uses: int


@dataclass(slots=True)
class Shown:
    """What may be shown of an app's feature: sums of days on which enough tenants used it."""

    uses: int = 0
    by_day: dict[date, int] = field(default_factory=dict)
    by_size: dict[str, int] = field(default_factory=dict)
    undivided: int = 0
    """Uses of days whose sizes had too few tenants each."""
    most_tenants: int = 0


def show(cells: Iterable[Cell]) -> Mapping[tuple[str, str], Shown]:
    """Sum up what may be shown, by app and feature.

    A day of an app's feature is shown where ``FEWEST_TENANTS`` or more used it, and divided by
    size only where each size that there was had as many: otherwise the one that is left out
    would be the difference. All else is a sum of such days, so whoever subtracts one number
    that is shown from another gets a sum of days that may be shown, or nothing that is one.
    """
    days: dict[tuple[str, str, date], list[Cell]] = defaultdict(list)
    for cell in cells:
        days[cell.app, cell.feature, cell.day].append(cell)
    found: dict[tuple[str, str], Shown] = {}
    for (app, feature, day), sizes in sorted(days.items()):
        tenants, uses = sum(each.tenants for each in sizes), sum(each.uses for each in sizes)
        if tenants < FEWEST_TENANTS:
            continue
        shown = found.setdefault((app, feature), Shown())
        shown.uses += uses
        shown.by_day[day] = uses
        shown.most_tenants = max(shown.most_tenants, tenants)
        if all(each.tenants >= FEWEST_TENANTS for each in sizes):
            for each in sizes:
                shown.by_size[each.size] = shown.by_size.get(each.size, 0) + each.uses
        else:
            shown.undivided += uses
    return found
