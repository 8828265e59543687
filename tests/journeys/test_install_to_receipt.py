import asyncio
import dataclasses
from collections.abc import Sequence
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cli.audit import NotVerified, check_entries, check_receipt
from cli.receipts import run_verify
from cli.trace import tell
from contracts.classes import DataClass
from contracts.deadlines import deadline
from contracts.ledger import ReceiptStage
from contracts.purges import Phase, Scope
from devstack.journey import Journey, RefusedError
from devstack.stack import LocalStack
from tests.support.journey import (
    Travellers,
    entrust,
    everything_on_kafka,
    leave,
    ledger_keys,
    let_it_start,
    whole_ledger,
)

FOLLOWERS = ("config", "purger", "notifier")


async def test_a_customer_who_leaves_is_gone_everywhere_and_has_the_proof(
    stack: LocalStack, customer: Travellers
) -> None:
    acme, globex = customer("acme"), customer("globex")
    given, _ = await entrust(acme), await entrust(globex)
    secrets = given.secrets_of(acme)
    neighbour = await globex.belongings()
    # The search finds what can be read today, and no password, address or name is among it.
    assert await acme.traces_of(*secrets) == ["installer.installations"]
    assert {
        ("installer", "made the tenant"),
        ("installer", "said tenant-installed"),
        *((reader, "has followed tenant-installed, soon after") for reader in FOLLOWERS),
    } <= await story(acme, secrets)

    plan = await leave(acme)

    assert plan.scope is Scope.EVERYTHING
    assert plan.deadline == deadline(plan.clock_started_at)
    assert plan.start_at < plan.erase_by < plan.deadline
    before = await acme.belongings()
    await acme.move_to(plan.start_at - timedelta(minutes=30))
    assert await acme.belongings() == before
    await let_it_start(acme, plan)
    closed = await acme.wait_for_phase(Phase.CLOSED)
    await acme.wait_until_gone()

    assert closed.purge_id == plan.purge_id
    # What is said about an erasure itself is still to be told.
    assert {
        ("purger", "said purge-requested"),
        ("purger", "handled purge-accepted"),
        ("config", "carried out erase-config"),
        ("purger", "handled data-erased"),
        ("notifier", "carried out erase-contacts"),
        ("purger", "wrote into the ledger: receipt-closed"),
    } <= await story(acme, secrets)
    assert await acme.traces_of(*secrets) == []
    assert await globex.belongings() == neighbour
    assert len(await globex.datasources()) == 2
    [mail] = await acme.receipt_mails(given.address)
    entries = await acme.receipt(mail.code)
    assert [entry.receipt.stage for entry in entries if entry.receipt] == list(ReceiptStage)
    assert entries[-1].receipt is not None
    counts = {step.step: step.counts for step in entries[-1].receipt.steps}
    assert counts["erase-installer"] == {DataClass.INSTALLATION: 1}
    assert counts["erase-config"][DataClass.CONTENT] >= len(given.passwords)
    assert counts["erase-contacts"][DataClass.CONTACTS] >= 1
    ledger, keys = await whole_ledger(acme), await ledger_keys(acme)
    check_receipt(entries, ledger, keys)
    check_entries(entries, keys)
    # In a thread, as the command runs a loop of its own.
    assert await asyncio.to_thread(verify_as_a_customer, stack, mail.code) == 0
    assert await asyncio.to_thread(verify_as_a_customer, stack, mail.code[::-1]) == 1
    shortened = dataclasses.replace(ledger, entries=ledger.entries[:-1])
    with pytest.raises(NotVerified):
        check_receipt(entries[:1], shortened, keys)
    with pytest.raises(NotVerified):
        check_entries(entries, dict.fromkeys(keys, Ed25519PrivateKey.generate().public_key()))


async def story(journey: Journey, secrets: Sequence[str]) -> set[tuple[str, str]]:
    """What `keepword trace` tells, in which nothing of the customer's may be."""
    urls = {service: roles.runtime_url for service, roles in journey.stack.databases.items()}
    told = await tell(urls, journey.tenant_id)
    assert told.failed == {}
    text = repr(told.moments)
    assert [secret for secret in secrets if secret in text] == []
    return {(moment.service, moment.what) for moment in told.moments}


def verify_as_a_customer(stack: LocalStack, code: str) -> int:
    """Run `keepword receipts verify CODE` beside the running stack."""
    return run_verify(code, file=None, public_key=None, purger_url=None, state=stack.folder)


async def test_who_comes_back_in_time_keeps_everything(customer: Travellers) -> None:
    initech = customer("initech")
    await entrust(initech)
    first = initech.tenant_id
    before = await initech.rows()
    owned = await initech.belongings()
    plan = await leave(initech)
    # Half an hour is no jump of the clock.
    await initech.move_to(initech.stack.now() + timedelta(minutes=30))

    again = await initech.install()

    assert again == first
    await initech.wait_for_phase(Phase.WITHDRAWN)
    assert {each.purge_id for each in await initech.plans()} == {plan.purge_id}
    assert len(await initech.datasources()) == 2
    after = await initech.rows()
    for grew in ("installer.outbox", "installer.timelines", "config.followed_states"):
        assert after[grew] > before.get(grew, 0)
    assert await initech.belongings() == owned


async def test_who_comes_back_too_late_begins_anew(customer: Travellers) -> None:
    hooli = customer("hooli")
    await entrust(hooli)
    first = hooli.tenant_id
    await let_it_start(hooli, await leave(hooli))
    await hooli.wait_for_phase(Phase.CLOSED)

    again = await hooli.install()

    assert again != first
    assert await hooli.datasources() == []


async def test_a_session_of_a_customer_who_left_is_refused(customer: Travellers) -> None:
    umbrella = customer("umbrella")
    await entrust(umbrella)
    await leave(umbrella)

    with pytest.raises(RefusedError, match="409"):
        await umbrella.open_session()


async def test_nothing_on_any_topic_names_a_customer(
    stack: LocalStack, customer: Travellers
) -> None:
    stark = customer("stark")
    given = await entrust(stark)
    await leave(stark)

    said = await everything_on_kafka(stack)

    assert str(stark.tenant_id).encode() in said
    found = [secret for secret in given.secrets_of(stark) if secret.encode() in said]
    assert found == []
