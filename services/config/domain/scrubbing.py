"""Takes out of a text what may be of a person, a secret or a network, before it reaches a disk.

The patterns are those of Sentry's Relay (relay-pii), which leaves file names and values alone; here
nothing is left alone. What is taken out leaves a word in brackets that says what it was.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

REMOVED: Final = "[removed]"
"""What is left of a text of which nothing can be said for sure."""

_MOST_READ: Final = 8 * 1024
_MOST_PASSES: Final = 8

# Neither PostgreSQL nor a reader's eye takes these: controls, half characters, changes of direction;
# and every space becomes the one that the patterns know.
_ODD: Final = re.compile(
    "[\x00-\x1f\x7f-\xa0\u1680\u180e\u2000-\u200f\u2028-\u202f\u205f-\u2069\u3000\ufeff\ud800-\udfff]"
)


@dataclass(frozen=True, slots=True)
class _Rule:
    """What is not in a text, of ``needs`` any one, spares the search for the pattern."""

    needs: tuple[str, ...]
    pattern: re.Pattern[str]
    replacement: str


def _rule(
    needs: tuple[str, ...], pattern: str, replacement: str, *, exact_case: bool = False
) -> _Rule:
    return _Rule(
        needs, re.compile(pattern, re.NOFLAG if exact_case else re.IGNORECASE), replacement
    )


# Relay's list of keys, with that of the SDK.
_SPEAKING_KEYS: Final = (
    r"pass(?:word|wd|phrase)|secret|api[-_]?key|auth|credential|mysql_pwd|priv(?:ate)?[-_]?key"
    r"|token|jwt|saml|csrf|xsrf|sess(?:ion)?|cookie|\bsid\b|\bsso\b|\botp\b|two[-_]factor|identity"
)
_BYTE: Final = r"(?:25[0-5]|2[0-4]\d|1?\d?\d)"

# In this order: what is longer and surer first. Each begins where none of its own characters
# stands before, and repeats possessively or only so often, so that long texts take no longer look.
_RULES: Final = (
    _rule(("-----",), r"-----BEGIN[^-]*+-----.*?(?:-----END[^-]*+-----|\Z)", "[key]"),
    _rule(
        ("eyJ",),
        r"(?<![\w-])eyJ[\w-]++\.[\w-]*+(?:\.[\w-]*+){0,3}",
        "[token]",
        exact_case=True,
    ),
    _rule((" ",), r"\b(bearer|basic|jwt)\s++[\w.~+/=-]{8,}+", r"\1 [token]"),
    # Of an address there stays the path.
    _rule(("://",), r"(?<![\w+.-])[a-z][\w+.-]*+://[^\s/?#\"'<>\\)]*+", "[origin]"),
    _rule(("?",), r"\?(?!\[)(?=[^\s=]{0,200}+=)[^\s\"'<>)]++", "?[query]"),
    _rule(
        ("=", ":"),
        rf"(?<![\w-])([\w-]*?(?:{_SPEAKING_KEYS})[\w-]*+[\"']?\s*+[:=]\s*+[\"']?)"
        r"(?!\[)[^\s\"',;&<>()\[\]{}]++",
        r"\1[secret]",
    ),
    _rule(
        ("@",),
        r"(?<![\w.!#$%&'*+=?^`{|}~-])[\w.!#$%&'*+=?^`{|}~-]++@[\w-]++(?:\.[\w-]++)*+",
        "[email]",
    ),
    _rule(("%40",), r"(?<![\w.+-])[\w.+-]++%40[\w.-]++", "[email]"),
    _rule(
        ("/", "\\"),
        r"((?:/users/|/home/|\b[a-z]:\\+users\\+|\\users\\+))(?!\[)[^/\\\s:]++",
        r"\1[user]",
    ),
    _rule((":", "-"), r"(?<![0-9a-z:-])[0-9a-f]{2}(?:[:-][0-9a-f]{2}){5}(?![0-9a-z:-])", "[mac]"),
    _rule(
        (":",),
        r"(?<![\w:.])(?:(?:[0-9a-f]{1,4}:){7}[0-9a-f]{1,4}"
        r"|(?=[:0-9a-f]*[0-9a-f])(?:[0-9a-f]{1,4}:){0,6}[0-9a-f]{0,4}::"
        r"(?:[0-9a-f]{1,4}:){0,6}[0-9a-f]{0,4})(?![\w:])",
        "[ip]",
    ),
)

# What has none of these, as most names of functions, holds nothing that the first rules look for.
_MARKS: Final = re.compile(r"[-@:/=?% \\]|eyJ")
# These need two digits, or one in what is long. Most names of functions have neither.
_DIGIT: Final = re.compile(r"\d")
_TWO_DIGITS: Final = re.compile(r"\d\D*+\d")
_LONG: Final = 24
_RULES_OF_DIGITS: Final = (
    # Atlassian's account ids have a number before the UUID.
    _rule(
        ("",),
        r"(?<![0-9a-z])(?:\d{1,8}:)?[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}(?![0-9a-z])",
        "[id]",
    ),
    _rule((".",), rf"(?<![\d.])(?:{_BYTE}\.){{3}}{_BYTE}(?!\.?\d)", "[ip]"),
    _rule(
        ("",),
        r"(?<![0-9A-Za-z])[A-Z]{2}\d{2}(?: ?[0-9A-Z]{4}){2,7}(?: ?[0-9A-Z]{1,4})?(?![0-9A-Za-z])",
        "[iban]",
        exact_case=True,
    ),
    _rule(("",), r"(?<![0-9a-z])[a-z]{2}\d{2}[0-9a-z]{11,30}(?![0-9a-z])", "[iban]"),
    _rule(("",), r"(?<!\d)[2-6]\d{3}(?:[ -]?\d){9,15}(?!\d)", "[card]"),
    _rule(("",), r"(?<!\d)\d{2}-?\d{6}-?\d{6}-?\d{1,2}(?!\d)", "[imei]"),
    _rule((" ", "-"), r"(?<![\d-])\d{3}[- ]\d{2}[- ]\d{4}(?![\d-])", "[ssn]"),
    _rule(("+",), r"(?<!\w)\+\d(?:[ ()./-]{0,2}\d){7,14}(?!\d)", "[phone]"),
    # Whatever looks as if no person could have thought of it.
    _rule(("",), r"(?<![0-9a-z])[0-9a-f]{24,}+", "[id]"),
    _rule(("",), r"(?<![\w+=-])(?=[a-z_+=-]*+\d)[\w+=-]{40,}+", "[secret]"),
)


def scrub(text: str, most: int) -> str:
    """Return a text of at most ``most`` characters without what may be of a person.

    Scrubbed again it stays as it is. What cannot be brought to rest is taken out as a whole.
    """
    return _at_rest(text, most, _without)


def scrub_file(name: str, most: int) -> str:
    """Return the path of a script, without its origin and query, and scrubbed as a text is."""
    return _at_rest(_path_of(name), most, lambda text: _without(_path_of(text)))


_SCHEMES: Final = re.compile(r"^(?:[a-z][a-z0-9+.-]+:)+(?://[^/?#]*)?", re.IGNORECASE)


def _path_of(name: str) -> str:
    if ":" in name:
        if name[:5].lower() == "data:":
            return "[data]"
        name = _SCHEMES.sub("", name)
    return name.partition("?")[0].partition("#")[0]


def _without(text: str) -> str:
    if _MARKS.search(text):
        text = _by_rules(_RULES, text)
    if (_DIGIT if len(text) >= _LONG else _TWO_DIGITS).search(text):
        text = _by_rules(_RULES_OF_DIGITS, text)
    return text


def _by_rules(rules: tuple[_Rule, ...], text: str) -> str:
    for rule in rules:
        for needed in rule.needs:
            if needed in text:
                text = rule.pattern.sub(rule.replacement, text)
                break
    return text


def _at_rest(text: str, most: int, once: Callable[[str], str]) -> str:
    """Repeat until nothing changes: what is taken out can lay bare what stood beside it."""
    if len(text) > _MOST_READ:
        # A word that was cut through could pass for something harmless.
        text = text[:_MOST_READ].rpartition(" ")[0]
        if not text:
            return REMOVED
    if not text.isprintable():
        text = _ODD.sub(" ", text)
    text = text.strip()
    for _ in range(_MOST_PASSES):
        before, text = text, once(text)[:most].strip()
        if text == before:
            return text
    return REMOVED
