"""One bundle over given ports, and a plain list of the messages that were published to it."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Sequence
from typing import Self

from danube_common.archive.manifest import Manifest
from danube_common.archive.state import read_archive_state
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
from danube_common.model.producer_sequences import ProducerSequences
from danube_common.model.schema import Schema, SchemaKind
from danube_common.model.strategy import ReliableOptions, StorageBackend, Strategy
from danube_common.runtime.metrics import Metrics
from danube_common.segment.reader import EntryReader, SegmentEntry, parse_tail
from danube_common.wire.frame import (
    IDEMPOTENT,
    decode_frame,
    encode_frame,
    make_frame_id,
    producer_batch_of,
)
from danube_storage.archive.session import ArchivePorts
from danube_storage.segments.port import SegmentStore
from danube_storage.segments.stores import Stores
from danube_storage.storage_metrics import StorageMetrics

PATIENCE_S = 40.0
"""A test that waits longer has failed."""
FRAMES_PER_READ = 4096
READ_BYTES = 8 << 20
BUNDLE = Bundle.parse("f0")
DISK = Strategy(ReliableOptions(storage=StorageBackend.DISK, segment_size_mb=1))
S3 = Strategy(ReliableOptions(storage=StorageBackend.S3, segment_size_mb=1))

Messages = dict[int, list[tuple[int, bytes]]]
"""(position, message) by topic, in order."""


class ArchiveHarness:
    """Publishes to bundle ``f0``, and compares the messages in log and archive with the published ones.

    Attributes:
        expected: the published messages of each topic that exists.
        stored: what idempotent producers have published.
        manifest: the test's own view of the bundle's manifest.
    """

    def __init__(self, bus: Bus, log: BundleLog, metadata: MetadataStore) -> None:
        self.bus = bus
        self.log = log
        self.metadata = metadata
        self.topics = Topics(metadata, log, now_ms=lambda: time.time_ns() // 1_000_000)
        self.expected: Messages = {}
        self.stored = ProducerSequences()
        self.catalogue: Catalogue
        self.manifest: Manifest
        self._frames = itertools.count(1)
        self._changed = asyncio.Event()

    @classmethod
    async def open(cls, bus: Bus, log: BundleLog, metadata: MetadataStore) -> Self:
        """Create the namespace and the layout, and open the views."""
        self = cls(bus, log, metadata)
        await Namespaces(metadata).create("default")
        await metadata.put(keys.LAYOUT, encode_record(Layout(1, 1)))
        self.catalogue = await Catalogue.open(metadata)
        self.manifest = await Manifest.open(metadata, BUNDLE)
        self.manifest.on_change(lambda _before, _after: self._changed.set())
        return self

    async def close(self) -> None:
        """Close the views."""
        await self.manifest.close()
        await self.catalogue.close()

    def ports(self, instance_id: str, stores: Stores) -> ArchivePorts:
        """Return the ports of a storage instance, which shares the harness's view of the cluster."""
        metrics = StorageMetrics(Metrics("storage", instance_id))
        return ArchivePorts(instance_id, self.bus, self.log, self.metadata, self.catalogue, stores, metrics)

    async def topic(self, name: str, strategy: Strategy = DISK) -> Topic:
        """Create a topic."""
        schema = Schema("s", SchemaKind.BYTES)
        topic = await self.topics.create(TopicName.parse(f"/default/{name}"), schema, strategy)
        self.expected[topic.topic_id] = []
        return topic

    async def delete(self, topic: Topic) -> None:
        """Delete a topic; its messages are not expected any more."""
        await self.topics.delete(topic.topic_name)
        del self.expected[topic.topic_id]

    async def publish(self, *sections: tuple[Topic, Sequence[bytes]]) -> int:
        """Publish one frame; return its sequence."""
        number = next(self._frames)
        frame = encode_frame(1, number, [(topic.topic_id, messages) for topic, messages in sections])
        stored = await self.log.append(BUNDLE, frame, frame_id=make_frame_id(1, number), timeout_s=PATIENCE_S)
        for number_in_frame, (topic, messages) in enumerate(sections):
            self.expected[topic.topic_id] += [
                (position_of(stored.sequence, number_in_frame, index), message)
                for index, message in enumerate(messages)
            ]
        return stored.sequence

    async def publish_batch(self, topic: Topic, producer: int, messages: Sequence[bytes]) -> None:
        """Publish the frame of an idempotent producer, which is known by its sequence key."""
        first = self.stored.last(producer) + 1
        gateway = IDEMPOTENT | producer
        frame = encode_frame(gateway, first, [(topic.topic_id, messages)])
        frame_id = make_frame_id(gateway, first)
        stored = await self.log.append(BUNDLE, frame, frame_id=frame_id, timeout_s=PATIENCE_S)
        self.stored.note(producer, first + len(messages) - 1)
        self.expected[topic.topic_id] += [
            (position_of(stored.sequence, 0, index), message) for index, message in enumerate(messages)
        ]

    async def archived(self, sequence: int) -> None:
        """Wait until the log is archived through ``sequence``."""
        async with asyncio.timeout(PATIENCE_S):
            while self.manifest.archived_through < sequence:
                self._changed.clear()
                await self._changed.wait()

    async def purged(self, sequence: int) -> None:
        """Wait until the log begins above ``sequence``."""
        async with asyncio.timeout(PATIENCE_S):
            while (await self.log.bounds(BUNDLE)).first_sequence <= sequence:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    async def check(self, stores: Stores) -> None:
        """Assert that archive and log hold each published message once, in order, with gapless offsets."""
        await self.manifest.refresh()
        manifest = self.manifest.all()
        begins = [entry.first_sequence for entry in manifest]
        expected = [1, *(entry.last_sequence + 1 for entry in manifest)][: len(manifest)]
        assert begins == expected, "manifest entries have a gap or overlap"
        await self._check_sequences()
        held = await self.archive(stores)
        for topic_id, messages in (await self._in_log(self.manifest.archived_through + 1)).items():
            held.setdefault(topic_id, []).extend(messages)
        for topic_id, messages in self.expected.items():
            assert held.get(topic_id, []) == messages

    async def _check_sequences(self) -> None:
        """Assert that archive state and log tell what each idempotent producer has stored."""
        told = ProducerSequences.unpack((await read_archive_state(self.metadata, BUNDLE)).sequences)
        bounds = await self.log.bounds(BUNDLE)
        for entry in await self.log.read(
            BUNDLE, bounds.first_sequence, frames_max=FRAMES_PER_READ, bytes_max=READ_BYTES
        ):
            if (batch := producer_batch_of(entry.frame)) is not None:
                told.note(batch.key, batch.last)
        assert dict(told.items()) == dict(self.stored.items()), "a producer's last sequence is purged"

    async def archive(self, stores: Stores) -> Messages:
        """Return the messages in all segments; verify every checksum and offset."""
        found: Messages = {}
        offsets: dict[int, int] = {}
        for sealed in self.manifest.all():
            for segment in sealed.segments:
                entries = await read_segment(stores.of(segment.backend), segment.key)
                assert sum(len(entry.section) for entry in entries) == segment.messages
                for entry in entries:
                    topic_id = entry.section.topic_id
                    assert sealed.first_sequence <= entry.sequence <= sealed.last_sequence
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
                assert entry.sequence == from_sequence, "the log has a gap behind its archive"
                from_sequence += 1
                for number, section in enumerate(decode_frame(entry.frame).sections):
                    found.setdefault(section.topic_id, []).extend(
                        (position_of(entry.sequence, number, index), section.message(index))
                        for index in range(len(section))
                    )
        return found


async def read_segment(store: SegmentStore, key: str) -> list[SegmentEntry]:
    """Return the entries of a segment; verify all checksums."""
    size_bytes = await store.size(key)
    data = await store.read(key, 0, size_bytes)
    index = parse_tail(data, size_bytes)
    reader = EntryReader(index)
    entries = reader.feed(data[: index.info.data_bytes])
    reader.finish()
    return entries
