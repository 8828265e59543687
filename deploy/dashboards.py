"""Dashboards for Grafana: one of everything that was promised, one of each service."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from contracts.topics import SERVICES

FOLDER: Final = Path(__file__).parent / "chart" / "files" / "dashboards"
_WIDTH: Final = 24
_HEIGHT: Final = 7
_SOURCE: Final = {"type": "prometheus", "uid": "${source}"}


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture: what it shows, how it is asked for, and in which of Grafana's units.

    ``queries`` are pairs of a legend and a query. A ``stat`` shows the present value alone, which is
    wrong from ``bad_from`` on; all else is a line over time.
    """

    title: str
    queries: Sequence[tuple[str, str]]
    unit: str = "short"
    says: str = ""
    stat: bool = False
    bad_from: float | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """Panels side by side under a heading."""

    title: str
    panels: Sequence[Panel]


def dashboards() -> dict[str, str]:
    """Every dashboard as the text of its file, by the file's name."""
    found = {"keepword.json": _dashboard("keepword", "Keepword", _overall())}
    for service in SERVICES:
        rows = [*_of_any(f'service="{service}"'), *_OWN[service]]
        found[f"keepword-{service}.json"] = _dashboard(
            f"keepword-{service}", f"Keepword: {service}", rows
        )
    return found


def _stat(title: str, query: str, says: str, *, bad_from: float = 1, unit: str = "short") -> Panel:
    return Panel(title, [("", query)], unit, says, stat=True, bad_from=bad_from)


def _slowest(share: float, by: str, histogram: str, which: str = "", *, over: str = "5m") -> str:
    """Ask how long all but the slowest took: of a hundred, all but one for a ``share`` of 0.99."""
    series = f"keepword_{histogram}_bucket{{{which}}}[{over}]"
    return f"histogram_quantile({share}, sum by ({by}, le) (rate({series})))"


def _overall() -> list[Row]:
    return [
        Row(
            "The promise",
            [
                _stat(
                    "Purges overdue",
                    "max(keepword_purges_overdue)",
                    "Not finished although their last day is over.",
                ),
                _stat(
                    "Purges nearly late",
                    'sum(max by (level) (keepword_purges_escalated{level=~"five-days|two-days"}))',
                    "Due, not finished, five days or fewer left.",
                ),
                _stat("Brake", "max(keepword_brake_engaged)", "1 while no purge begins."),
                _stat(
                    "Last sweep",
                    "time() - max(keepword_last_sweep_timestamp_seconds)",
                    "How long ago somebody looked for due purges.",
                    bad_from=3600,
                    unit="s",
                ),
                _stat("Ledger broken", "max(keepword_ledger_broken)", "1 when it does not verify."),
                _stat(
                    "Differences",
                    "sum(max by (kind) (keepword_reconciliation_differences))",
                    "Between services, unexplained and not mended.",
                ),
            ],
        ),
        Row(
            "Purges",
            [
                Panel("By phase", [("{{phase}}", "max by (phase) (keepword_purges)")]),
                Panel(
                    "Ledger",
                    [
                        (
                            "applied by {{service}}",
                            "min by (service) (keepword_ledger_applied_number)",
                        ),
                        ("verified", "max(keepword_ledger_verified_number)"),
                    ],
                    says="All lines are one line when everybody knows of every erasure.",
                ),
                Panel(
                    "Legal holds",
                    [
                        ("holds", "max(keepword_legal_holds)"),
                        ("purges held", "max(keepword_held_purges)"),
                        ("of them overdue", "max(keepword_held_purges_overdue)"),
                    ],
                ),
            ],
        ),
        Row(
            "Messages",
            [
                Panel(
                    "Unread records",
                    [("{{service}}", "sum by (service) (keepword_consumer_lag)")],
                ),
                Panel(
                    "Oldest unsent message",
                    [("{{service}}", "max by (service) (keepword_outbox_oldest_seconds)")],
                    "s",
                ),
                Panel(
                    "Records given up",
                    [("{{service}}", "max by (service) (keepword_dead_letters_open)")],
                ),
                Panel(
                    "Handled",
                    [("{{service}}", "sum by (service) (rate(keepword_events_handled_total[5m]))")],
                    "cps",
                ),
            ],
        ),
        Row(
            "Doors",
            [
                Panel(
                    "Requests",
                    [("{{service}}", "sum by (service) (rate(keepword_http_requests_total[5m]))")],
                    "reqps",
                ),
                Panel(
                    "Errors of ours",
                    [
                        (
                            "{{service}}",
                            'sum by (service) (rate(keepword_http_requests_total{status=~"5.."}[5m]))',
                        )
                    ],
                    "reqps",
                ),
                Panel(
                    "Slowest hundredth",
                    [
                        (
                            "{{service}}",
                            _slowest(0.99, "service", "http_seconds"),
                        )
                    ],
                    "s",
                ),
                Panel(
                    "Jobs that fail",
                    [
                        (
                            "{{service}}: {{exported_job}}",
                            'sum by (service, exported_job) (increase(keepword_job_runs_total{outcome="failed"}[15m])) > 0',
                        )
                    ],
                ),
            ],
        ),
    ]


