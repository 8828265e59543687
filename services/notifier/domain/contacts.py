"""Who is kept of a licence's people, as what, and in which language they are written to."""

from typing import Final

from services.notifier.domain.people import Language

# By name or by code, as the report has them, where most customers read German.
_GERMAN: Final = frozenset(
    {"germany", "deutschland", "de", "austria", "österreich", "at", "switzerland", "ch"}
    | {"liechtenstein", "li"}
)


def language_of(country: str | None) -> Language:
    """Say in which language people of a country are written to; English where we do not know."""
    if country is not None and country.strip().lower() in _GERMAN:
        return Language.GERMAN
    return Language.ENGLISH


def segment(text: str | None) -> str | None:
    """Spell a product, an edition or a region so that equal ones are equal."""
    return None if text is None else " ".join(text.lower().split())
