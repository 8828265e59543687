"""A database knows its lives: what opened each, what each lost, and how old a copy is."""

from datetime import UTC, datetime, timedelta

import pytest

from chassis.epochs import (
    LEDGER_KEPT,
    DatabaseTooOldError,
    Epoch,
    behind_since,
    ensure_epoch,
    epoch_in,
    mark_restated,
    note_alive,
)
from chassis.outbox import write_rows
from tests.chassis.test_relay import a_row
from tests.support.chassis import Sample

NOW = datetime.now(UTC) + timedelta(minutes=1)


async def in_cluster(sample: Sample, name: str, *, wall: datetime = NOW) -> Epoch:
    async with sample.worker.acquire() as connection:
        return await epoch_in(connection, name, wall=wall)


async def by_hand(sample: Sample, *, wall: datetime = NOW) -> Epoch:
    async with sample.worker.acquire() as connection:
        return await ensure_epoch(connection, wall=wall, force=True)


async def restated(sample: Sample, epoch: Epoch) -> None:
    async with sample.worker.acquire() as connection:
        await mark_restated(connection, epoch, wall=NOW)


async def test_another_cluster_opens_an_epoch_that_is_no_restore(sample: Sample) -> None:
    first = await in_cluster(sample, "one")
    assert await in_cluster(sample, "one") == first
    second = await in_cluster(sample, "two")
    assert second.number > first.number
    assert (second.restated, second.restored) == (False, False)
    assert await in_cluster(sample, "two") == second


async def test_a_restored_database_is_behind_until_all_was_said_again(sample: Sample) -> None:
    first = await in_cluster(sample, "one")
    assert not first.is_behind
    opened = await by_hand(sample)
    async with sample.worker.acquire() as connection:
        assert await behind_since(connection) == NOW
    assert (await in_cluster(sample, "one")).is_behind
    await restated(sample, opened)
    async with sample.worker.acquire() as connection:
        assert await behind_since(connection) is None
    assert not (await in_cluster(sample, "one")).is_behind


async def test_a_restore_is_not_forgotten_where_kafka_was_lost_with_it(sample: Sample) -> None:
    await in_cluster(sample, "one")
    opened = await by_hand(sample)
    there = await in_cluster(sample, "two")
    assert there.number > opened.number
    assert there.is_behind


async def test_in_another_cluster_the_cursors_of_all_epochs_go_back_and_none_goes_on(
    sample: Sample,
) -> None:
    await in_cluster(sample, "one")
    async with sample.worker.acquire() as connection:
        for days, text in ((40, "too old"), (2, "kept")):
            await write_rows(connection, [a_row("t", text=text)], wall=NOW - timedelta(days=days))
    restore = await by_hand(sample)
    async with sample.worker.acquire() as connection:
        await write_rows(connection, [a_row("t", text="later")], wall=NOW)
        await connection.execute(
            "UPDATE relay_cursor SET (xid, position) = (SELECT max(xid), max(position) FROM outbox)"
        )
        await connection.execute("INSERT INTO relay_epochs VALUES (1, '', 0, 0, $1, $1)", NOW)
        await connection.execute("INSERT INTO relay_cursor VALUES (1, '7', 7, 'one', $1)", NOW)
    await in_cluster(sample, "two")
    async with sample.worker.acquire() as connection:
        to_send = await connection.fetch(
            """
            SELECT convert_from(o.payload, 'UTF8') AS text
              FROM outbox o JOIN relay_cursor c USING (epoch)
             WHERE (o.xid, o.position) > (c.xid, c.position) AND c.epoch <= $1
             ORDER BY o.written_at
            """,
            restore.number,
        )
        assert [row["text"] for row in to_send] == ["kept", "later"]
        untouched = await connection.fetchrow("SELECT * FROM relay_cursor WHERE epoch = 1")
        assert untouched is not None
        assert (untouched["xid"], untouched["position"]) == (7, 7)


async def test_a_copy_older_than_the_ledger_remembers_is_refused(sample: Sample) -> None:
    first = await in_cluster(sample, "one")
    too_late = NOW + LEDGER_KEPT + timedelta(days=1)
    with pytest.raises(DatabaseTooOldError, match="restore a younger one"):
        await by_hand(sample, wall=too_late)
    assert await in_cluster(sample, "one") == first
    async with sample.worker.acquire() as connection:
        await note_alive(connection, wall=NOW + timedelta(days=2))
    assert (await by_hand(sample, wall=too_late)).is_behind
