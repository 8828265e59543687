"""A JSON array of any length, read item by item while its bytes arrive."""

import codecs
import json
from enum import Enum, auto
from typing import Any

_SPACE = " \t\n\r"
_NUMBER_GOES_ON = frozenset(".eE")


class BrokenArray(Exception):  # noqa: N818 - names what is so
    """What came is no JSON array, ends too early, or has an item beyond the limit."""


class _Expected(Enum):
    OPENING = auto()
    ITEM_OR_END = auto()
    ITEM = auto()
    NOTHING = auto()


class ArrayReader:
    """Takes the bytes of one JSON array and gives its items, each as soon as it is whole.

    Memory holds one piece of the input and one unfinished item of at most
    ``max_item_chars``. Bytes that are not UTF-8 become replacement
    characters: one name in a wrong encoding does not cost the whole array.
    """

    def __init__(self, max_item_chars: int) -> None:
        self._max_item_chars = max_item_chars
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")(errors="replace")
        self._json = json.JSONDecoder()
        self._expected = _Expected.OPENING
        self._text = ""

    def feed(self, raw: bytes) -> list[Any]:
        """Take the next bytes; give the items that they complete.

        Raises:
            BrokenArray: this cannot become an array any more. Items of this
                piece are lost with it.
        """
        self._text += self._decoder.decode(raw)
        items, position = self._whole_items()
        self._text = self._text[position:]
        if self._expected is not _Expected.NOTHING and len(self._text) > self._max_item_chars:
            raise BrokenArray("an item beyond the limit, or no JSON")
        return items

    def close(self) -> None:
        """Say that no more bytes come.

        Raises:
            BrokenArray: the array had not ended, so items are missing.
        """
        if self._expected is not _Expected.NOTHING:
            raise BrokenArray("cut short")

    def _whole_items(self) -> tuple[list[Any], int]:
        items: list[Any] = []
        position = self._after_space(0)
        while position < len(self._text) and self._expected is not _Expected.NOTHING:
            if self._expected is _Expected.OPENING:
                if self._text[position] != "[":
                    raise BrokenArray("no array")
                self._expected, end = _Expected.ITEM_OR_END, position + 1
            elif self._expected is _Expected.ITEM_OR_END and self._text[position] == "]":
                self._expected, end = _Expected.NOTHING, position + 1
            else:
                found = self._whole_item(position)
                if found is None:
                    break
                item, end = found
                items.append(item)
            position = self._after_space(end)
        return items, position

    def _whole_item(self, position: int) -> tuple[Any, int] | None:
        """Read an item with the comma or bracket behind it: until that came, 1 may become 1.5e3."""
        try:
            item, end = self._json.raw_decode(self._text, position)
        except ValueError:  # not whole yet, or never to be; the limit decides
            return None
        except RecursionError:
            raise BrokenArray("too deep") from None
        if self._text[end : end + 1] in _NUMBER_GOES_ON:
            return None
        end = self._after_space(end)
        if end == len(self._text):
            return None
        if self._text[end] not in ",]":
            raise BrokenArray("no comma between items")
        self._expected = _Expected.ITEM if self._text[end] == "," else _Expected.NOTHING
        return item, end + 1

    def _after_space(self, position: int) -> int:
        while position < len(self._text) and self._text[position] in _SPACE:
            position += 1
        return position
