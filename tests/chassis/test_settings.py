"""Settings come from the environment, and errors name variables, never values."""

from pathlib import Path
from typing import ClassVar

import pytest

from chassis.egress import Egress
from chassis.settings import BadSettings, ServiceSettings

GOOD = {
    "KEEPWORD_DATABASE_URL": "postgresql://r:hunter2@127.0.0.1:5432/purger",
    "KEEPWORD_WORKER_DATABASE_URL": "postgresql://w:hunter2@127.0.0.1:5432/purger",
    "KEEPWORD_ERASER_DATABASE_URL": "postgresql://e:hunter2@127.0.0.1:5432/purger",
    "KEEPWORD_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9092",
    "KEEPWORD_HTTP_PORT": "8003",
    "KEEPWORD_PUBLIC_URL": "https://purger.example.com/",
}


class Settings(ServiceSettings):
    service: ClassVar[str] = "purger"

    grace_days: int = 30


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name, value in GOOD.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def complaints() -> tuple[str, ...]:
    with pytest.raises(BadSettings) as refused:
        Settings.load()
    assert "hunter2" not in str(refused.value)
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__
    return refused.value.complaints


def test_settings_are_read_from_the_environment(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("KEEPWORD_GRACE_DAYS", "14")
    environment.setenv("KEEPWORD_LOG_LEVEL", "WARNING")
    settings = Settings.load()
    assert settings.service == "purger"
    assert settings.http_port == 8003
    assert settings.http_host == "127.0.0.1"
    assert settings.public_url == "https://purger.example.com"
    assert settings.grace_days == 14
    assert settings.log_level == "warning"
    assert settings.database_url.get_secret_value() == GOOD["KEEPWORD_DATABASE_URL"]


def test_secrets_do_not_print(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("KEEPWORD_KAFKA_SECURITY_PROTOCOL", "SASL_SSL")
    environment.setenv("KEEPWORD_KAFKA_USERNAME", "purger")
    environment.setenv("KEEPWORD_KAFKA_PASSWORD", "hunter2")
    settings = Settings.load()
    assert "hunter2" not in repr(settings) + str(settings) + settings.model_dump_json()


def test_each_bad_variable_is_named_with_what_to_do(environment: pytest.MonkeyPatch) -> None:
    environment.delenv("KEEPWORD_DATABASE_URL")
    environment.setenv("KEEPWORD_WORKER_DATABASE_URL", "mysql://w:hunter2@h/purger")
    environment.setenv("KEEPWORD_ERASER_DATABASE_URL", "postgresql://e:hunter2@[::1/x")
    environment.setenv("KEEPWORD_HTTP_PORT", "hunter2")
    environment.setenv("KEEPWORD_LOG_LEVEL", "hunter2")
    environment.setenv("KEEPWORD_OTLP_ENDPOINT", "https://me:hunter2@collector")
    told = complaints()
    assert len(told) == 6
    for variable, advice in {
        "KEEPWORD_DATABASE_URL": "is not set; set it before purger starts",
        "KEEPWORD_WORKER_DATABASE_URL": "give an address of the form postgresql://",
        "KEEPWORD_ERASER_DATABASE_URL": "give an address of the form postgresql://",
        "KEEPWORD_HTTP_PORT": "input should be a valid integer",
        "KEEPWORD_LOG_LEVEL": "input should be 'debug', 'info'",
        "KEEPWORD_OTLP_ENDPOINT": "give an address without user",
    }.items():
        assert any(line.startswith(f"{variable}: {advice}") for line in told), (variable, told)


@pytest.mark.parametrize(
    "url", ["purger.example.com", "ftp://x", "https://h℀unter2.com", "http://["]
)
def test_a_public_address_that_is_none_is_refused_without_repeating_it(
    environment: pytest.MonkeyPatch, url: str
) -> None:
    environment.setenv("KEEPWORD_PUBLIC_URL", url)
    (told,) = complaints()
    assert told.startswith("KEEPWORD_PUBLIC_URL: give a full address")
    assert "unter2" not in told


def test_plain_http_is_for_development_and_loopback(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("KEEPWORD_PUBLIC_URL", "http://purger.example.com")
    assert complaints() == ("KEEPWORD_PUBLIC_URL: must start with https:// outside development",)
    environment.setenv("KEEPWORD_DEVELOPMENT", "true")
    assert Settings.load().development
    environment.setenv("KEEPWORD_DEVELOPMENT", "false")
    environment.setenv("KEEPWORD_PUBLIC_URL", "http://localhost:8003")
    assert Settings.load().public_url == "http://localhost:8003"


def test_time_moves_only_in_development(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    environment.setenv("KEEPWORD_CLOCK_OFFSET_FILE", str(tmp_path / "offset"))
    (told,) = complaints()
    assert told.startswith("KEEPWORD_CLOCK_OFFSET_FILE: time moves only in development")
    environment.setenv("KEEPWORD_DEVELOPMENT", "true")
    assert Settings.load().clock_offset_file == tmp_path / "offset"


def test_half_a_login_to_kafka_is_refused(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("KEEPWORD_KAFKA_SECURITY_PROTOCOL", "SASL_SSL")
    environment.setenv("KEEPWORD_KAFKA_PASSWORD", "hunter2")
    (told,) = complaints()
    assert "KEEPWORD_KAFKA_USERNAME" in told


STAFF = {
    "KEEPWORD_STAFF_ISSUER": "https://id.example.com/",
    "KEEPWORD_STAFF_CLIENT_ID": "keepword-purger",
    "KEEPWORD_STAFF_CLIENT_SECRET_FILE": "/run/secrets/staff",
    "KEEPWORD_STAFF_GROUPS": '{"privacy": "kw-privacy"}',
    "KEEPWORD_AUDIT_KEY_FILE": "/run/secrets/audit",
}


def test_where_staff_sign_on_is_named_whole_or_not_at_all(
    environment: pytest.MonkeyPatch,
) -> None:
    assert Settings.load().staff is None
    for name, value in STAFF.items():
        environment.setenv(name, value)
    known = Settings.load().staff
    assert known is not None
    # Letter by letter, as tokens name it.
    assert known.issuer == "https://id.example.com/"
    assert Settings.load().egress == Egress.to("https://id.example.com")
    environment.setenv("KEEPWORD_STAFF_PROVIDER_URLS", '["https://keys.example.com"]')
    asked = Egress.to("https://id.example.com", "https://keys.example.com")
    assert Settings.load().egress == asked
    for name, wrong in (
        ("KEEPWORD_STAFF_ISSUER", "http://id.example.com"),
        ("KEEPWORD_STAFF_GROUPS", "{}"),
        ("KEEPWORD_STAFF_GROUPS", '{"boss": "kw-boss"}'),
        ("KEEPWORD_STAFF_CLIENT_ID", "keepword"),
        ("KEEPWORD_STAFF_SECOND_FACTORS", "[]"),
    ):
        with environment.context() as changed:
            changed.setenv(name, wrong)
            assert any(name in complaint for complaint in complaints()), name
    with environment.context() as changed:
        changed.delenv("KEEPWORD_AUDIT_KEY_FILE")
        assert "KEEPWORD_AUDIT_KEY_FILE" in complaints()[0]
    environment.setenv("KEEPWORD_AUDIT_SYSLOG", "log.example.com")
    assert "tcp://host:port" in complaints()[0]
    environment.setenv("KEEPWORD_AUDIT_SYSLOG", "tcp://log.example.com:6514")
    assert Settings.load().audit_syslog == "tcp://log.example.com:6514"
    environment.delenv("KEEPWORD_STAFF_CLIENT_SECRET_FILE")
    assert "KEEPWORD_STAFF_CLIENT_SECRET_FILE" in complaints()[0]
