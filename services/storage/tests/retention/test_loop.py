"""Retention of segments on stores in memory: marks, deletions, compaction."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import msgspec
import pytest

from danube_common.archive.records import SHARED, Deletions, ManifestEntry, SegmentRecord
from danube_common.archive.state import read_archive_state
from danube_common.cluster import keys
from danube_common.cluster.membership import register
from danube_common.cluster.owner_client import OwnerClient
from danube_common.cluster.records import Instance
from danube_common.errors import MetadataUnavailable, StoreUnavailable
from danube_common.model.policies import PolicyOverrides
from danube_common.model.strategy import StorageBackend
from danube_common.wire.replica import REPLICA, replica_subject
from danube_harness.memory.segments import MemoryStore
from danube_harness.services.fake_storage import archive
from danube_harness.services.retention_harness import (
    FILE,
    LOG_BYTES_MAX,
    UNTIL_ACK,
    UNTIL_EXPIRE,
    BlindMetadata,
    CutOffMetadata,
    RetentionHarness,
)
from danube_storage.archive.offsets import Offsets
from danube_storage.archive.replicas import ReplicaServer
from danube_storage.archive.session import ArchiveSession
from danube_storage.retention.archive_pass import FAILED_READS_MAX
from danube_storage.retention.loop import TASK, RetentionLoop
from danube_storage.segments.stores import Stores


async def test_what_all_have_acknowledged_is_marked_then_deleted_and_counted(
    harness: RetentionHarness,
) -> None:
    topic = await harness.topic("a", UNTIL_ACK)
    first, second = await harness.seal(topic), await harness.seal(topic)
    harness.acknowledge(topic, first.last_sequence)
    await harness.passes(1)
    assert [segment.retained for segment in harness.left()] == [False, True]
    assert await harness.store.size(first.segments[0].key)
    await harness.passes(2)
    assert harness.left() == list(second.segments)
    assert await harness.store.list("") == [second.segments[0].key]
    assert await harness.deleted() == {topic.topic_id: Deletions(1, 1, first.segments[0].size_bytes)}
    assert harness.counted("marked_segments") == {"acknowledged": 1}
    assert harness.counted("deleted_messages") == {"disk": 1}
    assert harness.counted("deleted_bytes") == {"disk": first.segments[0].size_bytes}


async def test_without_an_owner_only_what_has_expired_goes(
    harness: RetentionHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("danube_storage.retention.floors.ANSWER_TIMEOUT_S", 0.05)
    lasting, passing = await harness.topic("a", UNTIL_ACK), await harness.topic("b", UNTIL_EXPIRE)
    await harness.seal(lasting, passing)
    harness.acknowledge(lasting, 1)
    await harness.metadata.delete(keys.owner_key(FILE))
    async with asyncio.timeout(10):
        while harness.catalogue.epoch(FILE) is not None:  # noqa: ASYNC110 - the view has no event
            await asyncio.sleep(0)
    await harness.passes(2)
    assert [segment.topic_id for segment in harness.left()] == [lasting.topic_id]


async def test_a_deleted_topics_segments_go(harness: RetentionHarness) -> None:
    topic = await harness.topic("a", UNTIL_ACK)
    await harness.seal(topic)
    await harness.topics.delete(topic.topic_name)
    await harness.catalogue.see_topics()
    await harness.passes(2)
    assert (harness.left(), await harness.store.list("")) == ([], [])
    assert harness.counted("marked_segments") == {"topic-deleted": 1}


async def test_a_topic_that_the_view_has_not_seen_is_not_taken_for_deleted(harness: RetentionHarness) -> None:
    blind = await harness.view(BlindMetadata(harness.metadata))
    topic = await harness.topic("a", UNTIL_ACK)
    entry = await harness.seal(topic)
    assert blind.topic_by_id(topic.topic_id) is None
    retention = harness.archive_retention(await harness.new_session(FILE, blind))
    await retention.run_pass()
    assert harness.left() == list(entry.segments)


async def test_a_topic_over_its_size_loses_its_oldest_segments(harness: RetentionHarness) -> None:
    topic = await harness.topic("a", UNTIL_ACK)
    sealed = [await harness.seal(topic) for _ in range(3)]
    await harness.topics.set_policies(topic.topic_name, PolicyOverrides(max_retained_mb=1))
    await harness.catalogue.see_topics()
    await harness.passes(1)
    assert all(segment.retained for segment in harness.left())
    large = await _grown(harness, sealed[0])
    await harness.passes(2)
    assert large.key not in {segment.key for segment in harness.left()}
    assert len(harness.left()) == 2
    assert harness.counted("marked_segments") == {"size": 1}


async def _grown(harness: RetentionHarness, entry: ManifestEntry) -> SegmentRecord:
    """Its record says that it takes a MiB."""

    def grown(present: ManifestEntry) -> ManifestEntry:
        (segment,) = present.segments
        larger = msgspec.structs.replace(segment, size_bytes=1 << 20)
        return msgspec.structs.replace(present, segments=(larger,))

    await harness.session.manifest.change(entry, grown)
    covering = harness.session.manifest.covering(entry.first_sequence)
    assert covering is not None
    return covering.segments[0]


async def test_a_shared_segment_waits_for_each_of_its_topics_and_leaves_its_offsets(
    harness: RetentionHarness,
) -> None:
    one, other = await harness.topic("a", UNTIL_ACK), await harness.topic("b", UNTIL_ACK)
    entry = await harness.seal(one, other, shared=True)
    harness.acknowledge(one, 1)
    await harness.passes(2)
    assert harness.left() == list(entry.segments)
    harness.acknowledge(other, 1)
    await harness.passes(3)
    assert harness.left() == []
    written = Offsets.saved(await read_archive_state(harness.metadata, FILE))
    assert (written.through, written.of(one.topic_id), written.of(other.topic_id)) == (1, 1, 1)
    assert await harness.deleted() == {SHARED: Deletions(1, 2, entry.segments[0].size_bytes)}


async def test_shared_segments_that_cannot_be_read_are_kept_and_hold_nothing_up(
    harness: RetentionHarness,
) -> None:
    topic = await harness.topic("a", UNTIL_EXPIRE)
    sealed = [await harness.seal(topic, shared=True) for _ in range(FAILED_READS_MAX + 1)]
    for entry in sealed[:-1]:
        await harness.store.delete(entry.segments[0].key)
    await harness.passes(4)
    assert harness.left() == [entry.segments[0] for entry in sealed[:-1]]


async def test_objects_in_s3_go_whichever_instance_archives(harness: RetentionHarness) -> None:
    topic = await harness.topic("a", UNTIL_EXPIRE)
    sequence = await harness.publish(topic)
    entries = await harness.log.read(FILE, sequence, frames_max=1, bytes_max=1)
    bucket = MemoryStore()
    await archive(harness.session.manifest, bucket, entries, backend=StorageBackend.S3)
    ports = dataclasses.replace(harness.session.ports, stores=Stores({StorageBackend.S3: bucket}))
    harness.retention = harness.archive_retention(dataclasses.replace(harness.session, ports=ports))
    await harness.passes(2)
    assert (harness.left(), await bucket.list("")) == ([], [])


async def test_copies_go_from_live_instances_and_a_dead_one_holds_nothing_up(
    harness: RetentionHarness,
) -> None:
    topic = await harness.topic("a", UNTIL_EXPIRE)
    entry = await harness.seal(topic, holders=("7", "8", "9"))
    other = MemoryStore()
    key = entry.segments[0].key

    async def content() -> AsyncIterator[bytes]:
        yield b"copy"

    await other.put(key, content())
    lease = await register(harness.metadata, Instance("8", "storage", ""))
    harness.stack.push_async_callback(lease.release)
    replica = ReplicaServer(harness.log, other)
    await harness.bus.serve(replica_subject("8"), REPLICA.handler(replica.answer))
    await harness.passes(2)
    assert (harness.left(), await harness.store.list(""), await other.list("")) == ([], [], [])


async def test_a_deletion_that_fails_is_reported_counted_and_done_later(harness: RetentionHarness) -> None:
    topic = await harness.topic("a", UNTIL_EXPIRE)
    await harness.seal(topic)
    await harness.passes(1)
    harness.store.failing = True
    with pytest.raises(StoreUnavailable, match="the disk is away"):
        await harness.passes(1)
    assert [segment.retained for segment in harness.left()] == [False]
    assert harness.counted("delete_failures") == {"disk": 1}
    harness.store.failing = False
    await harness.passes(1)
    assert harness.left() == []


async def test_two_archivers_at_once_delete_and_count_once(harness: RetentionHarness) -> None:
    topic = await harness.topic("a", UNTIL_EXPIRE)
    sealed = [await harness.seal(topic) for _ in range(3)]
    other = harness.archive_retention(await harness.new_session(FILE))
    for _ in range(4):
        await asyncio.gather(harness.retention.run_pass(), other.run_pass())
    assert harness.left() == []
    size_bytes = sum(entry.segments[0].size_bytes for entry in sealed)
    assert await harness.deleted() == {topic.topic_id: Deletions(3, 3, size_bytes)}


async def test_an_archiver_that_lost_its_lease_does_nothing(harness: RetentionHarness) -> None:
    topic = await harness.topic("a", UNTIL_EXPIRE)
    entry = await harness.seal(topic)
    await harness.session.lease.release()
    await harness.passes(3)
    assert harness.left() == list(entry.segments)


async def test_empty_manifest_entries_are_removed_but_for_the_newest_and_their_sums_stay(
    harness: RetentionHarness,
) -> None:
    topic = await harness.topic("a", UNTIL_EXPIRE)
    sealed = [await harness.seal(topic) for _ in range(3)]
    harness.retention = harness.archive_retention(harness.session, forget_after_ms=0)
    await harness.passes(5)
    await harness.session.manifest.refresh()
    async with asyncio.timeout(10):
        while len(harness.session.manifest.all()) > 1:  # noqa: ASYNC110 - the view has no event
            await asyncio.sleep(0)
    assert [entry.first_sequence for entry in harness.session.manifest.all()] == [sealed[-1].first_sequence]
    written = await read_archive_state(harness.metadata, FILE)
    assert (written.forgotten_through, written.offsets_through) == (2, 3)
    size_bytes = sum(entry.segments[0].size_bytes for entry in sealed)
    assert await harness.deleted() == {topic.topic_id: Deletions(3, 3, size_bytes)}


@pytest.mark.parametrize("carried_out", [False, True], ids=["not done", "done but not told"])
async def test_wherever_a_pass_breaks_off_the_next_ones_finish_it_and_count_once(carried_out: bool) -> None:
    """Calls to the metadata store fail one after the other, until a pass is done before its turn."""
    broken_off = 0
    while True:
        async with AsyncExitStack() as stack:
            harness = RetentionHarness(stack)
            await harness.open()
            one, other = await harness.topic("a", UNTIL_EXPIRE), await harness.topic("b", UNTIL_EXPIRE)
            await harness.seal(one)
            await harness.seal(one, other, shared=True)
            newest = await harness.seal(other)
            metadata = CutOffMetadata(harness.metadata, calls=broken_off, carried_out=carried_out)
            session = await harness.new_session(FILE)
            session.offsets = harness.session.offsets
            cut_off = ArchiveSession(
                FILE,
                dataclasses.replace(session.ports, metadata=metadata),
                session.lease,
                await harness.view_of_manifest(metadata),
                session.offsets,
            )
            retention = harness.archive_retention(cut_off, forget_after_ms=0)
            failed = False
            for _ in range(8):
                try:
                    await retention.run_pass()
                except MetadataUnavailable:
                    failed = True
            await harness.check_all_gone(newest, {one.topic_id: 1, SHARED: 2, other.topic_id: 1})
            if not failed:
                break
            broken_off += 1
    assert broken_off > 8


async def test_the_task_goes_on_after_a_failure_and_says_what_is_wrong(harness: RetentionHarness) -> None:
    topic = await harness.topic("a", UNTIL_EXPIRE)
    await harness.seal(topic)
    harness.store.failing = True
    loop = RetentionLoop(
        OwnerClient(harness.bus, harness.catalogue),
        harness.metrics,
        interval_s=0.01,
        delete_delay_s=0,
        forget_after_s=3600,
        memory_bytes_max=LOG_BYTES_MAX,
    )
    task = asyncio.create_task(loop.retain(harness.session))
    try:
        async with asyncio.timeout(30):
            while TASK not in harness.session.problems:  # noqa: ASYNC110 - a plain dictionary
                await asyncio.sleep(0.01)
            assert "the disk is away" in harness.session.problems[TASK]
            harness.store.failing = False
            while harness.left() or TASK in harness.session.problems:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