def _of_any(which: str) -> list[Row]:
    """What every service shows of itself."""
    return [
        Row(
            "Handlers",
            [
                Panel(
                    "Handled",
                    [
                        (
                            "{{type}}",
                            f"sum by (type) (rate(keepword_events_handled_total{{{which}}}[5m]))",
                        )
                    ],
                    "cps",
                ),
                Panel(
                    "Slowest hundredth",
                    [
                        (
                            "{{handler}}",
                            _slowest(0.99, "handler", "handler_seconds", which),
                        )
                    ],
                    "s",
                ),
                Panel(
                    "Unread records",
                    [("{{topic}}", f"sum by (topic) (keepword_consumer_lag{{{which}}})")],
                ),
                Panel(
                    "Tried again, given up, refused",
                    [
                        ("again", f"sum(rate(keepword_retries_total{{{which}}}[5m]))"),
                        ("given up", f"sum(rate(keepword_dead_letters_total{{{which}}}[5m]))"),
                        (
                            "refused, erased",
                            f"sum(rate(keepword_writes_suppressed_total{{{which}}}[5m]))",
                        ),
                    ],
                    "cps",
                ),
            ],
        ),
        Row(
            "Outbox and jobs",
            [
                Panel(
                    "Unsent messages",
                    [
                        ("unsent", f"max(keepword_outbox_unsent{{{which}}})"),
                        ("parked", f"max(keepword_dead_letters_parked{{{which}}})"),
                    ],
                ),
                Panel(
                    "Sent",
                    [("", f"sum(rate(keepword_relay_sent_total{{{which}}}[5m]))")],
                    "cps",
                ),
                Panel(
                    "Jobs, slowest twentieth",
                    [
                        (
                            "{{exported_job}}",
                            _slowest(0.95, "exported_job", "job_seconds", which, over="15m"),
                        )
                    ],
                    "s",
                ),
                Panel(
                    "Jobs, since the last that completed",
                    [
                        (
                            "{{exported_job}}",
                            f"time() - max by (exported_job) (keepword_job_completed_timestamp_seconds{{{which}}})",
                        )
                    ],
                    "s",
                ),
            ],
        ),
        Row(
            "Door",
            [
                Panel(
                    "Requests by status",
                    [
                        (
                            "{{status}}",
                            f"sum by (status) (rate(keepword_http_requests_total{{{which}}}[5m]))",
                        )
                    ],
                    "reqps",
                ),
                Panel(
                    "Slowest hundredth by route",
                    [
                        (
                            "{{route}}",
                            _slowest(0.99, "route", "http_seconds", which),
                        )
                    ],
                    "s",
                ),
            ],
        ),
    ]


