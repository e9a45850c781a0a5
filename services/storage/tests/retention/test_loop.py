"""Retention carried out on stores in memory: marks, deletions, rows, sums, and the log of memory bundles."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import msgspec
import pytest

from danube_common.archive.deletions import deletions
from danube_common.archive.manifest import Manifest
from danube_common.archive.records import SHARED, Deletions, ManifestEntry, SegmentRecord
from danube_common.bus.memory import MemoryBus, MemoryHub
from danube_common.cluster import keys
from danube_common.cluster.catalogue import Catalogue
from danube_common.cluster.membership import register
from danube_common.cluster.namespaces import Namespaces
from danube_common.cluster.owner_client import OwnerClient
from danube_common.cluster.records import Instance, Layout, Topic, decode_record, encode_record
from danube_common.cluster.topics import Topics
from danube_common.errors import MetadataUnavailable, StoreUnavailable
from danube_common.log.memory import MemoryLog
from danube_common.metadata.lease import Lease
from danube_common.metadata.memory import MemoryMetadata
from danube_common.metadata.port import MetadataStore
from danube_common.model.bundle import Bundle
from danube_common.model.names import TopicName
from danube_common.model.policies import PolicyOverrides
from danube_common.model.position import end_of_sequence
from danube_common.model.schema import Schema, SchemaKind
from danube_common.model.strategy import ReliableOptions, Retention, StorageBackend, Strategy
from danube_common.runtime.metrics import Metrics
from danube_common.wire.frame import encode_frame, make_frame_id
from danube_common.wire.replica import REPLICA, copies_subject
from danube_harness.services.fake_owner import FakeOwner
from danube_harness.services.fake_storage import FakeStorage, archive
from danube_storage.archive.offsets import Offsets
from danube_storage.archive.replicas import ReplicaServer
from danube_storage.archive.session import ArchivePorts, ArchiveSession
from danube_storage.archive.state import read_archive_state
from danube_storage.retention.archive_pass import FAILED_READS_MAX, ArchiveRetention
from danube_storage.retention.loop import PART, RetentionLoop
from danube_storage.retention.memory_purge import MemoryPurge
from danube_storage.retention.metrics import RetentionMetrics
from danube_storage.segments.memory import MemoryStore
from danube_storage.segments.stores import Stores
from danube_storage.storage_metrics import StorageMetrics

FILE, MEMORY = Bundle.parse("f0"), Bundle.parse("m0")
HOUR_MS = 3600 * 1000
LOG_BYTES_MAX = 10_000


def kept(
    retention: Retention, storage: StorageBackend = StorageBackend.DISK, period_s: int = 3600
) -> Strategy:
    return Strategy(ReliableOptions(storage=storage, retention=retention, retention_period_s=period_s))


UNTIL_ACK, UNTIL_EXPIRE = kept(Retention.UNTIL_ACK), kept(Retention.UNTIL_EXPIRE)
VOLATILE_ACK = kept(Retention.UNTIL_ACK, StorageBackend.MEMORY)
VOLATILE_EXPIRE = kept(Retention.UNTIL_EXPIRE, StorageBackend.MEMORY)


class FailingStore(MemoryStore):
    failing = False

    async def delete(self, key: str) -> None:
        if self.failing:
            raise StoreUnavailable("the disk is away")
        await super().delete(key)


class BlindMetadata:
    """A store whose watches show nothing: views through it stay as they were when they were opened."""

    def __init__(self, store: MemoryMetadata) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def watch(self, prefix: str, *, after_revision: int) -> AsyncIterator[Any]:
        await asyncio.Event().wait()
        yield prefix, after_revision


class CutOffMetadata:
    """A store of which one call fails, before it is carried out or after."""

    def __init__(self, store: MemoryMetadata, *, calls: int, carried_out: bool) -> None:
        self._store = store
        self._calls = calls
        self._carried_out = carried_out

    async def get(self, key: str) -> Any:
        return await self._call(self._store.get, key)

    async def put(self, key: str, value: bytes, **given: Any) -> Any:
        return await self._call(self._store.put, key, value, **given)

    async def delete(self, key: str, **given: Any) -> Any:
        return await self._call(self._store.delete, key, **given)

    async def _call(self, call: Callable[..., Awaitable[Any]], *arguments: Any, **given: Any) -> Any:
        self._calls -= 1
        if self._calls == -1 and not self._carried_out:
            raise MetadataUnavailable("cut off before")
        answer = await call(*arguments, **given)
        if self._calls == -1:
            raise MetadataUnavailable("cut off after")
        return answer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


class OwnerHarness:
    """One storage instance, ``7``, that archives both bundles; the clock of the log is the test's."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self.stack = stack
        self.metadata = MemoryMetadata()
        self.bus = MemoryBus(MemoryHub())
        self.log = MemoryLog(now_ms=lambda: self.stored_ms)
        self.topics = Topics(self.metadata, self.log, now_ms=lambda: 0)
        self.owner = FakeOwner(self.metadata, self.bus, "71")
        self.store = FailingStore()
        self.registry = Metrics("storage", "7")
        self.metrics = RetentionMetrics(self.registry)
        self.stored_ms = 0
        self.frames = 0
        self.published: list[int] = []
        self.catalogue: Catalogue
        self.session: ArchiveSession
        self.retention: ArchiveRetention

    async def open(self) -> None:
        await self.metadata.put(keys.LAYOUT, encode_record(Layout(1, 1)))
        await Namespaces(self.metadata).create("default")
        await self.owner.claim([FILE, MEMORY])
        self.catalogue = await self.view(self.metadata)
        storage = FakeStorage(self.bus, "7", self.store)
        await storage.start()
        self.stack.push_async_callback(storage.stop)
        self.session = await self.new_session(FILE)
        self.retention = self.archive_retention(self.session)

    async def view(self, metadata: MetadataStore) -> Catalogue:
        catalogue = await Catalogue.open(metadata)
        self.stack.push_async_callback(catalogue.close)
        return catalogue

    async def new_session(self, bundle: Bundle, catalogue: Catalogue | None = None) -> ArchiveSession:
        lease = await Lease.acquire(self.metadata, keys.archiver_key(bundle), b"7", 60)
        self.stack.push_async_callback(lease.release)
        cuts = await Manifest.open(self.metadata, bundle)
        self.stack.push_async_callback(cuts.close)
        ports = ArchivePorts(
            "7",
            self.bus,
            self.log,
            self.metadata,
            catalogue or self.catalogue,
            Stores({StorageBackend.DISK: self.store}),
            StorageMetrics(Metrics("storage", "7")),
        )
        return ArchiveSession(bundle, ports, lease, cuts)

    def archive_retention(self, session: ArchiveSession, forget_after_ms: int = HOUR_MS) -> ArchiveRetention:
        owners = OwnerClient(self.bus, session.ports.catalogue)
        return ArchiveRetention(
            session, owners, self.metrics, delete_delay_ms=0, forget_after_ms=forget_after_ms
        )

    async def purge(self, session: ArchiveSession) -> int:
        """One pass over the memory bundle; the first sequence that its log has then."""
        owners = OwnerClient(self.bus, session.ports.catalogue)
        await MemoryPurge(session, owners, self.metrics, bytes_max=LOG_BYTES_MAX).run_pass()
        return (await self.log.bounds(MEMORY)).first_sequence

    async def topic(self, name: str, strategy: Strategy) -> Topic:
        topic = await self.topics.create(
            TopicName.parse(f"/default/{name}"), Schema("s", SchemaKind.BYTES), strategy
        )
        await self.catalogue.see_topics()
        return topic

    async def publish(self, *topics: Topic, stored_ms: int = 0, size_bytes: int = 1) -> int:
        """One frame with a message of each; 0 was long ago."""
        self.stored_ms = stored_ms
        self.frames += 1
        frame = encode_frame(1, self.frames, [(topic.topic_id, [bytes(size_bytes)]) for topic in topics])
        bundle = topics[0].home
        stored = await self.log.append(bundle, frame, frame_id=make_frame_id(1, self.frames), timeout_s=1)
        return stored.sequence

    async def cut(
        self, *topics: Topic, shared: bool = False, holders: tuple[str, ...] = ("7",)
    ) -> ManifestEntry:
        """Publish one frame with a message of each topic, and archive it."""
        sequence = await self.publish(*topics)
        entries = await self.log.read(FILE, sequence, frames_max=1, bytes_max=1)
        ids = [topic.topic_id for topic in topics] if shared else []
        cut = await archive(self.session.cuts, self.store, entries, shared=ids, holders=holders)
        offsets = {topic.topic_id: sequence for topic in topics}
        self.session.offsets = Offsets(sequence, offsets)
        return cut

    def acknowledge(self, topic: Topic, sequence: int) -> None:
        self.owner.floors.setdefault(topic.home, {})[topic.topic_id] = end_of_sequence(sequence)

    async def passes(self, count: int) -> None:
        for _ in range(count):
            await self.retention.run_pass()

    async def view_of_cuts(self, metadata: MetadataStore) -> Manifest:
        cuts = await Manifest.open(metadata, FILE)
        self.stack.push_async_callback(cuts.close)
        return cuts

    async def check_all_gone(self, newest: ManifestEntry, messages: dict[int, int]) -> None:
        """Only the newest cut's place is left, and the sums of what was deleted."""
        listing = await self.metadata.list(keys.manifest_prefix(FILE))
        cuts = [decode_record(ManifestEntry, entry.value) for entry in listing.entries]
        assert [(cut.first_sequence, cut.segments) for cut in cuts] == [(newest.first_sequence, ())]
        assert await self.store.list("") == []
        counted = deletions(await read_archive_state(self.metadata, FILE), cuts)
        assert {topic_id: sums.messages for topic_id, sums in counted.items()} == messages

    def left(self) -> list[SegmentRecord]:
        return [segment for cut in self.session.cuts.all() for segment in cut.segments]

    async def deleted(self) -> dict[int, Deletions]:
        cuts = self.session.cuts.all()
        return deletions(await read_archive_state(self.metadata, FILE), cuts)

    def counted(self, name: str) -> dict[str, float]:
        """A counter by its label."""
        return {
            "".join(sample.labels.values()): sample.value
            for family in self.registry.registry.collect()
            for sample in family.samples
            if sample.name == f"danube_retention_{name}_total"
        }


