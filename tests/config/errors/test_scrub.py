"""What is taken out of texts and file names, and what is left."""

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from services.config.domain.scrubbing import REMOVED, scrub, scrub_file

KEY = "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\nAAA\n-----END RSA PRIVATE KEY-----"
TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"

# What stands in a text, and what has to stand there instead.
CORPUS = [
    ("mail to bob@example.com failed", "mail to [email] failed"),
    ("BOB.O'HARA+x@mail.example.co.uk!", "[email]!"),
    ("jürgen@münchen.example", "[email]"),
    ("?u=bob%40example.com", "?[query]"),
    ("user bob%40example.com", "user [email]"),
    (f"{'a' * 300}@example.com", "[email]"),
    ("at 192.168.0.1:8080", "at [ip]:8080"),
    ("at 2001:db8::8a2e:370:7334 now", "at [ip] now"),
    ("at fe80:0:0:0:1:2:3:4", "at [ip]"),
    ("from ::1", "from [ip]"),
    ("mac 00:1B:44:11:3A:B7", "mac [mac]"),
    ("id 123e4567-e89b-12d3-a456-426614174000", "id [id]"),
    ("id 557058:123e4567-e89b-12d3-a456-426614174000", "id [id]"),
    ("account 5b10ac8d82e05b22cc7d4ef5", "account [id]"),
    ("imei 49-015420-323751-8", "imei [imei]"),
    ("to DE89 3704 0044 0532 0130 00", "to [iban]"),
    ("to de89370400440532013000", "to [iban]"),
    ("card 4111 1111 1111 1111", "card [card]"),
    ("card 4111-1111-1111-1111", "card [card]"),
    ("card 378282246310005", "card [card]"),
    ("ssn 078-05-1120", "ssn [ssn]"),
    ("call +49 (30) 1234567", "call [phone]"),
    (f"key {KEY} end", "key [key] end"),
    ("key -----BEGIN PRIVATE KEY----- MIIE", "key [key]"),
    (f"got {TOKEN}", "got [token]"),
    ("header Bearer abcdef0123456789", "header Bearer [token]"),
    ("Authorization: Basic dXNlcjpwYXNz", "Authorization: [secret] [secret]"),
    ("password=hunter2", "password=[secret]"),
    ('{"api_key": "abc"}', '{"api_key": "[secret]"}'),
    ("db_passwd: x; next", "db_passwd: [secret]; next"),
    ("sessionid=1&b=2", "sessionid=[secret]&b=2"),
    ("xdm_token=a", "xdm_token=[secret]"),
    ("https://bob:pw@acme.example/a/b?c=d#e", "[origin]/a/b?[query]"),
    ("https://acme.atlassian.net/wiki", "[origin]/wiki"),
    ("/rest?user_email=eve@example.com&xdm_e=https", "/rest?[query]"),
    ("in /home/bob/app.js", "in /home/[user]/app.js"),
    ("in /Users/bob/app.js", "in /Users/[user]/app.js"),
    (r"in C:\Users\bob\app.js", r"in C:\Users\[user]\app.js"),
    (f"x {'aB3_' * 11}", "x [secret]"),
    ("two\nlines\x00and \u202eback", "two lines and  back"),
    ("half \ud800 of it", "half   of it"),
]

LEFT_ALONE = [
    "Cannot read properties of undefined (reading 'name')",
    "x is not a function. (In 'x(1, 2)', 'x' is 3)",
    "Loading chunk 42 failed after 3 tries",
    "Expected ',' or '}' after property value in JSON at position 1234",
    "[object Object] != 0.25 %",
    "Ошибка: значение не найдено 🦜",
    "Minified React error #418; visit the documentation",
    "ResizeObserver loop completed with undelivered notifications.",
    "a :: b, Foo.bar.baz(), 10:30",
]


