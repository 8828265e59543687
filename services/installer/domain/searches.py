"""What a member of staff types to find a tenant, and what that may be."""

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit
from uuid import UUID

LONGEST: Final = 200
# Confluence's address ends with the first, Jira's of old with the second.
_PATHS: Final = ("", "/wiki", "/jira")
_HOST: Final = re.compile(r"(?=.{4,253}$)[a-z0-9-]{1,63}(\.[a-z0-9-]{1,63})+")
_NUMBER: Final = re.compile(r"(SEN-?\d{1,20}|E-[A-Z0-9-]{1,60}|\d{4,20})", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Search:
    """What tenants are looked for by: one of these is given, or nothing can be found."""

    tenant_id: UUID | None = None
    sites: tuple[str, ...] = ()
    number: str | None = None


def read_search(text: str) -> Search:
    """Understand an id, the host or address of a site, or the number of an entitlement."""
    told = text.strip()[:LONGEST]
    try:
        return Search(tenant_id=UUID(told))
    except ValueError:
        pass
    if _NUMBER.fullmatch(told):
        return Search(number=told.upper())
    host = _host_in(told)
    return Search(sites=tuple(f"https://{host}{path}" for path in _PATHS) if host else ())


def _host_in(told: str) -> str | None:
    try:
        host = urlsplit(told if "://" in told else f"https://{told}").hostname or ""
    except ValueError:
        return None
    return host if _HOST.fullmatch(host) else None
