from base64 import b64encode, urlsafe_b64encode

import pytest

from devstack.canary import Canary, Found

MARKER = "canary?0123>abc"
PLAIN = MARKER.encode()


@pytest.mark.parametrize(
    "haystack",
    [
        b'{"name": "' + PLAIN + b'"}',
        b"\\x7b" + PLAIN.hex().encode() + b"7d",
        PLAIN.hex().upper().encode(),
        *(b64encode(b"a" * shift + PLAIN + b"tail") for shift in range(5)),
        *(urlsafe_b64encode(b"a" * shift + PLAIN + b"tail") for shift in range(5)),
    ],
    ids=lambda haystack: haystack[:20].decode(),
)
def test_a_marker_is_found_in_whatever_form_it_lies_there(haystack: bytes) -> None:
    assert Canary.of(MARKER).is_in(haystack)
    assert not Canary.of("canary?0124>abc").is_in(haystack)


def test_a_site_that_is_named_by_the_marker_is_found_by_what_atlassian_makes_of_its_name() -> None:
    canary = Canary.hatch()
    assert canary.is_in(canary.site.encode())
    assert canary.is_in(canary.marker.upper().encode())
    assert len(Canary.hatch().forms) > len(Canary.of(canary.marker).forms)


def test_hits_are_counted_by_place_and_what_was_searched_by_kind() -> None:
    found = Found()
    found.look(Canary.of(MARKER), "table a", "rows", [PLAIN, b"nothing", PLAIN])
    found.look(Canary.of(MARKER), "table b", "rows", [b"nothing"])
    found.look(Canary.of(MARKER), "log c", "log lines", [])
    assert found.places == {"table a"}
    assert found.hits.total() == 2
    assert found.searched == {"rows": 4}
    assert (found.pieces["table b"], found.pieces["log c"]) == (1, 0)
