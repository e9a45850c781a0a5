"""One bundle of topics over given ports, and a plain list of what was published to it."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Sequence
from typing import Self

from danube_common.archive.manifest import Manifest
from danube_common.bus.port import Bus
from danube_common.cluster import keys
from danube_common.cluster.catalogue import Catalogue
from danube_common.cluster.namespaces import Namespaces
from danube_common.cluster.records import Layout, Topic, encode_record
from danube_common.cluster.topics import Topics
from danube_common.log.port import BundleLog
from danube_common.metadata.port import MetadataStore
from danube_common.model.bundle import Bundle
from danube_common.model.names import TopicName
from danube_common.model.position import position_of
from danube_common.model.schema import Schema, SchemaKind
from danube_common.model.strategy import ReliableOptions, StorageBackend, Strategy
from danube_common.runtime.metrics import Metrics
from danube_common.segment.reader import EntryReader, SegmentEntry, parse_tail
from danube_common.wire.frame import decode_frame, encode_frame, make_frame_id
from danube_storage.archive.session import ArchivePorts
from danube_storage.segments.port import SegmentStore
from danube_storage.segments.stores import Stores
from danube_storage.storage_metrics import StorageMetrics

PATIENCE_S = 40.0
"""A test that waits longer has failed; none waits for time to pass."""
FRAMES_PER_READ = 4096
READ_BYTES = 8 << 20
BUNDLE = Bundle.parse("f0")
DISK = Strategy(ReliableOptions(storage=StorageBackend.DISK, segment_size_mb=1))
S3 = Strategy(ReliableOptions(storage=StorageBackend.S3, segment_size_mb=1))

Messages = dict[int, list[tuple[int, bytes]]]
"""(position, message) by topic, in order."""


class ArchiveHarness:
    """Publishes to bundle ``f0``, and compares what log and archive hold with what was published.

    Attributes:
        expected: what was published to each topic that exists.
        cuts: the test's own view of the bundle's catalogue.
    """

    def __init__(self, bus: Bus, log: BundleLog, metadata: MetadataStore) -> None:
        self.bus = bus
        self.log = log
        self.metadata = metadata
        self.topics = Topics(metadata, log, now_ms=lambda: time.time_ns() // 1_000_000)
        self.expected: Messages = {}
        self.catalogue: Catalogue
        self.manifest: Manifest
        self._frames = itertools.count(1)
        self._changed = asyncio.Event()

    @classmethod
    async def open(cls, bus: Bus, log: BundleLog, metadata: MetadataStore) -> Self:
        self = cls(bus, log, metadata)
        await Namespaces(metadata).create("default")
        await metadata.put(keys.LAYOUT, encode_record(Layout(1, 1)))
        self.catalogue = await Catalogue.open(metadata)
        self.manifest = await Manifest.open(metadata, BUNDLE)
        self.manifest.on_change(lambda _before, _after: self._changed.set())
        return self

    async def close(self) -> None:
        await self.manifest.close()
        await self.catalogue.close()

    def ports(self, instance_id: str, stores: Stores) -> ArchivePorts:
        """A storage instance's; it shares the harness's view of the cluster."""
        metrics = StorageMetrics(Metrics("storage", instance_id))
        return ArchivePorts(instance_id, self.bus, self.log, self.metadata, self.catalogue, stores, metrics)

    async def topic(self, name: str, strategy: Strategy = DISK) -> Topic:
        schema = Schema("s", SchemaKind.BYTES)
        topic = await self.topics.create(TopicName.parse(f"/default/{name}"), schema, strategy)
        self.expected[topic.topic_id] = []
        return topic

    async def delete(self, topic: Topic) -> None:
        await self.topics.delete(topic.topic_name)
        del self.expected[topic.topic_id]

    async def publish(self, *sections: tuple[Topic, Sequence[bytes]]) -> int:
        """One frame; returns its sequence."""
        number = next(self._frames)
        frame = encode_frame(1, number, [(topic.topic_id, messages) for topic, messages in sections])
        stored = await self.log.append(BUNDLE, frame, frame_id=make_frame_id(1, number), timeout_s=PATIENCE_S)
        for place, (topic, messages) in enumerate(sections):
            self.expected[topic.topic_id] += [
                (position_of(stored.sequence, place, index), message)
                for index, message in enumerate(messages)
            ]
        return stored.sequence

    async def archived(self, sequence: int) -> None:
        """Until what is up to ``sequence`` is catalogued."""
        async with asyncio.timeout(PATIENCE_S):
            while self.manifest.archived_through < sequence:
                self._changed.clear()
                await self._changed.wait()

    async def purged(self, sequence: int) -> None:
        """Until the log begins above ``sequence``."""
        async with asyncio.timeout(PATIENCE_S):
            while (await self.log.bounds(BUNDLE)).first_sequence <= sequence:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    async def check(self, stores: Stores) -> None:
        """Archive and log together hold what was published, once, in order, counted without a gap."""
        await self.manifest.refresh()
        cuts = self.manifest.all()
        begins = [cut.first_sequence for cut in cuts]
        assert begins == [1, *(cut.last_sequence + 1 for cut in cuts)][: len(cuts)], "the cuts are no chain"
        held = await self.archive(stores)
        for topic_id, messages in (await self._in_log(self.manifest.archived_through + 1)).items():
            held.setdefault(topic_id, []).extend(messages)
        for topic_id, messages in self.expected.items():
            assert held.get(topic_id, []) == messages

    async def archive(self, stores: Stores) -> Messages:
        """What the segments of all cuts hold, every checksum and offset verified."""
        found: Messages = {}
        offsets: dict[int, int] = {}
        for cut in self.manifest.all():
            for segment in cut.segments:
                entries = await read_segment(stores.of(segment.backend), segment.key)
                assert sum(len(entry.section) for entry in entries) == segment.messages
                for entry in entries:
                    topic_id = entry.section.topic_id
                    assert cut.first_sequence <= entry.sequence <= cut.last_sequence
                    assert entry.first_offset == offsets.get(topic_id, 0), "an offset is left out or repeated"
                    offsets[topic_id] = entry.first_offset + len(entry.section)
                    found.setdefault(topic_id, []).extend(
                        (entry.first_position + index, entry.section.message(index))
                        for index in range(len(entry.section))
                    )
        return found

    async def _in_log(self, from_sequence: int) -> Messages:
        found: Messages = {}
        last = (await self.log.bounds(BUNDLE)).last_sequence
        while from_sequence <= last:
            entries = await self.log.read(
                BUNDLE, from_sequence, frames_max=FRAMES_PER_READ, bytes_max=READ_BYTES
            )
            for entry in entries:
                assert entry.sequence == from_sequence, "the log has a hole behind its archive"
                from_sequence += 1
                for number, section in enumerate(decode_frame(entry.frame).sections):
                    found.setdefault(section.topic_id, []).extend(
                        (position_of(entry.sequence, number, index), section.message(index))
                        for index in range(len(section))
                    )
        return found


async def read_segment(store: SegmentStore, key: str) -> list[SegmentEntry]:
    """Every entry of a segment, all checksums verified."""
    size_bytes = await store.size(key)
    data = await store.read(key, 0, size_bytes)
    index = parse_tail(data, size_bytes)
    reader = EntryReader(index)
    entries = reader.feed(data[: index.info.data_bytes])
    reader.finish()
    return entries
