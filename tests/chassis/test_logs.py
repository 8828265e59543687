"""Whatever logs, and whatever it logs, comes out as JSON without secrets or people."""

import io
import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pydantic
import pytest
import structlog
from pydantic import BaseModel, SecretStr

from chassis import logs, tracing
from contracts.classes import DataClass

TENANT = UUID("0192f0c0-0000-7000-8000-000000000001")
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJjbGllbnQta2V5In0.c2lnbmF0dXJl_-x"


class Logged:
    """What has been written, line by line."""

    def __init__(self) -> None:
        self.stream = io.StringIO()

    @property
    def text(self) -> str:
        return self.stream.getvalue()

    @property
    def last(self) -> dict[str, Any]:
        line: dict[str, Any] = json.loads(self.text.splitlines()[-1])
        return line


@pytest.fixture
def logged() -> Iterator[Logged]:
    root = logging.getLogger()
    libraries = [logging.getLogger(name) for name in (*logs._OF_LIBRARIES, *logs._QUIET)]
    before = [(each, each.handlers[:], each.level, each.propagate) for each in (root, *libraries)]
    kept = structlog.get_config()
    output = Logged()
    logs.configure("purger", stream=output.stream)
    yield output
    structlog.configure(**kept)
    for each, handlers, level, propagate in before:
        each.handlers[:], each.propagate = handlers, propagate
        each.setLevel(level)


log = structlog.get_logger()


def raised(failure: BaseException) -> BaseException:
    secret_local = "hunter2"
    with pytest.raises(type(failure)) as caught:
        fail(failure, secret_local)
    return caught.value


def fail(failure: BaseException, secret_local: str) -> None:
    raise failure


def test_a_line_is_json_with_its_service_level_time_and_fields(logged: Logged) -> None:
    log.info(
        "erasure scheduled",
        tenant_id=TENANT,
        due_at=datetime(2027, 1, 1, tzinfo=UTC),
        after=timedelta(days=1),
        data_class=DataClass.CONTENT,
        path=Path("a/b"),
        counts={"content": 3},
        steps=("a", None, True),
    )
    line = logged.last
    assert datetime.fromisoformat(line.pop("timestamp")).utcoffset() == timedelta()
    assert line == {
        "event": "erasure scheduled",
        "service": "purger",
        "level": "info",
        "tenant_id": str(TENANT),
        "due_at": "2027-01-01T00:00:00+00:00",
        "after": "1 day, 0:00:00",
        "data_class": "content",
        "path": "a/b",
        "counts": {"content": 3},
        "steps": ["a", None, True],
    }


def test_lines_below_the_level_are_dropped(logged: Logged) -> None:
    logs.configure("purger", "warning", stream=logged.stream)
    log.info("dropped")
    logging.getLogger("anything").info("dropped too")
    assert logged.text == ""


def test_fields_bound_around_a_message_are_on_every_line_inside_alone(logged: Logged) -> None:
    with logs.bound(tenant_id=TENANT, handler="replan_purges"):
        log.info("inside")
        assert logged.last["handler"] == "replan_purges"
        logging.getLogger("aiokafka").warning("a library inside")
        assert logged.last["tenant_id"] == str(TENANT)
    log.info("outside")
    assert "handler" not in logged.last


def test_a_line_names_the_trace_that_is_open(logged: Logged) -> None:
    with tracing.continued(f"00-{'a' * 32}-{'b' * 16}-01", "handle"):
        log.info("inside")
    assert logged.last["trace_id"] == "a" * 32


@pytest.mark.parametrize("name", ["uvicorn.error", "aiokafka.consumer", "faststream", "alembic.x"])
def test_libraries_come_out_of_the_same_pipeline(logged: Logged, name: str) -> None:
    logging.getLogger(name).warning("asked %s with %s", "https://u:hunter2@h/x", JWT)
    line = logged.last
    assert line["logger"] == name
    assert line["level"] == "warning"
    assert line["service"] == "purger"
    assert "hunter2" not in logged.text
    assert "eyJ" not in logged.text


@pytest.mark.parametrize("name", ["uvicorn.access", "faststream", "httpx2"])
def test_what_libraries_say_of_each_request_or_record_is_dropped(logged: Logged, name: str) -> None:
    logging.getLogger(name).info("GET https://customer.example.com/?jwt=%s", JWT)
    assert logged.text == ""


@pytest.mark.parametrize(
    "key",
    [
        "secret",
        "shared_secret",
        "sharedSecret",
        "access_token",
        "password",
        "Authorization",
        "client_key",
        "clientKey",
        "base_url",
        "baseUrl",
        "email",
        "e_mail",
        "dsn",
        "cookie",
        "api_key",
        "database_url",
        "recipient",
        "host",
    ],
)
def test_values_of_telling_keys_are_redacted_at_any_depth(logged: Logged, key: str) -> None:
    log.info("heard", **{key: "hunter2"}, nested=[{"deeper": {key: ["hunter2"]}}])
    assert logged.last[key] == logs.REDACTED
    assert "hunter2" not in logged.text


@pytest.mark.parametrize(
    "value",
    [
        SecretStr("hunter2"),
        b"hunter2",
        f"header was JWT {JWT}",
        JWT,
        JWT.rpartition(".")[0],
        "postgres://user:hunter2@127.0.0.1/purger is away",
        "postgresql://user:hun@ter2@127.0.0.1/purger",
        "Authorization: Bearer hunter2hunter2",
        "client_key=hunter2&x=1",
        '{"sharedSecret": "hunter2"}',
        "mail to hunter2@example.com failed",
        ValueError("password=hunter2"),
        {"note": "jwt=hunter2"},
    ],
)
def test_values_that_look_like_secrets_or_people_are_redacted(
    logged: Logged, value: object
) -> None:
    log.info("heard", value=value)
    log.info("heard", listed=[value])
    if not isinstance(value, bytes):
        text = f"heard {value}"
        log.info(text)
        logging.getLogger("aiokafka").warning("heard %s", value)
    for telling in ("hunter2", "hun@", "ter2", "eyJ"):
        assert telling not in logged.text, logged.text


