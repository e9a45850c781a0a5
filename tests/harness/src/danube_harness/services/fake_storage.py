"""A storage instance's read service over any segment store, and sealing without an archiver."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Collection, Iterable, Sequence

import msgspec

from danube_common.archive.manifest import Manifest
from danube_common.archive.records import SHARED, ManifestEntry
from danube_common.bus.port import Bus, Subscription
from danube_common.errors import NotFound
from danube_common.log.port import LogEntry
from danube_common.model.strategy import StorageBackend
from danube_common.segment.format import CRC, ENTRY, TOPIC, tail_bytes_of
from danube_common.segment.reader import EntryReader, SegmentEntry, SegmentIndex, parse_tail
from danube_common.wire.archive import (
    ARCHIVE,
    ArchiveRequest,
    By,
    ListTopics,
    Locate,
    Located,
    ReadSegment,
    SegmentData,
    SegmentTopics,
    storage_subject,
)
from danube_common.wire.frame import split_frame
from danube_harness.services.segments import crc_of
from danube_storage.archive.segment_writer import segment_record
from danube_storage.segments.builder import SegmentBuilder
from danube_storage.segments.port import SegmentStore


class FakeStorage:
    """Serves every segment in ``store``, whatever the manifest says.

    Attributes:
        asked: every request, in order.
        heard: set at each request.
        damaged: by segment key, the position from which on the segment is damaged.
    """

    def __init__(self, bus: Bus, instance_id: str, store: SegmentStore) -> None:
        self.asked: list[ArchiveRequest] = []
        self.heard = asyncio.Event()
        self.damaged: dict[str, int] = {}
        self._bus = bus
        self._instance_id = instance_id
        self._store = store
        self._serving: Subscription | None = None

    async def start(self) -> None:
        """Serve requests until `stop`."""
        self._serving = await self._bus.serve(
            storage_subject(self._instance_id), ARCHIVE.handler(self._answer)
        )

    async def stop(self) -> None:
        """Stop serving."""
        if self._serving is not None:
            await self._serving.close()

    async def _answer(self, request: ArchiveRequest) -> msgspec.Struct:
        self.asked.append(request)
        self.heard.set()
        segment = await _whole(self._store, request.locator.key)
        index = parse_tail(segment[-tail_bytes_of(segment) :], len(segment))
        if isinstance(request, ListTopics):
            rows = (
                (t.topic_id, t.first_position, t.last_position, t.messages, t.first_offset)
                for t in index.info.topics
            )
            return SegmentTopics(b"".join(TOPIC.pack(*row) for row in rows))
        offset = index.offset_of_position(0)
        raw = segment[offset : index.info.data_bytes]
        entries = [e for e in EntryReader(index, offset).feed(raw) if e.topic_id == request.topic_id]
        if isinstance(request, Locate):
            return _locate(request, entries)
        return self._read(request, index, entries)

    def _read(
        self, request: ReadSegment, index: SegmentIndex, entries: Sequence[SegmentEntry]
    ) -> SegmentData:
        damaged_from = self.damaged.get(request.locator.key, index.info.last_position + 1)
        taken: list[bytes] = []
        taken_bytes = 0
        for entry in entries:
            if entry.last_position < request.from_position:
                continue
            if entry.last_position >= damaged_from:
                return SegmentData(b"".join(taken), entry.first_position, "damaged, says the test")
            if taken_bytes >= request.bytes_max:
                return SegmentData(b"".join(taken), entry.first_position)
            taken.append(_bytes_of(entry))
            taken_bytes += len(taken[-1])
        return SegmentData(b"".join(taken), max(index.info.last_position + 1, request.from_position))


def _locate(request: Locate, entries: Iterable[SegmentEntry]) -> Located:
    for entry in entries:
        for number in range(entry.messages):
            located = Located(entry.first_position + number, entry.first_offset + number)
            value = {By.POSITION: located.position, By.OFFSET: located.offset}
            if value.get(request.by, entry.published_ms_max) >= request.value:
                return located
    raise NotFound("no such message")


def _bytes_of(entry: SegmentEntry) -> bytes:
    """Encode an entry as it is in the segment."""
    head = ENTRY.pack(
        entry.sequence,
        entry.topic_id,
        entry.first_offset,
        entry.published_ms_min,
        entry.published_ms_max,
        entry.number,
        entry.messages,
        len(entry.raw.body),
        entry.raw.crc32c,
    )
    return head + CRC.pack(crc_of(head)) + entry.raw.body


async def archive(
    manifest: Manifest,
    store: SegmentStore,
    entries: Sequence[LogEntry],
    *,
    backend: StorageBackend = StorageBackend.DISK,
    holders: tuple[str, ...] = ("1",),
    shared: Collection[int] = (),
    offsets: dict[int, int] | None = None,
) -> ManifestEntry:
    """Seal log entries into segments and add the manifest entry; the log is not purged.

    Args:
        manifest: of the bundle whose log the entries are from.
        store: where the segments go.
        entries: in log order, right behind the newest manifest entry.
        backend: of the segment records.
        holders: of the segment records; ignored for S3.
        shared: topic ids that go into one shared segment; the others get one each.
        offsets: next offset by topic id, updated by this; from 0 if absent.
    """
    offsets = {} if offsets is None else offsets
    builders: dict[int, SegmentBuilder] = {}
    chunks: dict[int, list[bytes]] = {}
    for entry in entries:
        for number, raw in enumerate(split_frame(entry.frame)):
            target = SHARED if raw.topic_id in shared else raw.topic_id
            if target not in builders:
                builders[target] = SegmentBuilder(manifest.bundle, target or None, block_bytes=256)
            first_offset = offsets.get(raw.topic_id, 0)
            offsets[raw.topic_id] = first_offset + raw.messages
            stored = (entry.stored_ms, entry.stored_ms)
            chunk = builders[target].add(
                entry.sequence, number, raw, first_offset=first_offset, published_ms=stored
            )
            chunks.setdefault(target, []).append(chunk)
    records = []
    first = entries[0].sequence
    for target, builder in builders.items():
        tail, info = builder.seal()
        key = f"{manifest.bundle}/{target:016x}/{first:016x}-0000.{secrets.token_hex(4)}"
        await store.put(key, _chunks([*chunks[target], tail]))
        records.append(segment_record(key, backend, info, holders))
    sealed = ManifestEntry(
        str(manifest.bundle), first, entries[-1].sequence, entries[-1].stored_ms, "1", tuple(records)
    )
    await manifest.add(sealed)
    return sealed


async def _chunks(chunks: Iterable[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def _whole(store: SegmentStore, key: str) -> bytes:
    return await store.read(key, 0, await store.size(key))
