"""Storage instances that serve reads of one archived bundle, and a reader of its history."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from danube_common.archive.manifest import Manifest
from danube_common.archive.records import ManifestEntry
from danube_common.bus.port import Subscription
from danube_common.cluster import keys
from danube_common.cluster.catalogue import Catalogue
from danube_common.cluster.records import Instance, Topic, encode_record
from danube_common.errors import Quarantined
from danube_common.log.port import LogEntry
from danube_common.model.bundle import Bundle
from danube_common.model.schema import Schema, SchemaKind
from danube_common.model.strategy import ReliableOptions, StorageBackend, Strategy
from danube_common.runtime.metrics import Metrics
from danube_common.wire.archive import ARCHIVE, storage_subject
from danube_common.wire.frame import encode_frame
from danube_harness.memory.bus import MemoryBus, MemoryHub
from danube_harness.memory.metadata import MemoryMetadata
from danube_harness.memory.segments import MemoryStore
from danube_harness.services.fake_storage import archive
from danube_storage.reading.metrics import ReadingMetrics
from danube_storage.reading.requests import ReadBounds, ReadRequests
from danube_storage.segments.port import SegmentStore
from danube_topic_owner.catchup.history import History

BUNDLE = Bundle.parse("f0")
DISK, S3 = StorageBackend.DISK, StorageBackend.S3
SMALL = ReadBounds(tail_bytes=8192, backfill_bytes=4096, range_bytes={DISK: 600, S3: 600})


def topic(topic_id: int, backend: StorageBackend = DISK) -> Topic:
    """Return a reliable topic of the bundle."""
    strategy = Strategy(ReliableOptions(storage=backend))
    return Topic(
        f"/default/t{topic_id}", topic_id, str(BUNDLE), Schema("s", SchemaKind.BYTES), strategy, 0, 0
    )


def frames(*frames_of_sections: Sequence[tuple[int, list[bytes]]], first: int = 1) -> list[LogEntry]:
    """Return log entries, one for each list of (topic id, messages)."""
    return [
        LogEntry(sequence, encode_frame(1, sequence, sections), 1000 * sequence)
        for sequence, sections in enumerate(frames_of_sections, start=first)
    ]


class ReadHarness:
    """Storage instances, each with its own store, the manifest of one bundle, and a reader."""

    def __init__(
        self, metadata: MemoryMetadata, bus: MemoryBus, catalogue: Catalogue, manifest: Manifest
    ) -> None:
        self.metadata = metadata
        self.catalogue_link = metadata.handle()
        self.bus = bus
        self.manifest = manifest
        self.history = History(bus, catalogue, manifest)
        self.stores: list[SegmentStore] = []
        self.readings: list[ReadRequests] = []
        self.metrics: list[Metrics] = []
        self.serving: dict[str, Subscription] = {}

    async def start(self, store: SegmentStore, bounds: ReadBounds = SMALL) -> None:
        """Add an instance with its store."""
        self.stores.append(store)
        name = str(len(self.stores))
        await self._serve(len(self.stores) - 1, store, bounds)
        instance = Instance(name, "storage", "", backends=("disk", "s3"))
        await self.metadata.put(keys.instance_key(name), encode_record(instance))

    async def _serve(self, number: int, store: SegmentStore, bounds: ReadBounds = SMALL) -> None:
        name = str(number + 1)
        if name in self.serving:
            await self.serving[name].close()
        self.metrics[number:] = [Metrics("storage", name), *self.metrics[number + 1 :]]
        metrics = ReadingMetrics(self.metrics[number])
        reading = ReadRequests(lambda _backend: store, self.catalogue_link, name, metrics, bounds)
        self.readings[number:] = [reading, *self.readings[number + 1 :]]
        self.serving[name] = await self.bus.serve(storage_subject(name), ARCHIVE.handler(reading.answer))

    async def seal(
        self, entries: list[LogEntry], *, backend: StorageBackend = DISK, shared: set[int]
    ) -> ManifestEntry:
        """Archive log entries on all instances."""
        holders = tuple(str(number) for number in range(1, len(self.stores) + 1))
        sealed = await archive(
            self.manifest, self.stores[0], entries, backend=backend, holders=holders, shared=shared
        )
        if backend is DISK:
            for record in sealed.segments:
                content = await self.stores[0].read(record.key, 0, record.size_bytes)
                for store in self.stores[1:]:
                    await store.put(record.key, chunks_of(content))
        return sealed

    async def texts(self, of: Topic, from_position: int = 0, *, bytes_max: int = 1) -> list[bytes]:
        """Return all messages from a position on; fail if any is damaged."""
        found, position = await self.until_damage(of, from_position, bytes_max=bytes_max)
        assert position is None, f"damaged at {position}"
        return found

    async def until_damage(
        self, of: Topic, from_position: int = 0, *, bytes_max: int = 1
    ) -> tuple[list[bytes], int | None]:
        """Return the messages before the first damage, and its position; None if there is no damage."""
        position = from_position
        found: list[bytes] = []
        while True:
            try:
                batch = await self.history.read(of, position, bytes_max=bytes_max)
            except Quarantined as damage:
                return found, damage.position
            if not batch.entries:
                return found, None
            for entry in batch.entries:
                section = entry.section
                found += [
                    section.message(i) for i in range(len(section)) if entry.first_position + i >= position
                ]
            position = batch.next_position

    async def renew(self, number: int = 0) -> None:
        """Restart an instance: its caches are empty then."""
        await self.readings[number].close()
        await self._serve(number, self.stores[number])

    def count(self, name: str, number: int = 0, **labels: str) -> float:
        """Return the value of an instance's metric."""
        return self.metrics[number].registry.get_sample_value(f"danube_{name}", labels) or 0.0


async def chunks_of(data: bytes) -> AsyncIterator[bytes]:
    """Yield the data whole, as a segment store takes it."""
    yield data


@asynccontextmanager
async def open_read_harness(*stores: SegmentStore, bounds: ReadBounds = SMALL) -> AsyncIterator[ReadHarness]:
    """Open a harness with one instance for each store."""
    metadata, bus = MemoryMetadata(), MemoryBus(MemoryHub())
    catalogue = await Catalogue.open(metadata)
    manifest = await Manifest.open(metadata, BUNDLE)
    harness = ReadHarness(metadata, bus, catalogue, manifest)
    for store in stores or (MemoryStore(),):
        await harness.start(store, bounds)
    try:
        yield harness
    finally:
        await harness.history.close()
        for reading in harness.readings:
            await reading.close()
        await manifest.close()
        await catalogue.close()
        await bus.close()
