"""The way from the log to the catalogue, on a real NATS server and a real directory."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from danube_common import keys
from danube_common.archive.cuts import Cuts
from danube_common.archive.records import SHARED
from danube_common.bundle import Bundle
from danube_common.bus.nats import NatsBus
from danube_common.catalogue import Catalogue
from danube_common.frame import encode_frame, make_frame_id
from danube_common.log.jetstream import JetStreamLog
from danube_common.membership import register
from danube_common.metadata.jetstream import JetStreamMetadata
from danube_common.names import TopicName
from danube_common.namespaces import Namespaces
from danube_common.position import position_of
from danube_common.records import Instance, Layout, Topic, encode_record
from danube_common.runtime.metrics import Metrics
from danube_common.schema import Schema, SchemaKind
from danube_common.segment.reader import EntryReader, parse_tail
from danube_common.strategy import ReliableOptions, StorageBackend, Strategy
from danube_common.topics import Topics
from danube_storage.archiver import Archiver
from danube_storage.archiving import Archiving
from danube_storage.cut_rules import CutRules
from danube_storage.session import ArchivePorts
from danube_storage.storage_metrics import StorageMetrics
from danube_storage.stores import Stores, archive_id, open_stores
from danube_testing.nats_server import NatsServer

PATIENCE_S = 30.0
BUNDLE = Bundle.parse("f0")
RULES = CutRules(seal_age_s=1.0, cut_bytes_max=1 << 20, own_segment_bytes_min=5000)
DISK = Strategy(ReliableOptions(storage=StorageBackend.DISK))


class Platform:
    """A NATS server with one bundle, messages in it, and storage instances that archive it."""

    def __init__(
        self, bus: NatsBus, metadata: JetStreamMetadata, data_dir: Path, stack: AsyncExitStack
    ) -> None:
        self.bus = bus
        self.metadata = metadata
        self.data_dir = data_dir
        self.stack = stack
        self.log = JetStreamLog(bus.connection, file_bytes_max=64 << 20, memory_bytes_max=1 << 20)
        self.topics = Topics(metadata, self.log, now_ms=lambda: time.time_ns() // 1_000_000)
        self.expected: dict[int, list[tuple[int, bytes]]] = {}
        """(position, message) by topic."""
        self.frames = itertools.count(1)
        self.catalogue: Catalogue
        self.cuts: Cuts
        self.changed = asyncio.Event()

    async def open(self) -> None:
        await Namespaces(self.metadata).create("default")
        await self.metadata.put(keys.LAYOUT, encode_record(Layout(1, 1)))
        self.catalogue = await Catalogue.open(self.metadata)
        self.stack.push_async_callback(self.catalogue.close)
        self.cuts = await Cuts.open(self.metadata, BUNDLE, lambda _before, _after: self.changed.set())
        self.stack.push_async_callback(self.cuts.close)

    async def topic(self, name: str, strategy: Strategy = DISK) -> Topic:
        topic = await self.topics.create(
            TopicName.parse(f"/default/{name}"), Schema("s", SchemaKind.BYTES), strategy
        )
        self.expected[topic.topic_id] = []
        return topic

    async def publish(self, *sections: tuple[Topic, list[bytes]]) -> int:
        number = next(self.frames)
        frame = encode_frame(1, number, [(topic.topic_id, messages) for topic, messages in sections])
        stored = await self.log.append(BUNDLE, frame, frame_id=make_frame_id(1, number), timeout_s=PATIENCE_S)
        for place, (topic, messages) in enumerate(sections):
            self.expected[topic.topic_id] += [
                (position_of(stored.sequence, place, index), message)
                for index, message in enumerate(messages)
            ]
        return stored.sequence

    async def storage(self, instance_id: str = "7", rules: CutRules = RULES) -> Archiving:
        stores = await open_stores(await archive_id(self.metadata), instance_id, self.data_dir)
        self.stack.push_async_callback(stores.close)
        lease = await register(self.metadata, Instance(instance_id, "storage", ""))
        self.stack.push_async_callback(lease.release)
        metrics = StorageMetrics(Metrics("storage", instance_id))
        archiver = Archiver(rules, cuts_at_once=1, poll_s=0.05)
        archiving = Archiving(
            ArchivePorts(instance_id, self.bus, self.log, self.metadata, self.catalogue, stores, metrics),
            [archiver.archive],
            reconcile_s=0.05,
        )
        task = asyncio.create_task(archiving.run())

        async def stop() -> None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        self.stack.push_async_callback(stop)
        return archiving

    async def archived(self, sequence: int) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while self.cuts.archived_through < sequence:
                self.changed.clear()
                await self.changed.wait()

    async def purged(self, sequence: int) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while (await self.log.bounds(BUNDLE)).first_sequence <= sequence:  # noqa: ASYNC110 - only asking tells
                await asyncio.sleep(0.01)

    async def messages(self, stores: Stores) -> dict[int, list[tuple[int, bytes]]]:
        """What the segments of all cuts hold, by topic."""
        found: dict[int, list[tuple[int, bytes]]] = {topic_id: [] for topic_id in self.expected}
        offsets: dict[int, int] = {}
        for cut in self.cuts.all():
            for segment in cut.segments:
                store = stores.of(segment.backend)
                size = await store.size(segment.key)
                data = await store.read(segment.key, 0, size)
                index = parse_tail(data, size)
                reader = EntryReader(index)
                for entry in reader.feed(data[: index.info.data_bytes]):
                    topic_id = entry.section.topic_id
                    assert entry.first_offset == offsets.get(topic_id, 0)
                    offsets[topic_id] = entry.first_offset + len(entry.section)
                    found[topic_id] += [
                        (entry.first_position + i, entry.section.message(i))
                        for i in range(len(entry.section))
                    ]
                reader.finish()
        return found


@pytest.fixture
async def platform(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[Platform]:
    async with AsyncExitStack() as stack:
        bus = await NatsBus.connect(nats_server.url, name="test")
        stack.push_async_callback(bus.close)
        metadata = await JetStreamMetadata.open(bus.connection)
        stack.push_async_callback(metadata.close)
        platform = Platform(bus, metadata, tmp_path / "segments", stack)
        await platform.open()
        yield platform


async def test_what_was_published_is_in_segments_and_purged_from_the_log(platform: Platform) -> None:
    busy, quiet = await platform.topic("busy"), await platform.topic("quiet")
    last = 0
    for number in range(40):
        last = await platform.publish((busy, [b"b%d" % number * 50] * 3), (quiet, [b"q%d" % number]))
    archiving = await platform.storage()
    await platform.archived(last)
    await platform.purged(last)
    more = await platform.publish((quiet, [b"later"]), (busy, [b"too"]))
    await platform.archived(more)
    stores = archiving.sessions[BUNDLE].ports.stores
    assert await platform.messages(stores) == platform.expected
    cuts = platform.cuts.all()
    assert [cut.first_sequence for cut in cuts] == [1, *(cut.last_sequence + 1 for cut in cuts[:-1])]
    assert {segment.topic_id for segment in cuts[0].segments} == {busy.topic_id, SHARED}
    assert archiving.problem() is None
