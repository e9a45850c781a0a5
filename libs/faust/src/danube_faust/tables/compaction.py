"""Compaction of a changelog: a snapshot of it is written, and what older snapshots cover is let go.

A snapshot is made from the changelog alone, whatever workers do meanwhile. A process may die at each step: an
unmarked snapshot does not count, and what was not let go is let go by the next compaction.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from time import time
from typing import Final, NamedTuple

from faust.types import TP

from danube_client import Client, Consumer, Start, SubscribeDenied, SubscriptionType
from danube_faust import record
from danube_faust.tables.snapshots import (
    ChangelogIncomplete,
    Mark,
    Snapshots,
    check_whole,
    marks_of,
    records_of,
)
from danube_faust.topics import Topics

SUBSCRIPTION: Final = "faust-compaction"
"""Its cursor tells the platform's retention what may go; who has it compacts the partition."""
KEEP_S: Final = 3600.0
"""Workers that began with an older snapshot have so long to come beyond what the next one covers."""
LOCK_MAX_S: Final = 5.0
"""How long a compaction waits for another one of the partition to end."""
LOCK_PAUSE_S: Final = 0.2


class Compacted(NamedTuple):
    """What a compaction found and did.

    Attributes:
        changes: how many there were since the last snapshot.
        keys: how many the table's partition has.
        written: whether there is a new snapshot.
        kept_from: the changelog is kept from this position on.
    """

    changes: int
    keys: int
    written: bool
    kept_from: int


async def compact(
    client: Client,
    topics: Topics,
    changelog: TP,
    *,
    keep_s: float = KEEP_S,
    is_wanted: Callable[[bytes], bool] = lambda _key: True,
) -> Compacted:
    """Compact one partition, if it has as many changes since its last snapshot as keys.

    Args:
        client: an open client.
        topics: of the app; the changelog was found.
        changelog: the partition.
        keep_s: the age of the oldest snapshot that workers may still be reading.
        is_wanted: whether a key is to be in the snapshot.

    Raises:
        ChangelogIncomplete: a part of the changelog is lost.
        SnapshotIncomplete: a part of the last snapshot is lost.
        ClientError: the platform refused, for example because another process compacts the partition.
    """
    snapshots = Snapshots(client, topics)
    async with _locked(client, topics.name(changelog)) as cursor:
        marks = await snapshots.marks(changelog)
        state: dict[bytes, bytes] = {}
        newest = marks[-1] if marks else None
        if newest is not None:
            async for old in snapshots.records(changelog, newest):
                _apply(state, old)
        else:
            check_whole(changelog, (await topics.oldest([changelog]))[changelog])
        changes, covers = await _replay(client, topics.name(changelog), state, newest)
        written = changes > 0 and changes >= (newest.count if newest else 0)
        if written:
            wanted = {key: value for key, value in state.items() if is_wanted(key)}
            kept_from = max(
                [newest.kept_from if newest else 0]
                + [mark.covers for mark in marks if time() - mark.written_s >= keep_s]
            )
            newest = await snapshots.write(
                changelog, topics.partitions(changelog.topic) or 1, wanted, covers=covers, kept_from=kept_from
            )
        if newest is not None and newest.kept_from:
            await cursor.seek(Start.at(newest.kept_from))
            await _let_go(
                client, topics, changelog, [mark for mark in marks if mark.covers >= newest.kept_from]
            )
    return Compacted(changes, len(state), written, newest.kept_from if newest else 0)


async def _replay(
    client: Client, topic: str, state: dict[bytes, bytes], newest: Mark | None
) -> tuple[int, int]:
    """Apply the changes that no snapshot covers; return how many there are, and what follows them."""
    changes, end = 0, newest.covers if newest else 0
    async with client.reader(topic, start=Start.at(end) if end else Start.earliest()) as reader:
        async for message in reader:
            _apply(state, record.incoming(message.payload, message.attributes, message.key))
            changes, end = changes + 1, message.position + 1
        if reader.missing:
            raise ChangelogIncomplete(
                f"{topic} lacks {reader.missing} changes or more, which no snapshot has"
            )
    return changes, end


def _apply(state: dict[bytes, bytes], change: record.Incoming) -> None:
    if change.key is None:
        return
    if change.value is None:
        state.pop(change.key, None)
    else:
        state[change.key] = change.value


async def _let_go(client: Client, topics: Topics, changelog: TP, kept: list[Mark]) -> None:
    """Let the platform delete the snapshots before the first one that is kept, and their marks."""
    for topic, position in (
        # Two jobs may have written at one time if one had lost the subscription, so not the order is asked.
        (records_of(changelog), min((mark.first for mark in kept if mark.count), default=0)),
        (marks_of(changelog), min((mark.position for mark in kept), default=0)),
    ):
        if position:
            async with _cursor(client, topics.name(topic), SubscriptionType.SHARED) as cursor:
                await cursor.seek(Start.at(position))


@asynccontextmanager
async def _locked(client: Client, topic: str) -> AsyncIterator[Consumer]:
    """Give the only consumer of the subscription; the platform may still have one that has just ended."""
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + LOCK_MAX_S
    while True:
        try:
            cursor = await _cursor(client, topic, SubscriptionType.EXCLUSIVE)
            break
        except SubscribeDenied:
            if loop.time() > deadline_s:
                raise
            await asyncio.sleep(LOCK_PAUSE_S)
    try:
        yield cursor
    finally:
        await cursor.close()


def _cursor(client: Client, topic: str, kind: SubscriptionType) -> Consumer:
    return client.consumer(topic, SUBSCRIPTION, type=kind, prefetch=1)