@pytest.fixture
async def house() -> AsyncIterator[OwnerHarness]:
    async with AsyncExitStack() as stack:
        house = OwnerHarness(stack)
        await house.open()
        yield house


async def test_what_all_have_acknowledged_is_marked_then_deleted_and_counted(house: OwnerHarness) -> None:
    topic = await house.topic("a", UNTIL_ACK)
    first, second = await house.cut(topic), await house.cut(topic)
    house.acknowledge(topic, first.last_sequence)
    await house.passes(1)
    assert [segment.retained for segment in house.left()] == [False, True]
    assert await house.store.size(first.segments[0].key)
    await house.passes(2)
    assert house.left() == list(second.segments)
    assert await house.store.list("") == [second.segments[0].key]
    assert await house.deleted() == {topic.topic_id: Deletions(1, 1, first.segments[0].size_bytes)}
    assert house.counted("marked_segments") == {"acknowledged": 1}
    assert house.counted("deleted_messages") == {"disk": 1}
    assert house.counted("deleted_bytes") == {"disk": first.segments[0].size_bytes}


async def test_without_an_owner_only_what_has_expired_goes(
    house: OwnerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("danube_storage.retention.floors.ANSWER_TIMEOUT_S", 0.05)
    lasting, passing = await house.topic("a", UNTIL_ACK), await house.topic("b", UNTIL_EXPIRE)
    await house.cut(lasting, passing)
    house.acknowledge(lasting, 1)
    await house.metadata.delete(keys.owner_key(FILE))
    async with asyncio.timeout(10):
        while house.catalogue.epoch(FILE) is not None:  # noqa: ASYNC110 - the view has no event
            await asyncio.sleep(0)
    await house.passes(2)
    assert [segment.topic_id for segment in house.left()] == [lasting.topic_id]


async def test_a_deleted_topics_segments_go(house: OwnerHarness) -> None:
    topic = await house.topic("a", UNTIL_ACK)
    await house.cut(topic)
    await house.topics.delete(topic.topic_name)
    await house.catalogue.see_topics()
    await house.passes(2)
    assert (house.left(), await house.store.list("")) == ([], [])
    assert house.counted("marked_segments") == {"topic-deleted": 1}


async def test_a_topic_that_the_view_has_not_seen_is_not_taken_for_deleted(house: OwnerHarness) -> None:
    blind = await house.view(BlindMetadata(house.metadata))
    topic = await house.topic("a", UNTIL_ACK)
    cut = await house.cut(topic)
    assert blind.topic_by_id(topic.topic_id) is None
    retention = house.archive_retention(await house.new_session(FILE, blind))
    await retention.run_pass()
    assert house.left() == list(cut.segments)


async def test_a_topic_over_its_size_loses_its_oldest_segments(house: OwnerHarness) -> None:
    topic = await house.topic("a", UNTIL_ACK)
    cuts = [await house.cut(topic) for _ in range(3)]
    await house.topics.set_policies(topic.topic_name, PolicyOverrides(max_retained_mb=1))
    await house.catalogue.see_topics()
    await house.passes(1)
    assert all(segment.retained for segment in house.left())
    large = await _grown(house, cuts[0])
    await house.passes(2)
    assert large.key not in {segment.key for segment in house.left()}
    assert len(house.left()) == 2
    assert house.counted("marked_segments") == {"size": 1}


async def _grown(house: OwnerHarness, cut: ManifestEntry) -> SegmentRecord:
    """Its record says that it takes a MiB."""

    def grown(present: ManifestEntry) -> ManifestEntry:
        (segment,) = present.segments
        larger = msgspec.structs.replace(segment, size_bytes=1 << 20)
        return msgspec.structs.replace(present, segments=(larger,))

    await house.session.cuts.change(cut, grown)
    covering = house.session.cuts.covering(cut.first_sequence)
    assert covering is not None
    return covering.segments[0]


async def test_a_shared_segment_waits_for_each_of_its_topics_and_leaves_its_offsets(
    house: OwnerHarness,
) -> None:
    one, other = await house.topic("a", UNTIL_ACK), await house.topic("b", UNTIL_ACK)
    cut = await house.cut(one, other, shared=True)
    house.acknowledge(one, 1)
    await house.passes(2)
    assert house.left() == list(cut.segments)
    house.acknowledge(other, 1)
    await house.passes(3)
    assert house.left() == []
    written = Offsets.saved(await read_archive_state(house.metadata, FILE))
    assert (written.through, written.of(one.topic_id), written.of(other.topic_id)) == (1, 1, 1)
    assert await house.deleted() == {SHARED: Deletions(1, 2, cut.segments[0].size_bytes)}


async def test_shared_segments_that_cannot_be_read_are_kept_and_hold_nothing_up(house: OwnerHarness) -> None:
    topic = await house.topic("a", UNTIL_EXPIRE)
    cuts = [await house.cut(topic, shared=True) for _ in range(FAILED_READS_MAX + 1)]
    for cut in cuts[:-1]:
        await house.store.delete(cut.segments[0].key)
    await house.passes(4)
    assert house.left() == [cut.segments[0] for cut in cuts[:-1]]


async def test_objects_in_s3_go_whichever_instance_archives(house: OwnerHarness) -> None:
    topic = await house.topic("a", UNTIL_EXPIRE)
    sequence = await house.publish(topic)
    entries = await house.log.read(FILE, sequence, frames_max=1, bytes_max=1)
    bucket = MemoryStore()
    await archive(house.session.cuts, bucket, entries, backend=StorageBackend.S3)
    ports = dataclasses.replace(house.session.ports, stores=Stores({StorageBackend.S3: bucket}))
    house.retention = house.archive_retention(dataclasses.replace(house.session, ports=ports))
    await house.passes(2)
    assert (house.left(), await bucket.list("")) == ([], [])


async def test_copies_go_from_live_instances_and_a_dead_one_holds_nothing_up(house: OwnerHarness) -> None:
    topic = await house.topic("a", UNTIL_EXPIRE)
    cut = await house.cut(topic, holders=("7", "8", "9"))
    other = MemoryStore()
    key = cut.segments[0].key

    async def content() -> AsyncIterator[bytes]:
        yield b"copy"

    await other.put(key, content())
    lease = await register(house.metadata, Instance("8", "storage", ""))
    house.stack.push_async_callback(lease.release)
    replica = ReplicaServer(house.log, other)
    await house.bus.serve(copies_subject("8"), REPLICA.handler(replica.answer))
    await house.passes(2)
    assert (house.left(), await house.store.list(""), await other.list("")) == ([], [], [])


async def test_a_deletion_that_fails_is_told_counted_and_done_later(house: OwnerHarness) -> None:
    topic = await house.topic("a", UNTIL_EXPIRE)
    await house.cut(topic)
    await house.passes(1)
    house.store.failing = True
    with pytest.raises(StoreUnavailable, match="the disk is away"):
        await house.passes(1)
    assert [segment.retained for segment in house.left()] == [False]
    assert house.counted("delete_failures") == {"disk": 1}
    house.store.failing = False
    await house.passes(1)
    assert house.left() == []


async def test_two_archivers_at_once_delete_and_count_once(house: OwnerHarness) -> None:
    topic = await house.topic("a", UNTIL_EXPIRE)
    cuts = [await house.cut(topic) for _ in range(3)]
    other = house.archive_retention(await house.new_session(FILE))
    for _ in range(4):
        await asyncio.gather(house.retention.run_pass(), other.run_pass())
    assert house.left() == []
    size_bytes = sum(cut.segments[0].size_bytes for cut in cuts)
    assert await house.deleted() == {topic.topic_id: Deletions(3, 3, size_bytes)}


async def test_an_archiver_that_lost_its_lease_does_nothing(house: OwnerHarness) -> None:
    topic = await house.topic("a", UNTIL_EXPIRE)
    cut = await house.cut(topic)
    await house.session.lease.release()
    await house.passes(3)
    assert house.left() == list(cut.segments)


async def test_empty_cuts_are_forgotten_but_for_the_newest_and_their_sums_stay(house: OwnerHarness) -> None:
    topic = await house.topic("a", UNTIL_EXPIRE)
    cuts = [await house.cut(topic) for _ in range(3)]
    house.retention = house.archive_retention(house.session, forget_after_ms=0)
    await house.passes(5)
    await house.session.cuts.refresh()
    async with asyncio.timeout(10):
        while len(house.session.cuts.all()) > 1:  # noqa: ASYNC110 - the view has no event
            await asyncio.sleep(0)
    assert [cut.first_sequence for cut in house.session.cuts.all()] == [cuts[-1].first_sequence]
    written = await read_archive_state(house.metadata, FILE)
    assert (written.forgotten_through, written.offsets_through) == (2, 3)
    size_bytes = sum(cut.segments[0].size_bytes for cut in cuts)
    assert await house.deleted() == {topic.topic_id: Deletions(3, 3, size_bytes)}


@pytest.mark.parametrize("carried_out", [False, True], ids=["not done", "done but not told"])
async def test_wherever_a_pass_breaks_off_the_next_ones_finish_it_and_count_once(carried_out: bool) -> None:
    """Calls to the metadata store fail one after the other, until a pass is done before its turn."""
    broken_off = 0
    while True:
        async with AsyncExitStack() as stack:
            house = OwnerHarness(stack)
            await house.open()
            one, other = await house.topic("a", UNTIL_EXPIRE), await house.topic("b", UNTIL_EXPIRE)
            await house.cut(one)
            await house.cut(one, other, shared=True)
            newest = await house.cut(other)
            metadata = CutOffMetadata(house.metadata, calls=broken_off, carried_out=carried_out)
            session = await house.new_session(FILE)
            session.offsets = house.session.offsets
            cut_off = ArchiveSession(
                FILE,
                dataclasses.replace(session.ports, metadata=metadata),
                session.lease,
                await house.view_of_cuts(metadata),
                session.offsets,
            )
            retention = house.archive_retention(cut_off, forget_after_ms=0)
            failed = False
            for _ in range(8):
                try:
                    await retention.run_pass()
                except MetadataUnavailable:
                    failed = True
            await house.check_all_gone(newest, {one.topic_id: 1, SHARED: 2, other.topic_id: 1})
            if not failed:
                break
            broken_off += 1
    assert broken_off > 8


async def test_the_duty_goes_on_after_a_failure_and_says_what_is_wrong(house: OwnerHarness) -> None:
    topic = await house.topic("a", UNTIL_EXPIRE)
    await house.cut(topic)
    house.store.failing = True
    loop = RetentionLoop(
        OwnerClient(house.bus, house.catalogue),
        house.metrics,
        interval_s=0.01,
        delete_delay_s=0,
        forget_after_s=3600,
        memory_bytes_max=LOG_BYTES_MAX,
    )
    duty = asyncio.create_task(loop.retain(house.session))
    try:
        async with asyncio.timeout(30):
            while PART not in house.session.problems:  # noqa: ASYNC110 - a plain dictionary
                await asyncio.sleep(0.01)
            assert "the disk is away" in house.session.problems[PART]
            house.store.failing = False
            while house.left() or PART in house.session.problems:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    finally:
        duty.cancel()
        await asyncio.gather(duty, return_exceptions=True)


# RetentionCache bundles


NOW = 1 << 60
"""Stored in the far future: expires after the test."""


async def test_a_memory_log_keeps_what_has_not_expired(house: OwnerHarness) -> None:
    topic = await house.topic("m", VOLATILE_EXPIRE)
    for stored_ms in (0, 5, 9, NOW, NOW):
        await house.publish(topic, stored_ms=stored_ms)
    assert await house.purge(await house.new_session(MEMORY)) == 4
    assert house.counted("purged_frames") == {"m0": 3}


async def test_a_memory_log_keeps_what_some_subscription_has_not_acknowledged(house: OwnerHarness) -> None:
    topic, passing = await house.topic("m", VOLATILE_ACK), await house.topic("n", VOLATILE_EXPIRE)
    session = await house.new_session(MEMORY)
    for _ in range(5):
        await house.publish(topic, passing)
    assert await house.purge(session) == 1
    house.acknowledge(topic, 3)
    assert await house.purge(session) == 4


async def test_a_memory_log_under_pressure_gives_up_what_nobody_waits_for(house: OwnerHarness) -> None:
    topic, passing = await house.topic("m", VOLATILE_ACK), await house.topic("n", VOLATILE_EXPIRE)
    session = await house.new_session(MEMORY)
    for _ in range(4):
        await house.publish(topic, passing, stored_ms=NOW, size_bytes=100)
    house.acknowledge(passing, 3)
    assert await house.purge(session) == 1
    await house.publish(passing, stored_ms=NOW, size_bytes=LOG_BYTES_MAX)
    assert await house.purge(session) == 4


async def test_a_topic_that_the_view_has_not_seen_keeps_its_messages_in_memory(house: OwnerHarness) -> None:
    blind = await house.view(BlindMetadata(house.metadata))
    topic = await house.topic("m", VOLATILE_ACK)
    await house.publish(topic)
    assert await house.purge(await house.new_session(MEMORY, blind)) == 1


async def test_an_empty_or_missing_memory_log_is_left_alone(house: OwnerHarness) -> None:
    session = await house.new_session(MEMORY)
    owners = OwnerClient(house.bus, house.catalogue)
    purge = MemoryPurge(session, owners, house.metrics, bytes_max=LOG_BYTES_MAX)
    await purge.run_pass()
    await house.log.open(MEMORY)
    await purge.run_pass()
    assert (await house.log.bounds(MEMORY)).last_sequence == 0
