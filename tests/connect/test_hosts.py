"""A base URL is taken in its plain form and from a host that is allowed, or not at all."""

import pytest

from connect.hosts import AllowedHosts, parse_base_url


@pytest.mark.parametrize(
    ("url", "plain"),
    [
        ("https://acme.atlassian.net", "https://acme.atlassian.net"),
        ("https://acme.atlassian.net/", "https://acme.atlassian.net"),
        ("HTTPS://ACME.Atlassian.Net", "https://acme.atlassian.net"),
        ("https://acme.atlassian.net/wiki", "https://acme.atlassian.net/wiki"),
        ("https://acme.atlassian.net/Wiki/", "https://acme.atlassian.net/Wiki"),
        ("https://a.b.jira-dev.com", "https://a.b.jira-dev.com"),
        ("https://acme.jira.com", "https://acme.jira.com"),
    ],
)
def test_a_site_of_atlassian_is_admitted_in_its_plain_form(url: str, plain: str) -> None:
    assert AllowedHosts().admit(url) == plain


@pytest.mark.parametrize(
    "url",
    [
        "",
        "acme.atlassian.net",
        "http://acme.atlassian.net",
        "ftp://acme.atlassian.net",
        "https://atlassian.net",
        "https://evilatlassian.net",
        "https://acme.atlassian.net.evil.example",
        "https://acme.atlassian.net.",
        "https://.atlassian.net",
        "https://-.atlassian.net",
        "https://acme.atlassian.net:8443",
        "https://acme.atlassian.net:443",
        "https://user:secret@acme.atlassian.net",
        "https://acme.atlassian.net@evil.example",
        "https://evil.example/acme.atlassian.net",
        "https://evil.example#.atlassian.net",
        "https://evil.example?.atlassian.net",
        "https://evil.example\\.atlassian.net",
        "https://acme.atlassian.net?x=1",
        "https://acme.atlassian.net#x",
        "https://acme.atlassian.net//evil.example",
        "https://acme.atlassian.net/../x",
        "https://acme.atlassian.net/%2e%2e/x",
        "https://acme.atlassian.net/wiki\n",
        "https://acme\n.atlassian.net",
        "https://acme.atlassian.net\0",
        "https://аcme.atlassian.net",  # noqa: RUF001 - a Cyrillic letter that looks Latin
        "https://acme。atlassian.net",
        "https://localhost",
        "https://127.0.0.1",
        "https://[::1]",
        "https://169.254.169.254",
        "https://" + "a" * 250 + ".atlassian.net",
        "https://" + "a" * 64 + ".atlassian.net",
        " https://acme.atlassian.net",
    ],
)
def test_everything_else_is_refused(url: str) -> None:
    assert AllowedHosts().admit(url) is None


def test_single_hosts_are_admitted_only_as_they_were_named() -> None:
    hosts = AllowedHosts(
        domains=(), https=frozenset({"jira.example"}), http=frozenset({"localhost:2990"})
    )

    assert hosts.admit("https://jira.example/x/") == "https://jira.example/x"
    assert hosts.admit("http://localhost:2990/jira") == "http://localhost:2990/jira"
    for url in (
        "http://jira.example",
        "https://a.jira.example",
        "https://jira.example:8443",
        "http://localhost",
        "http://localhost:2991",
        "https://localhost:2990",
        "https://acme.atlassian.net",
    ):
        assert hosts.admit(url) is None, url


def test_a_base_url_is_read_into_its_parts() -> None:
    base = parse_base_url("http://[::1]:8080/connect/app/")

    assert base is not None
    assert (base.authority, base.path) == ("[::1]:8080", "/connect/app")
    assert str(base) == "http://[::1]:8080/connect/app"