_OWN: Final[dict[str, Sequence[Row]]] = {
    "installer": [
        Row(
            "Atlassian",
            [
                Panel(
                    "Installs heard",
                    [("{{heard}}", "sum by (heard) (increase(keepword_installs_heard_total[1h]))")],
                ),
                Panel(
                    "Calls refused",
                    [("{{reason}}", "sum by (reason) (rate(keepword_calls_refused_total[5m]))")],
                    "reqps",
                ),
                Panel(
                    "Sites asked",
                    [("{{answer}}", "sum by (answer) (increase(keepword_sites_asked_total[1d]))")],
                ),
                Panel(
                    "Licences",
                    [("{{matched}}", "sum by (matched) (keepword_licences)")],
                ),
            ],
        ),
    ],
    "config": [
        Row(
            "Error reports",
            [
                Panel(
                    "Envelopes",
                    [
                        (
                            "{{outcome}}",
                            "sum by (outcome) (rate(keepword_error_envelopes_total[5m]))",
                        )
                    ],
                    "reqps",
                ),
            ],
        ),
    ],
    "purger": [
        Row(
            "Purges",
            [
                Panel("By phase", [("{{phase}}", "max by (phase) (keepword_purges)")]),
                Panel(
                    "Near their last day",
                    [("{{level}}", "max by (level) (keepword_purges_escalated)")],
                ),
                Panel(
                    "Differences",
                    [("{{kind}}", "max by (kind) (keepword_reconciliation_differences)")],
                ),
            ],
        ),
    ],
    "notifier": [
        Row(
            "Mail",
            [
                Panel(
                    "Attempts",
                    [("{{outcome}}", "sum by (outcome) (rate(keepword_deliveries_total[5m]))")],
                    "cps",
                ),
                Panel(
                    "Came back",
                    [("{{what}}", "sum by (what) (increase(keepword_mail_returned_total[1h]))")],
                ),
                Panel(
                    "In doubt, and oldest that is due",
                    [
                        ("in doubt", "max(keepword_deliveries_uncertain)"),
                        ("due for seconds", "max(keepword_delivery_oldest_due_seconds)"),
                    ],
                ),
                Panel(
                    "Requests of people",
                    [
                        ("open", "max(keepword_person_requests_open)"),
                        ("overdue", "max(keepword_person_requests_overdue)"),
                    ],
                ),
            ],
        ),
    ],
}


def _dashboard(uid: str, title: str, rows: Sequence[Row]) -> str:
    panels: list[dict[str, Any]] = []
    top = 0
    for row in rows:
        panels.append(
            {
                "id": len(panels) + 1,
                "type": "row",
                "title": row.title,
                "collapsed": False,
                "gridPos": {"h": 1, "w": _WIDTH, "x": 0, "y": top},
                "panels": [],
            }
        )
        width = _WIDTH // len(row.panels)
        for at, panel in enumerate(row.panels):
            place = {"h": _HEIGHT, "w": width, "x": at * width, "y": top + 1}
            panels.append({"id": len(panels) + 1, **_panel(panel), "gridPos": place})
        top += _HEIGHT + 1
    told = {
        "uid": uid,
        "title": title,
        "tags": ["keepword"],
        "schemaVersion": 39,
        "editable": False,
        "refresh": "1m",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {
            "list": [
                {
                    "name": "source",
                    "label": "Prometheus",
                    "type": "datasource",
                    "query": "prometheus",
                }
            ]
        },
        "links": [
            {"title": "Keepword", "type": "dashboards", "tags": ["keepword"], "asDropdown": True}
        ],
        "panels": panels,
    }
    return json.dumps(told, indent=1) + "\n"


def _panel(panel: Panel) -> dict[str, Any]:
    defaults: dict[str, Any] = {"unit": panel.unit, "min": 0}
    if panel.bad_from is not None:
        defaults["thresholds"] = {
            "mode": "absolute",
            "steps": [
                {"color": "green", "value": None},
                {"color": "red", "value": panel.bad_from},
            ],
        }
    return {
        "type": "stat" if panel.stat else "timeseries",
        "title": panel.title,
        "description": panel.says,
        "datasource": _SOURCE,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "targets": [
            {
                "refId": chr(ord("A") + at),
                "datasource": _SOURCE,
                "expr": query,
                "legendFormat": legend or "__auto",
            }
            for at, (legend, query) in enumerate(panel.queries)
        ],
    }


def write() -> None:
    """Write all of them; what is not one of them any more goes."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    told = dashboards()
    for path in FOLDER.glob("*.json"):
        if path.name not in told:
            path.unlink()
    for name, text in told.items():
        (FOLDER / name).write_text(text, encoding="utf-8")
