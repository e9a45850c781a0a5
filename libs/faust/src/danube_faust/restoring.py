"""Messages of changelogs, put into tables a batch at a time.

Faust's own way makes some tasks and a timer of each message, 0.2 ms of CPU. Its recovery still decides where
reading begins, when it ends and what follows.
"""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic
from typing import Any

from faust.types import TP, AppT
from faust.types.tuples import Message


async def restore(app: AppT, tp: TP, messages: Sequence[Message]) -> None:
    """Apply messages of a changelog's partition to its table; those that it has already are passed over.

    Raises:
        DecodeError: a key or a value cannot be read.
    """
    tables: Any = app.tables  # its interface lacks the recovery
    recovery = tables.recovery
    offsets = recovery.active_offsets if tp in recovery.active_tps else recovery.standby_offsets
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
