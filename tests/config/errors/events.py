"""What the stock SDK sends, as it was captured from a browser, with a person in every corner of it."""

import json
from typing import Any
from uuid import uuid4

CHROME = (
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko)"
    " Chrome/141.0.0.0 Safari/537.36"
)
PERSON = "eve@customer.example"


def an_event(**others: Any) -> dict[str, Any]:
    """An error of the page, in which a person is named wherever one can be."""
    return {
        "exception": {
            "values": [
                {
                    "type": "TypeError",
                    "value": f"Cannot read properties of {PERSON}",
                    "stacktrace": {
                        "frames": [
                            {
                                "filename": f"https://app.example/js/main.4f9d1c2e.js?u={PERSON}",
                                "function": function,
                                "in_app": True,
                                "lineno": 7,
                                "colno": 1200,
                                "vars": {"user": PERSON},
                                "context_line": PERSON,
                            }
                            for function in ("load", "render")
                        ]
                    },
                    "mechanism": {"type": "onerror", "handled": False, "data": {"u": PERSON}},
                }
            ]
        },
        "level": "error",
        "event_id": uuid4().hex,
        "platform": "javascript",
        "request": {
            "url": f"https://app.example/page?user_email={PERSON}",
            "headers": {"User-Agent": CHROME, "Referer": f"https://site.example/{PERSON}"},
        },
        "contexts": {"culture": {"locale": "de-DE", "timezone": PERSON}},
        "environment": PERSON,
        "release": "reports@2.4.1",
        "breadcrumbs": [{"category": "console", "message": f"user {PERSON} clicked"}],
        "tags": {"who": PERSON},
        "extra": {"who": PERSON},
        "user": {"id": "0f" * 16, "email": PERSON, "ip_address": "192.0.2.7"},
        "server_name": PERSON,
        "transaction": PERSON,
    } | others


def an_envelope(
    event: dict[str, Any] | None = None, *, token: str | None = None, **header: Any
) -> bytes:
    """What `tunnel` sends: the key in the header's DSN, the event without a length."""
    event = an_event() if event is None else event
    told = {"event_id": event.get("event_id"), "sdk": {"name": "sentry.javascript.browser"}}
    if token is not None:
        told["dsn"] = f"https://{token}@config.example/1"
    lines = (told | header, {"type": "event"}, event)
    return b"\n".join(json.dumps(line).encode() for line in lines)
