"""Messages of changelogs and their snapshots, put into tables a batch at a time.

Faust's own way makes some tasks and a timer of each message, 0.2 ms of CPU. Its recovery still decides where
reading begins, when it ends and what follows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from time import monotonic
from typing import Any

from faust.exceptions import ImproperlyConfigured
from faust.types import TP, AppT
from faust.types.tuples import ConsumerMessage, Message

from danube_faust.record import Incoming
from danube_faust.tables.memory_store import Store
from danube_faust.tables.snapshots import (
    BATCH,
    BEGIN_ANEW,
    ChangelogIncomplete,
    Mark,
    SnapshotIncomplete,
    Snapshots,
    check_whole,
)
from danube_faust.topics import Topics

NOTHING = -1
"""The offset of a table that has nothing of a partition, or not yet everything of a snapshot."""


async def restore(app: AppT, tp: TP, messages: Sequence[Message]) -> None:
    """Apply messages of a changelog's partition to its table; those that it has already are passed over.

    Raises:
        DecodeError: a key or a value cannot be read.
    """
    tables: Any = app.tables
    recovery = tables.recovery
    offsets = _offsets(app, tp)
    if tp not in offsets:
        return  # revoked meanwhile
    table = recovery.tp_to_table[tp]
    seen = offsets[tp]
    topic = table.changelog_topic
    events = [
        await topic.decode(message, propagate=True)
        for message in messages
        if seen is None or message.offset > seen
    ]
    if not events:
        return
    table.apply_changelog_batch(events)
    offsets[tp] = events[-1].message.offset
    # Else it warns that nothing happens.
    recovery._last_flush_at = recovery._active_events_received_at[tp] = monotonic()  # noqa: SLF001
    for event in events:
        await table.on_changelog_event(event)
    # What the recovery has already, it passes over; then it looks whether that was all.
    tables.changelog_queue.force_put_nowait(events[-1])


async def begin(app: AppT, snapshots: Snapshots, topics: Topics, tps: Sequence[TP]) -> dict[TP, int | None]:
    """Put snapshots into tables; return where the reading of each changelog begins then.

    Raises:
        ChangelogIncomplete: a changelog without a snapshot lacks its first changes, and the table has none.
        SnapshotIncomplete: a snapshot lacks records, and there is no newer one.
        DecodeError: a key or a value cannot be read.
        ClientError: the platform did not answer.
    """
    oldest = await topics.oldest(tps)
    marks = await snapshots.newest(tps)
    for tp, message in oldest.items():
        if tp not in marks and _lacks_all(app, tp):
            check_whole(tp, message)
    found = {tp: None if message is None else message.position for tp, message in oldest.items()}
    for tp, newest in marks.items():
        mark = newest
        while True:
            try:
                if await _restore_snapshot(app, tp, snapshots, mark):
                    found[tp] = mark.covers
                break
            except SnapshotIncomplete:
                newer = (await snapshots.newest([tp])).get(tp)
                if newer is None or newer.covers <= mark.covers:
                    raise
                mark = newer
    return found


async def check_gaps(snapshots: Snapshots, ends: Mapping[TP, int]) -> None:
    """Return if a snapshot covers what changelogs lack; recovery that begins anew takes it then.

    Args:
        snapshots: of the app.
        ends: the position behind which changes are missing, of each partition that lacks some.

    Raises:
        ChangelogIncomplete: none does.
        ClientError: the platform did not answer.
    """
    newest = await snapshots.newest(list(ends))
    for tp, end in ends.items():
        if tp not in newest or newest[tp].kept_from < end:
            raise ChangelogIncomplete(
                f"{tp.topic} lacks changes from position {end} of partition {tp.partition} on, which"
                f" no snapshot has: its table cannot be recovered. {BEGIN_ANEW}"
            )


async def _restore_snapshot(app: AppT, tp: TP, snapshots: Snapshots, mark: Mark) -> bool:
    """Put a snapshot into the table of a changelog's partition, in place of what is there of it.

    A table that has what the changelog does not keep any more needs no snapshot, and gets none.

    Returns:
        Whether the table has exactly what the mark covers now.
    """
    tables: Any = app.tables
    table = tables.recovery.tp_to_table.get(tp)
    if table is None:
        return False
    offsets = _offsets(app, tp)
    have = offsets.get(tp)
    if have is not None and have >= mark.kept_from:
        return False
    _forget(table, tp)
    batch: list[Incoming] = []
    async for one in snapshots.records(tp, mark):
        batch.append(one)
        if len(batch) == BATCH:
            await _apply(table, tp, batch)
            batch.clear()
    await _apply(table, tp, batch)
    if table.data.persisted_offset(tp) is not None:
        table.data.set_persisted_offset(tp, mark.covers - 1)
    if tp in offsets:
        offsets[tp] = mark.covers - 1
    return True


def _offsets(app: AppT, tp: TP) -> dict[TP, int | None]:
    """Return how far tables have the changelogs that are recovered like this one."""
    tables: Any = app.tables  # its interface lacks the recovery
    recovery = tables.recovery
    found: dict[TP, int | None] = (
        recovery.active_offsets if tp in recovery.active_tps else recovery.standby_offsets
    )
    return found


def _lacks_all(app: AppT, tp: TP) -> bool:
    """Return whether the table has nothing of a changelog's partition: it is read from the beginning."""
    have = _offsets(app, tp).get(tp)
    return have is None or have <= 0


async def _apply(table: Any, tp: TP, records: Sequence[Incoming]) -> None:
    """Apply records, at an offset that makes a store on disk begin anew if this process dies meanwhile."""
    topic = table.changelog_topic
    events = [
        await topic.decode(
            ConsumerMessage(
                tp.topic, tp.partition, NOTHING, 0.0, 0, one.headers, one.key, one.value, None, tp=tp
            ),
            propagate=True,
        )
        for one in records
    ]
    if events:
        table.apply_changelog_batch(events)
    await asyncio.sleep(0)


def _forget(table: Any, tp: TP) -> None:
    """Remove what a table has of a partition."""
    store = table.data
    if isinstance(store, Store):
        store.forget(tp.partition)
    elif hasattr(store, "_visible_keys"):  # RocksDB
        store.set_persisted_offset(tp, NOTHING)
        db = store._db_for_partition(tp.partition)  # noqa: SLF001
        for key in store._visible_keys(db):  # noqa: SLF001
            db.delete(key)
    else:
        raise ImproperlyConfigured(f"{store!r} cannot begin with a snapshot: do not compact {tp.topic}")
