from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from faust.types import TP

from danube_client import Client
from danube_client.testing.memory import MemoryPlatform
from danube_faust import record
from danube_faust.names import Names
from danube_faust.tables.compaction import Compacted, compact
from danube_faust.tables.snapshots import SnapshotIncomplete, Snapshots
from danube_faust.topics import Topics

TABLE = TP("app-sums-changelog", 1)
BINARY = b"\xff\x00"


async def write(client: Client, topics: Topics, changes: Mapping[bytes, bytes | None]) -> None:
    await topics.create(TABLE.topic, 2)
    async with client.producer(topics.name(TABLE)) as producer:
        for key, value in changes.items():
            sent = record.outgoing(key, value)
            await producer.send(sent.payload, sent.attributes, key=sent.key)


async def contents(snapshots: Snapshots) -> dict[bytes | None, bytes | None]:
    (newest,) = (await snapshots.newest([TABLE])).values()
    return {one.key: one.value async for one in snapshots.records(TABLE, newest)}


async def test_a_snapshot_has_each_key_once_and_another_is_written_when_as_much_has_changed(
    danube_memory: MemoryPlatform,
) -> None:
    async with danube_memory.client() as client:
        topics = Topics(client, Names())
        snapshots = Snapshots(client, topics)
        await write(client, topics, {b"a": b"1", b"b": b"1", BINARY: BINARY})
        await write(client, topics, {b"a": b"2", b"b": None, b"c": b"", b"over": b"1"})

        done = await compact(client, topics, TABLE, keep_s=0.0, is_wanted=lambda key: key != b"over")
        assert done == Compacted(7, 4, written=True, kept_from=0)
        assert await contents(snapshots) == {b"a": b"2", b"c": b"", BINARY: BINARY}
        (first,) = await snapshots.marks(TABLE)

        await write(client, topics, {b"c": None, b"d": b"1"})
        assert await compact(client, topics, TABLE, keep_s=0.0) == Compacted(2, 3, written=False, kept_from=0)
        assert await snapshots.ends([TABLE]) == await topics.ends([TABLE])
        await write(client, topics, {b"e": b"1"})
        assert await compact(client, topics, TABLE, keep_s=3600.0) == Compacted(
            3, 4, written=True, kept_from=0
        )
        assert await contents(snapshots) == {b"a": b"2", b"d": b"1", b"e": b"1", BINARY: BINARY}

        # What the first one covers goes once a later one is as old as workers may need.
        await write(client, topics, dict.fromkeys((b"a", b"d", b"e", b"f"), b"3"))
        done = await compact(client, topics, TABLE, keep_s=0.0)
        assert (done.written, done.kept_from > first.covers) == (True, True)


async def test_a_snapshot_that_lacks_records_is_refused(danube_memory: MemoryPlatform) -> None:
    async with danube_memory.client() as client:
        topics = Topics(client, Names())
        snapshots = Snapshots(client, topics)
        await write(client, topics, {b"a": b"1"})
        whole = await snapshots.write(TABLE, 2, {b"a": b"1", b"b": b"1"}, covers=2, kept_from=0)
        assert len(await contents(snapshots)) == whole.count == 2

        with pytest.raises(SnapshotIncomplete):
            [one async for one in snapshots.records(TABLE, replace(whole, last=whole.first))]
