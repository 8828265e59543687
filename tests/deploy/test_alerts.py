"""Each alert fires when it should and is silent when it should be, and leads to a page that helps."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from cli.main import command_line
from tests.support.chart import of_kind, rendered

PROJECT = Path(__file__).parents[2]
RULES = PROJECT / "deploy/chart/files/alerts.yaml"
ALERTS: dict[str, dict[str, Any]] = {
    rule["alert"]: rule
    for group in yaml.safe_load(RULES.read_text())["groups"]
    for rule in group["rules"]
}
DAY = 86_400


@dataclass(frozen=True)
class Case:
    """Series of figures, a value a minute, of which some make an alert fire ``at`` a time."""

    fires: Mapping[str, str]
    silent: Mapping[str, str]
    summary: str
    labels: Mapping[str, str] = field(default_factory=dict)
    at: str = "1h"


def figure(name: str, service: str = "purger", **labels: str) -> str:
    """A series as Prometheus has it, of the first replica where no other is named."""
    told = {"service": service, "job": "keepword", "instance": "a", **labels}
    return f"keepword_{name}{{{','.join(f'{k}={json.dumps(v)}' for k, v in told.items())}}}"


CASES: dict[str, Case] = {
    "PurgeOverdue": Case(
        {figure("purges_overdue"): "0x30 2x40"},
        {figure("purges_overdue"): "0x100"},
        "2 purges are not finished although their last day is over: the promise is broken.",
    ),
    "PurgeNearlyLate": Case(
        {figure("purges_escalated", level="five-days"): "1x100"},
        {figure("purges_escalated", level="seven-days"): "9x100"},
        "Purges are due and not finished, with five days or fewer left.",
    ),
    "BrakeEngaged": Case(
        {figure("brake_engaged"): "1x100"},
        # Two people were quick.
        {figure("brake_engaged"): "0x50 1x5 0x50"},
        "The brake is on: no purge begins until two people release it.",
    ),
    "SweepNotRun": Case(
        {figure("last_sweep_timestamp_seconds"): "0x200"},
        # One replica stands still, the other sweeps.
        {
            figure("last_sweep_timestamp_seconds"): "0x200",
            figure("last_sweep_timestamp_seconds", instance="b"): "0+60x200",
        },
        "Nobody has looked for due purges for an hour.",
        at="2h",
    ),
    "LedgerBroken": Case(
        {figure("ledger_broken"): "0x50 1x50"},
        {figure("ledger_broken"): "0x100"},
        "The ledger of erasures, or a checkpoint of it, does not verify.",
    ),
    "LedgerBehind": Case(
        {
            figure("ledger_applied_number"): "40x100",
            figure("ledger_applied_number", "config"): "37x100",
        },
        # It catches up again and again.
        {
            figure("ledger_applied_number"): "0+1x100",
            figure("ledger_applied_number", "config"): "_x9 9x20 30x40 70x30 100x20",
        },
        "config has not applied the last 3 entries of the ledger.",
        {"service": "config"},
    ),
    "ReconciliationDiffers": Case(
        {figure("reconciliation_differences", kind="unknown-tenant"): "2x100"},
        {figure("reconciliation_differences", kind="unknown-tenant"): "0x50 1x10 0x50"},
        "Services differ about 2 tenants (unknown-tenant), and nothing explains it.",
        {"kind": "unknown-tenant"},
    ),
    "ReconciliationNotRun": Case(
        {figure("reconciliation_completed_timestamp_seconds", owner="config"): "0x2000"},
        {figure("reconciliation_completed_timestamp_seconds", owner="config"): "0x700 42000x1300"},
        "What config holds was not compared for a day.",
        {"owner": "config"},
        at="25h",
    ),
    "AccessLostByMany": Case(
        {figure("access_holds", "installer", addon_key="app"): "1x100"},
        {figure("access_holds", "installer", addon_key="app"): "0x100"},
        "Too many sites refuse app at once: its tenants do not count as left until a person says so.",
        {"addon_key": "app"},
    ),
    "ConsumerBehind": Case(
        {
            figure("consumer_lag", topic="t", partition="0"): "600x100",
            figure("consumer_lag", topic="t", partition="1"): "900x100",
        },
        # A burst that is worked off.
        {figure("consumer_lag", topic="t", partition="0"): "0x50 90000x5 0x50"},
        "purger has not had fewer than 1,000 unread records of t for a quarter of an hour.",
        {"service": "purger", "topic": "t"},
    ),
    "OutboxOld": Case(
        {figure("outbox_oldest_seconds"): "900x100"},
        {figure("outbox_oldest_seconds"): "20x100"},
        "What purger has to say waits for 15m 0s.",
        {"service": "purger"},
    ),
    "DeadLettersOpen": Case(
        {figure("dead_letters_open"): "3x100"},
        {figure("dead_letters_open"): "0x100"},
        "purger gave 3 records up.",
        {"service": "purger"},
    ),
    "DeadLettersOld": Case(
        {figure("dead_letters_oldest_seconds"): "90000x100"},
        {figure("dead_letters_oldest_seconds"): "3600x100"},
        "A record that purger gave up waits for a day. After 30 it is forgotten.",
        {"service": "purger"},
    ),
    "JobFails": Case(
        {figure("job_runs_total", exported_job="erase", outcome="failed"): "0+1x100"},
        {
            figure("job_runs_total", exported_job="erase", outcome="failed"): "0+1x100",
            figure("job_runs_total", exported_job="erase", outcome="completed"): "0+1x100",
        },
        "The job erase of purger fails each time.",
        {"service": "purger", "exported_job": "erase"},
    ),
    "KeyHostAway": Case(
        {figure("calls_refused_total", "installer", route="r", reason="key-host-away"): "0+1x100"},
        {figure("calls_refused_total", "installer", route="r", reason="unknown-key"): "0+9x100"},
        "Installs cannot be verified: the host of Atlassian's keys does not answer us.",
    ),
    "AuditBroken": Case(
        {figure("audit_broken", "config"): "0x30 1x50"},
        {figure("audit_broken", "config"): "0x100"},
        "The audit of config does not verify: somebody may have changed it.",
        {"service": "config"},
    ),
    "GlassBroken": Case(
        {figure("glass_unreviewed", "config"): "0x58 1x50"},
        {figure("glass_unreviewed", "config"): "0x100"},
        "Somebody may look at what a customer keeps without a ticket: 1 broken glasses wait for a"
        " review.",
        {"tells": "privacy", "waiting": "1"},
    ),
    "GlassUnreviewed": Case(
        {figure("glass_unreviewed_seconds", "config"): f"{DAY + 3600}x100"},
        {figure("glass_unreviewed_seconds", "config"): f"{DAY - 3600}x100"},
        "A broken glass waits for its review since 1d 1h 0m 0s.",
        {"tells": "privacy"},
    ),
    "CertificateExpires": Case(
        {
            figure("certificate_expires_timestamp_seconds", certificate="kafka-ca"): (
                f"{10 * DAY + 7200}x200"
            )
        },
        {
            figure("certificate_expires_timestamp_seconds", certificate="kafka-ca"): (
                f"{30 * DAY}x200"
            )
        },
        "The certificate kafka-ca of purger expires in 10d 0h 0m 0s.",
        {"service": "purger", "certificate": "kafka-ca"},
        at="2h",
    ),
    "KeyOld": Case(
        {figure("key_made_timestamp_seconds", "config", key="key-encryption"): f"{-50 * DAY}x200"},
        {figure("key_made_timestamp_seconds", "config", key="key-encryption"): f"{-30 * DAY}x200"},
        "The key-encryption key of config is 50d 2h 0m 0s old; it is changed each month.",
        {"service": "config", "key": "key-encryption"},
        at="2h",
    ),
    "MailBounces": Case(
        {
            figure("mail_returned_total", "notifier", what="bounced"): "0+1x200",
            figure("deliveries_total", "notifier", outcome="accepted"): "0+10x200",
        },
        # Two of three came back: too few to wake anybody.
        {
            figure("mail_returned_total", "notifier", what="bounced"): "0x100 2x100",
            figure("deliveries_total", "notifier", outcome="accepted"): "0x100 3x100",
        },
        "10% of our mail of the last hour came back.",
        at="2h",
    ),
    "MailLate": Case(
        {figure("delivery_oldest_due_seconds", "notifier"): "7200x100"},
        {figure("delivery_oldest_due_seconds", "notifier"): "600x100"},
        "The oldest message has been due for 2h 0m 0s.",
    ),
    "CampaignBroken": Case(
        {figure("campaigns_broken_total", "notifier", kind="receipt"): "0x50 1x50"},
        {figure("campaigns_broken_total", "notifier", kind="receipt"): "1x100"},
        "A campaign of the kind receipt was paused, as what it says cannot be written.",
        {"kind": "receipt"},
    ),
    "PersonRequestOverdue": Case(
        {figure("person_requests_overdue", "notifier"): "1x100"},
        {figure("person_requests_overdue", "notifier"): "0x100"},
        "1 requests of people about their own data were not answered in time.",
    ),
}


def test_every_alert_has_its_cases() -> None:
    assert set(CASES) == set(ALERTS)


@pytest.mark.parametrize("alert", sorted(ALERTS))
def test_an_alert_leads_to_a_page(alert: str) -> None:
    rule = ALERTS[alert]
    name = re.sub(r"(?<!^)(?=[A-Z])", "-", alert).lower()
    assert rule["annotations"]["runbook_url"] == f"docs/runbooks/alerts/{name}.md"
    page = (PROJECT / rule["annotations"]["runbook_url"]).read_text()
    assert page.startswith(f"# {alert}\n")
    assert rule["labels"]["severity"] in {"page", "ticket"}


@pytest.mark.parametrize("alert", sorted(ALERTS))
def test_what_a_page_says_to_type_is_a_command(alert: str) -> None:
    """What it shows first is run against a stack, in the journeys."""
    page = (PROJECT / ALERTS[alert]["annotations"]["runbook_url"]).read_text()
    blocks = re.findall(r"^```sh look\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 1
    typed = [*blocks[0].splitlines(), *re.findall(r"`(keepword [^`]+)`", page)]
    for line in typed:
        words = line.split()
        assert words[0] == "keepword"
        command: Any = get_command(command_line())
        path = [each for each in words[1:] if each.islower() and not each.startswith("-")]
        while hasattr(command, "commands"):
            assert path, f"{line}: which of {sorted(command.commands)}?"
            assert path[0] in command.commands, line
            command = command.commands[path.pop(0)]
        known = {option for each in command.params for option in each.opts}
        assert {each for each in words if each.startswith("--")} <= known, line


def test_no_page_is_left_over() -> None:
    pages = {
        path.relative_to(PROJECT).as_posix()
        for path in (PROJECT / "docs/runbooks/alerts").iterdir()
    }
    assert pages == {rule["annotations"]["runbook_url"] for rule in ALERTS.values()}


def test_the_rules_are_as_prometheus_wants_them(promtool: Callable[..., None]) -> None:
    promtool("check", "rules", str(RULES))


def test_each_alert_fires_when_it_should_and_never_else(
    tmp_path: Path, promtool: Callable[..., None]
) -> None:
    """Prometheus itself decides; a case that expects nothing fails where the alert fires."""
    tests = []
    for alert, case in CASES.items():
        rule = ALERTS[alert]
        firing = {
            "exp_labels": {"severity": rule["labels"]["severity"], **case.labels},
            "exp_annotations": {
                "summary": case.summary,
                "runbook_url": rule["annotations"]["runbook_url"],
            },
        }
        for series, expected in ((case.fires, [firing]), (case.silent, [])):
            tests.append(
                {
                    "interval": "1m",
                    "input_series": [{"series": k, "values": v} for k, v in series.items()],
                    "alert_rule_test": [
                        {"eval_time": case.at, "alertname": alert, "exp_alerts": expected}
                    ],
                }
            )
    told = {"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": tests}
    file = tmp_path / "tests.yaml"
    file.write_text(json.dumps(told))
    promtool("test", "rules", str(file))


def test_the_chart_brings_them_with_links_that_lead_somewhere() -> None:
    [rules] = of_kind(rendered("everything"), "PrometheusRule")
    told = [rule for group in rules["spec"]["groups"] for rule in group["rules"]]
    assert {rule["alert"]: rule["expr"] for rule in told} == {
        name: rule["expr"] for name, rule in ALERTS.items()
    }
    for rule in told:
        where = rule["annotations"]["runbook_url"]
        assert where.startswith("https://runbooks.example/keepword/alerts/")