def test_objects_show_their_type_alone(logged: Logged) -> None:
    class Contact(BaseModel):
        name: str

    log.info("heard", contact=Contact(name="hunter2"), other=object())
    assert logged.last["contact"] == "<Contact>"
    assert "hunter2" not in logged.text


def test_an_exception_shows_type_frames_and_causes_but_no_locals(logged: Logged) -> None:
    try:
        try:
            raise raised(RuntimeError(f"refused {JWT}"))
        except RuntimeError as cause:
            raise LookupError("no such plan") from cause
    except LookupError:
        log.exception("failed")
    outer, inner = logged.last["exception"]
    assert (outer["type"], outer["message"]) == ("builtins.LookupError", "no such plan")
    assert inner["message"] == f"refused {logs.REDACTED}"
    assert any("test_logs.py" in frame and frame.endswith(" raised") for frame in inner["frames"])
    assert not any(frame.startswith("/") for frame in inner["frames"])
    assert "hunter2" not in logged.text


def test_a_group_of_exceptions_shows_its_members(logged: Logged) -> None:
    log.error("failed", exc_info=raised(ExceptionGroup("both", [ValueError("a"), KeyError("b")])))
    (group,) = logged.last["exception"]
    assert [member[0]["type"] for member in group["group"]] == [
        "builtins.ValueError",
        "builtins.KeyError",
    ]


def test_exceptions_of_libraries_are_described_alike(logged: Logged) -> None:
    failure = raised(RuntimeError("postgres://user:hunter2@h/x"))
    logging.getLogger("uvicorn.error").error("Exception in ASGI application", exc_info=failure)
    assert logged.last["exception"][0]["type"] == "builtins.RuntimeError"
    assert "hunter2" not in logged.text


def test_row_values_in_details_of_postgres_are_dropped(logged: Logged) -> None:
    failure = asyncpg.UniqueViolationError(
        'duplicate key value violates unique constraint "tenants_key"'
    )
    failure.detail = "Key (client_key)=(hunter2) already exists."
    assert "hunter2" in str(failure)
    log.error("failed", exc_info=raised(failure), again=failure)
    text = f"failed: {failure}"
    log.error(text)
    text = logged.text
    assert "hunter2" not in text
    assert 'constraint \\"tenants_key\\"' in text


def test_postgres_and_asyncpg_do_not_repeat_arguments(logged: Logged) -> None:
    for failure in (
        asyncpg.InvalidTextRepresentationError('invalid input syntax for type uuid: "hunter2"'),
        asyncpg.DataError("invalid input for query argument $1: 'hunter2' (expected bytes)"),
    ):
        log.error("failed", exc_info=raised(failure))
        assert "hunter2" not in logged.text


def test_pydantic_does_not_repeat_input(logged: Logged) -> None:
    class Closed(BaseModel):
        at: datetime

    with pytest.raises(pydantic.ValidationError, match="hunter2") as refused:
        Closed.model_validate({"at": "hunter2"})
    log.error("failed", exc_info=refused.value)
    assert "hunter2" not in logged.text
    assert logged.last["exception"][0]["message"].startswith("1 invalid: datetime")


def test_a_library_line_that_cannot_be_rendered_does_not_print_its_arguments(
    logged: Logged, capsys: pytest.CaptureFixture[str]
) -> None:
    record = logging.LogRecord("aiokafka", logging.WARNING, "", 1, "%s %s", ("hunter2",), None)
    ours = next(h for h in logging.getLogger().handlers if isinstance(h, logs._JsonHandler))
    ours.handle(record)
    assert logged.last["event"] == "log record could not be rendered"
    assert "hunter2" not in capsys.readouterr().err


def test_very_long_texts_are_cut(logged: Logged) -> None:
    log.info("heard", text="x" * 100_000)
    assert len(logged.text) < 10_000


def test_kafkas_client_complains_of_the_same_once_in_ten_seconds(
    logged: Logged, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(logs, "monotonic", lambda: now)
    client = logging.getLogger("aiokafka.conn")
    for _ in range(500):
        client.error("Unable connect to node with id %s: %s", 1, "refused")
        client.warning("Unable to update metadata from %s", [1])
    now += 9.9
    client.error("Unable connect to node with id %s: %s", 1, "refused")
    assert len(logged.text.splitlines()) == 2
    client.error("Unable connect to node with id %s: %s", 2, "refused")
    assert "id 2" in logged.last["event"]
    now += 0.1
    client.error("Unable connect to node with id %s: %s", 1, "refused")
    assert logged.last["repeated"] == 500
    assert len(logged.text.splitlines()) == 4


def test_what_others_say_and_what_the_client_tells_is_never_held_back(logged: Logged) -> None:
    for _ in range(3):
        logging.getLogger("alembic.x").warning("the same")
        logging.getLogger("aiokafka").info("the same")
        log.warning("the same")
    assert len(logged.text.splitlines()) == 9


def test_sentences_that_are_never_the_same_are_not_remembered_for_ever(logged: Logged) -> None:
    for number in range(2 * logs._MOST_SENTENCES):
        logging.getLogger("aiokafka").warning("offset %s", number)
    [held_back] = [
        each
        for each in logging.getLogger().handlers[0].filters
        if isinstance(each, logs._NotTheSameAgain)
    ]
    assert len(held_back._said) <= logs._MOST_SENTENCES
    assert len(logged.text.splitlines()) == 2 * logs._MOST_SENTENCES
