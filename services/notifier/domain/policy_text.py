"""What staff write, as people read it: Markdown without HTML, images or doubtful links."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from textwrap import wrap
from typing import Final
from urllib.parse import urlsplit

from markdown_it import MarkdownIt
from markdown_it.token import Token

MOST_BLOCKS: Final = 1000
"""As many as two texts can have for anybody to see what is different between them."""

_SCHEMES: Final = frozenset({"https", "mailto"})
_LOWEST_HEADING: Final = 6
_LINE: Final = 76
_BLOCKS: Final = frozenset({"p", "li", "th", "td", "pre", "h2", "h3", "h4", "h5", "h6"})


class _Markdown(MarkdownIt):
    """CommonMark with tables; HTML stays text, images become links, headings leave h1 to the page."""

    def __init__(self) -> None:
        super().__init__("commonmark", {"html": False})
        self.enable("table")
        self.disable("image")

    def validateLink(self, url: str) -> bool:  # noqa: N802 - the name is the library's
        """Allow what neither runs nor loads anything; other links stay the text that was written."""
        try:
            return urlsplit(url).scheme in _SCHEMES
        except ValueError:
            return False

    def tokens(self, text: str) -> list[Token]:
        """Take the text apart."""
        tokens = self.parse(text)
        for token in tokens:
            if token.type in ("heading_open", "heading_close"):
                token.tag = f"h{min(int(token.tag[1]) + 1, _LOWEST_HEADING)}"
        return tokens


_MARKDOWN: Final = _Markdown()


@lru_cache(maxsize=32)
def as_html(text: str, styles: tuple[tuple[str, str], ...] = ()) -> str:
    """Write a text as HTML that loads nothing, runs nothing and links to https or mailto alone.

    ``styles`` are pairs of an element's name and its style, for mail, where few programs look at
    style sheets.
    """
    tokens = _MARKDOWN.tokens(text)
    by_tag = dict(styles)
    for token in tokens:
        if token.nesting == 1 and token.tag in by_tag:
            token.attrSet("style", by_tag[token.tag])
    return str(_MARKDOWN.renderer.render(tokens, _MARKDOWN.options, {}))


@dataclass(frozen=True, slots=True)
class Block:
    """A paragraph, heading, list item or cell; ``tag`` is its element's name."""

    tag: str
    text: str


def blocks(text: str) -> list[Block]:
    """Take a text apart into blocks of words, where a link's address stands behind its words."""
    found: list[Block] = []
    open_tags: list[str] = []
    for token in _MARKDOWN.tokens(text):
        if token.type in ("fence", "code_block"):
            found.append(Block("pre", token.content.rstrip("\n")))
        elif token.type == "inline":
            tag = next((each for each in reversed(open_tags) if each in _BLOCKS), "p")
            if tag == "p" and "li" in open_tags:
                tag = "li"
            found.append(Block(tag, _words(token.children or ())))
        elif token.nesting == 1:
            open_tags.append(token.tag)
        elif token.nesting == -1:
            open_tags.pop()
    return found


def addresses(text: str) -> list[str]:
    """List the addresses that a text links to, in order."""
    return [
        str(child.attrGet("href"))
        for token in _MARKDOWN.tokens(text)
        for child in token.children or ()
        if child.type == "link_open"
    ]


@lru_cache(maxsize=32)
def as_plain(text: str) -> str:
    """Write a text for who reads mail without any markup, in lines of 76 letters."""
    lines: list[str] = []
    before = ""
    for block in blocks(text):
        if lines and not (block.tag == before == "li"):
            lines.append("")
        lines += _lines_of(block)
        before = block.tag
    return "\n".join(lines)


def _lines_of(block: Block) -> list[str]:
    if block.tag == "pre":
        return [f"    {line}" for line in block.text.split("\n")]
    bullet = "- " if block.tag == "li" else ""
    lines = wrap(
        block.text,
        _LINE,
        initial_indent=bullet,
        subsequent_indent=" " * len(bullet),
        # An address that is cut in two leads nowhere.
        break_long_words=False,
        break_on_hyphens=False,
    )
    if block.tag.startswith("h"):
        lines.append("=" * max(map(len, lines), default=0))
    return lines


def _words(tokens: Sequence[Token]) -> str:
    words, addresses = list[str](), list[str]()
    for token in tokens:
        if token.type == "link_open":
            addresses.append(str(token.attrGet("href")))
        elif token.type == "link_close":
            address = addresses.pop()
            if not words or words[-1] != address:
                words.append(f" ({address})")
        elif token.type in ("softbreak", "hardbreak"):
            words.append(" ")
        else:
            words.append(token.content)
    return "".join(words)
