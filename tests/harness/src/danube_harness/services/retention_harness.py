"""One storage instance whose retention passes run over stores in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

from danube_common.archive.deletions import deletions
from danube_common.archive.manifest import Manifest
from danube_common.archive.records import Deletions, ManifestEntry, SegmentRecord
from danube_common.archive.state import read_archive_state
from danube_common.cluster import keys
from danube_common.cluster.catalogue import Catalogue
from danube_common.cluster.namespaces import Namespaces
from danube_common.cluster.owner_client import OwnerClient
from danube_common.cluster.records import Layout, Topic, encode_record, read_records
from danube_common.cluster.topics import Topics
from danube_common.errors import MetadataUnavailable, StoreUnavailable
from danube_common.metadata.lease import Lease
from danube_common.metadata.port import MetadataStore
from danube_common.model.bundle import Bundle
from danube_common.model.names import TopicName
from danube_common.model.position import end_of_sequence
from danube_common.model.schema import Schema, SchemaKind
from danube_common.model.strategy import ReliableOptions, Retention, StorageBackend, Strategy
from danube_common.runtime.metrics import Metrics
from danube_common.wire.frame import IDEMPOTENT, encode_frame, make_frame_id
from danube_harness.memory.bus import MemoryBus, MemoryHub
from danube_harness.memory.log import MemoryLog
from danube_harness.memory.metadata import MemoryMetadata
from danube_harness.memory.segments import MemoryStore
from danube_harness.services.fake_owner import FakeOwner
from danube_harness.services.fake_storage import FakeStorage, archive
from danube_storage.archive.offsets import Offsets
from danube_storage.archive.session import ArchivePorts, ArchiveSession
from danube_storage.retention.archive_pass import ArchiveRetention
from danube_storage.retention.memory_purge import MemoryPurge
from danube_storage.retention.metrics import RetentionMetrics
from danube_storage.segments.stores import Stores
from danube_storage.storage_metrics import StorageMetrics

FILE, MEMORY = Bundle.parse("f0"), Bundle.parse("m0")
HOUR_MS = 3600 * 1000
LOG_BYTES_MAX = 10_000


def kept(
    retention: Retention, storage: StorageBackend = StorageBackend.DISK, period_s: int = 3600
) -> Strategy:
    """Return a reliable strategy with this retention."""
    return Strategy(ReliableOptions(storage=storage, retention=retention, retention_period_s=period_s))


UNTIL_ACK, UNTIL_EXPIRE = kept(Retention.UNTIL_ACK), kept(Retention.UNTIL_EXPIRE)
MEMORY_ACK = kept(Retention.UNTIL_ACK, StorageBackend.MEMORY)
MEMORY_EXPIRE = kept(Retention.UNTIL_EXPIRE, StorageBackend.MEMORY)


class FailingStore(MemoryStore):
    """A store whose deletions fail while ``failing`` is set."""

    """A store whose deletions fail while ``failing`` is set."""

    failing = False

    async def delete(self, key: str) -> None:
        if self.failing:
            raise StoreUnavailable("the disk is away")
        await super().delete(key)


class BlindMetadata:
    """A metadata store whose watches show nothing, so that views stay as they were when opened."""

    def __init__(self, store: MemoryMetadata) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def watch(self, prefix: str, *, after_revision: int) -> AsyncIterator[Any]:
        await asyncio.Event().wait()
        yield prefix, after_revision


class CutOffMetadata:
    """A metadata store of which one call fails, before or after it is carried out."""

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


class RetentionHarness:
    """Storage instance ``7``, that archives a file and a memory bundle. The test sets the log's time."""

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
        """Create the layout, claim both bundles, and open a session on the file bundle."""
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
        """Open a view of the cluster through a metadata store."""
        catalogue = await Catalogue.open(metadata)
        self.stack.push_async_callback(catalogue.close)
        return catalogue

    async def new_session(self, bundle: Bundle, catalogue: Catalogue | None = None) -> ArchiveSession:
        lease = await Lease.acquire(self.metadata, keys.archiver_key(bundle), b"7", 60)
        self.stack.push_async_callback(lease.release)
        manifest = await Manifest.open(self.metadata, bundle)
        self.stack.push_async_callback(manifest.close)
        ports = ArchivePorts(
            "7",
            self.bus,
            self.log,
            self.metadata,
            catalogue or self.catalogue,
            Stores({StorageBackend.DISK: self.store}),
            StorageMetrics(Metrics("storage", "7")),
        )
        return ArchiveSession(bundle, ports, lease, manifest)

    def archive_retention(self, session: ArchiveSession, forget_after_ms: int = HOUR_MS) -> ArchiveRetention:
        owners = OwnerClient(self.bus, session.ports.catalogue)
        return ArchiveRetention(
            session, owners, self.metrics, delete_delay_ms=0, forget_after_ms=forget_after_ms
        )

    async def purge(self, session: ArchiveSession) -> int:
        """Run a pass over the memory bundle; return the first sequence of its log."""
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
        """Publish one frame with a message of each topic; the time 0 is long ago. Return its sequence."""
        self.stored_ms = stored_ms
        self.frames += 1
        frame = encode_frame(1, self.frames, [(topic.topic_id, [bytes(size_bytes)]) for topic in topics])
        bundle = topics[0].home
        stored = await self.log.append(bundle, frame, frame_id=make_frame_id(1, self.frames), timeout_s=1)
        return stored.sequence

    async def publish_batch(self, topic: Topic, *, key: int, first: int, messages: int) -> None:
        """Publish the frame of an idempotent producer, stored long ago."""
        self.stored_ms = 0
        frame = encode_frame(IDEMPOTENT | key, first, [(topic.topic_id, [b"m"] * messages)])
        frame_id = make_frame_id(IDEMPOTENT | key, first)
        await self.log.append(topic.home, frame, frame_id=frame_id, timeout_s=1)

    async def seal(
        self, *topics: Topic, shared: bool = False, holders: tuple[str, ...] = ("7",)
    ) -> ManifestEntry:
        """Publish one frame with a message of each topic, and archive it."""
        sequence = await self.publish(*topics)
        entries = await self.log.read(FILE, sequence, frames_max=1, bytes_max=1)
        ids = [topic.topic_id for topic in topics] if shared else []
        entry = await archive(self.session.manifest, self.store, entries, shared=ids, holders=holders)
        offsets = {topic.topic_id: sequence for topic in topics}
        self.session.offsets = Offsets(sequence, offsets)
        return entry

    def acknowledge(self, topic: Topic, sequence: int) -> None:
        """Set the topic's retention floor to the end of a log sequence."""
        self.owner.floors.setdefault(topic.home, {})[topic.topic_id] = end_of_sequence(sequence)

    async def passes(self, count: int) -> None:
        """Run passes of retention."""
        for _ in range(count):
            await self.retention.run_pass()

    async def view_of_manifest(self, metadata: MetadataStore) -> Manifest:
        manifest = await Manifest.open(metadata, FILE)
        self.stack.push_async_callback(manifest.close)
        return manifest

    async def check_all_gone(self, newest: ManifestEntry, messages: dict[int, int]) -> None:
        """Assert that only the newest manifest entry is left, and the sums of the deleted messages."""
        manifest = await read_records(self.metadata, keys.manifest_prefix(FILE), ManifestEntry)
        assert [(entry.first_sequence, entry.segments) for entry in manifest] == [(newest.first_sequence, ())]
        assert await self.store.list("") == []
        counted = deletions(await read_archive_state(self.metadata, FILE), manifest)
        assert {topic_id: sums.messages for topic_id, sums in counted.items()} == messages

    def left(self) -> list[SegmentRecord]:
        """Return the segments in the manifest."""
        return [segment for entry in self.session.manifest.all() for segment in entry.segments]

    async def deleted(self) -> dict[int, Deletions]:
        """Return the sums of deleted segments by topic id."""
        manifest = self.session.manifest.all()
        return deletions(await read_archive_state(self.metadata, FILE), manifest)

    def counted(self, name: str) -> dict[str, float]:
        """Return a counter's values by label."""
        return {
            "".join(sample.labels.values()): sample.value
            for family in self.registry.registry.collect()
            for sample in family.samples
            if sample.name == f"danube_retention_{name}_total"
        }
