"""A search that finds nothing says nothing until it has found what was planted."""

from collections.abc import Awaitable, Callable
from types import MappingProxyType
from typing import cast
from uuid import uuid4

import pytest

from bench import canary
from bench.canary import CannotFindError, _Sweep
from devstack.canary import PLANTED_IN, PROOF_IN, SEALED, Canary, Found, SealedCopies
from devstack.journey import Journey
from devstack.stack import LocalStack


class AStack:
    """A stack with nothing in it."""

    databases = MappingProxyType[str, object]({})


class ACustomer:
    """A customer with one ticket."""

    tenant_id = uuid4()

    async def tickets_naming(self, text: str) -> list[str]:
        return [f"a ticket of {text}"]


class Copies:
    """Copies of sealed values, some of which can be read."""

    def __init__(self, *readable: str) -> None:
        self._readable = readable

    def readable(self) -> dict[str, bytes]:
        return dict.fromkeys(self._readable, b"plain")


def a_sweep() -> _Sweep:
    return _Sweep(
        cast("LocalStack", AStack()), cast("Journey", ACustomer()), Canary.of("canary0123")
    )


def copies(*readable: str) -> SealedCopies:
    return cast("SealedCopies", Copies(*readable))


def finding(*places: str) -> Callable[[object, Canary], Awaitable[Found]]:
    async def search(stack: object, canary: Canary) -> Found:
        found = Found()
        found.hits.update(places)
        return found

    return search


@pytest.fixture(autouse=True)
def all_columns_are_planted(monkeypatch: pytest.MonkeyPatch) -> None:
    async def none_is_bare(*_: object) -> set[str]:
        return set()

    monkeypatch.setattr(canary, "bare_columns", none_is_bare)


async def test_what_was_planted_must_be_found_in_every_place_before_the_purge(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(canary, "search", finding(*PLANTED_IN))
    found = await a_sweep().control(copies(*SEALED))
    assert found.hits.total() == len(PLANTED_IN) + len(SEALED) + 1

    for missed in ("table config.things", "topic installer.tenants.v1"):
        monkeypatch.setattr(canary, "search", finding(*PLANTED_IN - {missed}))
        with pytest.raises(CannotFindError, match=missed):
            await a_sweep().control(copies(*SEALED))


async def test_what_is_sealed_must_be_readable_before_the_purge(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(canary, "search", finding(*PLANTED_IN))
    with pytest.raises(CannotFindError, match=r"sealed config\.things\.credentials"):
        await a_sweep().control(copies(*SEALED.keys() - {"config.things.credentials"}))


async def test_a_column_that_nothing_was_planted_in_is_no_proof(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def one_is_bare(*_: object) -> set[str]:
        return {"config.things.note"}

    monkeypatch.setattr(canary, "bare_columns", one_is_bare)
    monkeypatch.setattr(canary, "search", finding(*PLANTED_IN))
    with pytest.raises(CannotFindError, match=r"config\.things\.note"):
        await a_sweep().control(copies(*SEALED))


async def test_logs_and_topics_must_show_the_purges_id(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(canary, "search", finding(*PROOF_IN))
    await a_sweep()._require_proof(uuid4())
    monkeypatch.setattr(canary, "search", finding(*PROOF_IN - {"log of notifier"}))
    with pytest.raises(CannotFindError, match="log of notifier"):
        await a_sweep()._require_proof(uuid4())
