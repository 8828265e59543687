"""The texts of customers' screens, as their templates mark them."""

from collections.abc import Iterator
from pathlib import Path

from chassis.words import Language, Words


def texts_in(folder: Path) -> Iterator[str]:
    """Give every text that a template in a folder lets be said in the reader's language."""
    environment = Words.of(Language.ENGLISH, folder).templates()
    for path in folder.glob("*.html"):
        for _, _, found in environment.extract_translations(path.read_text("utf-8")):  # type: ignore[attr-defined]
            yield from (
                each for each in ([found] if isinstance(found, str) else found or ()) if each
            )