@pytest.mark.parametrize(("text", "left"), CORPUS)
def test_what_may_be_a_persons_is_taken_out(text: str, left: str) -> None:
    if left == "Authorization: [secret] [secret]":
        # That nothing is left counts, not how it is called.
        assert "dXNl" not in scrub(text, 1_000)
    else:
        assert scrub(text, 1_000) == left


@pytest.mark.parametrize("text", LEFT_ALONE)
def test_what_tells_of_the_fault_stays(text: str) -> None:
    assert scrub(text, 1_000) == text


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("https://acme.example/static/main.js?v=bob@example.com#x", "/static/main.js"),
        ("app:///main.js", "/main.js"),
        ("webpack://app/./src/a.ts", "/./src/a.ts"),
        ("chrome-extension://abcdefghijklmnop/content.js", "/content.js"),
        ("blob:https://acme.example/123e4567-e89b-12d3-a456-426614174000", "/[id]"),
        ("data:text/javascript,alert('bob@example.com')", "[data]"),
        ("file:///C:/Users/bob/x.js", "/C:/Users/[user]/x.js"),
        ("/home/bob/x.js", "/home/[user]/x.js"),
        ("src/a.ts", "src/a.ts"),
        ("<anonymous>", "<anonymous>"),
        ("", ""),
    ],
)
def test_of_a_file_its_path_is_kept(name: str, path: str) -> None:
    assert scrub_file(name, 300) == path


def test_long_texts_are_cut_after_they_are_scrubbed_and_never_through_an_address() -> None:
    assert scrub(f"{'x ' * 45}bob@example.com", 100) == f"{'x ' * 45}[email]"
    cut = scrub(f"{'x ' * 47}bob@example.com", 100)
    assert "bob" not in cut
    assert len(cut) <= 100
    # What is beyond the reach is cut at a space, or there is nothing to be sure of.
    assert "bob" not in scrub(f"{'[' * 8185} bob@example.com", 1_000)
    assert scrub("x" * 20_000, 1_000) == REMOVED


PIECES = st.sampled_from(
    [text for text, _ in CORPUS]
    + [left for _, left in CORPUS]
    + [*"@:=/?.-+[] \\%{}\"'", "1.2", "ab", "token=", "://", "eyJ", "Bearer ", "::"]
)
TEXTS = st.lists(st.one_of(PIECES, st.text(max_size=5)), max_size=12).map("".join)


@given(TEXTS)
@example("a@[email]")
@example("1.2.3.41.2.3.4")
@example("password=password=x")
def test_scrubbed_again_a_text_stays_as_it_is(text: str) -> None:
    for most in (20, 1_000):
        once = scrub(text, most)
        assert scrub(once, most) == once
        assert len(once) <= most
        once = scrub_file(text, most)
        assert scrub_file(once, most) == once


@given(TEXTS)
def test_nothing_is_left_that_a_database_or_a_reader_could_not_take(text: str) -> None:
    once = scrub(text, 1_000)
    once.encode()
    assert not any(odd in once for odd in "\x00\n\u202e\u200b")


@given(TEXTS, st.sampled_from([" ", "(", "\n", ", "]), st.sampled_from([" ", ")", ",", ""]))
def test_an_address_is_found_whatever_stands_around_it(text: str, before: str, after: str) -> None:
    assert "bob@example" not in scrub(f"{text[:500]}{before}bob@example.com{after}", 1_000)


@pytest.mark.parametrize(
    "piece",
    ["a", "1", "password", "?", "a:", "/users/", "-----", "eyJ", "a.", "0:", "=", "@", "a@", "\\"],
)
def test_no_text_takes_long(piece: str) -> None:
    hostile = f"{piece * (250_000 // len(piece))} "
    began = time.process_time()
    scrub(hostile, 1_000)
    scrub(f"{(piece * 8_000)[:8_000]} {'x' * 9_000}", 1_000)
    scrub_file(hostile, 1_000)
    assert time.process_time() - began < 1
