"""The query string hash: what binds a token to one method, path and query.

The rules are Atlassian's (developer.atlassian.com, cloud/bitbucket/query-string-hash). Where its
prose and its published test vectors disagree, the vectors win: repeated values are sorted as they
read once decoded, not by their percent-encoded form.
"""

import hashlib
from urllib.parse import quote, unquote_plus

CONTEXT_QSH = "context-qsh"
"""What a context token (``AP.context.getToken``) carries in place of a hash."""

_UNRESERVED = "-._~"
_TOKEN_PARAMETER = "jwt"  # noqa: S105 - the name of a query parameter


def query_string_hash(
    method: str, raw_path: str | bytes, raw_query: str | bytes, base_path: str = ""
) -> str:
    """Give the ``qsh`` claim of a request: SHA-256 of its canonical form, in lower-case hex."""
    canonical = canonical_request(method, raw_path, raw_query, base_path)
    return hashlib.sha256(canonical.encode(errors="replace")).hexdigest()


def canonical_request(
    method: str, raw_path: str | bytes, raw_query: str | bytes, base_path: str = ""
) -> str:
    """Write a request as ``METHOD&path&query``, the way its signer saw it.

    The path and the query are taken as they stood on the wire, still
    percent-encoded (``raw_path`` and ``query_string`` of an ASGI scope). The
    path's own encoding is kept. ``base_path`` is the path of the app's public
    base URL; it is cut off only where it ends at a ``/``, so ``/jira`` takes
    nothing from ``/jiraffe``. The ``jwt`` parameter does not count.
    """
    path = _canonical_path(_text(raw_path), base_path.rstrip("/"))
    return f"{method.upper()}&{path}&{_canonical_query(_text(raw_query))}"


def _canonical_path(path: str, base_path: str) -> str:
    if base_path and (path == base_path or path.startswith(base_path + "/")):
        path = path[len(base_path) :]
    path = path.replace("&", "%26")
    if not path.startswith("/"):
        path = "/" + path
    return path[:-1] if len(path) > 1 and path.endswith("/") else path


def _canonical_query(query: str) -> str:
    if not query:
        return ""
    values: dict[str, list[str]] = {}
    for pair in filter(None, query.split("&")):
        name, _, value = pair.partition("=")
        name = unquote_plus(name)
        if name != _TOKEN_PARAMETER:
            values.setdefault(name, []).append(unquote_plus(value))
    return "&".join(
        f"{_encoded(name)}={','.join(_encoded(value) for value in sorted(values[name]))}"
        for name in sorted(values)
    )


def _encoded(text: str) -> str:
    return quote(text, safe=_UNRESERVED, errors="replace")


def _text(raw: str | bytes) -> str:
    return raw if isinstance(raw, str) else raw.decode(errors="replace")
