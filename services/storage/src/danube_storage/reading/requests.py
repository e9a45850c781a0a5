"""Answers the requests of archive readers: reads of verified entries, and look-ups of positions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

import msgspec

from danube_common.archive.records import SHARED, SegmentRecord
from danube_common.errors import CorruptData, NotFound, StoreUnavailable
from danube_common.metadata.port import MetadataStore
from danube_common.model.strategy import StorageBackend
from danube_common.segment.format import TOPIC, TopicRange
from danube_common.segment.reader import SegmentIndex
from danube_common.wire.archive import (
    READ_BYTES_MAX,
    ArchiveRequest,
    By,
    ListTopics,
    Locate,
    Located,
    ReadSegment,
    SegmentData,
    SegmentLocator,
    SegmentTopics,
    encode_data,
)
from danube_storage.reading.block_cache import BlockCache, Pool
from danube_storage.reading.metrics import ReadingMetrics
from danube_storage.reading.open_segment import OpenSegment, read_tail, salvage
from danube_storage.reading.quarantine import Quarantine
from danube_storage.reading.verified_range import VerifiedRange, verify
from danube_storage.segments.port import SegmentStore

REQUESTS_AT_ONCE_MAX = 16
RANGES_PER_READ_MAX = 64
"""A read of a shared segment answers after so many ranges, found or not, to free its request slot."""
SPLITS_MAX = 2
"""For how many following reads the reply says where they end."""
RANGE_BYTES = 1 << 20
VERIFIED_AT_ONCE_MAX = 500
"""Entries verified on the event loop, in one or two milliseconds; more are verified in a thread."""
TAIL_ENTRIES = 2
"""The newest manifest entries of a bundle are its tail: read by consumers that just fell behind the log."""
SALVAGED_S_MAX = 30.0
"""A segment with a damaged tail is opened anew after this time: an operator may have repaired it."""


@dataclass(frozen=True, slots=True)
class ReadBounds:
    """Bytes of memory for caches, and bytes of one read from each backend."""

    tail_bytes: int = 48 << 20
    backfill_bytes: int = 32 << 20
    index_bytes: int = 24 << 20
    # A request to S3 costs more time and money than a read from disk, so it reads more.
    range_bytes: Mapping[StorageBackend, int] = field(
        default_factory=lambda: {StorageBackend.DISK: RANGE_BYTES, StorageBackend.S3: 4 << 20}
    )


class ReadRequests:
    """Serves the segments in the stores of this instance.

    Every entry is verified before it is served: the checksums of its head and body, and its order. A segment
    is served up to its first damage, and then quarantined.

    Args:
        store_of: returns this instance's store of a backend, or raises StoreUnavailable.
        metadata: the store of the manifest, read when a segment is damaged or missing.
        instance_id: the id of this process.
        metrics: of this package.
        bounds: of memory and reads.
    """

    def __init__(
        self,
        store_of: Callable[[StorageBackend], SegmentStore],
        metadata: MetadataStore,
        instance_id: str,
        metrics: ReadingMetrics,
        bounds: ReadBounds = ReadBounds(),
    ) -> None:
        self.quarantine = Quarantine(metadata, instance_id)
        self._store_of = store_of
        self._metrics = metrics
        self._range_bytes = dict(bounds.range_bytes)
        self._blocks: BlockCache[tuple[str, str, int], VerifiedRange] = BlockCache(
            "blocks", {Pool.TAIL: bounds.tail_bytes, Pool.BACKFILL: bounds.backfill_bytes}, metrics
        )
        index_bytes = bounds.index_bytes // 2
        self._opened: BlockCache[tuple[str, str], OpenSegment] = BlockCache(
            "tails", {Pool.TAIL: index_bytes, Pool.BACKFILL: index_bytes}, metrics
        )
        self._newest: dict[str, list[int]] = {}
        metrics.quarantined.set_function(partial(len, self.quarantine))

    async def close(self) -> None:
        """Stop reading. Idempotent."""
        await self._blocks.close()
        await self._opened.close()

    def forget(self, locator: SegmentLocator) -> None:
        """Open a segment anew at the next request for it."""
        self._opened.drop((locator.backend, locator.key))

    def note_entry(self, bundle: str, first_sequence: int) -> None:
        """Note the start of a manifest entry that was requested: the newest ones are the bundle's tail."""
        newest = self._newest.setdefault(bundle, [])
        if first_sequence not in newest:
            self._newest[bundle] = sorted([*newest, first_sequence])[-TAIL_ENTRIES:]

    async def answer(self, request: ArchiveRequest) -> msgspec.Struct | bytes:
        """Answer a reader. SegmentData is returned in encoded form. Raises DanubeError."""
        self.note_entry(request.locator.bundle, request.locator.entry_first_sequence)
        match request:
            case ReadSegment():
                return await self._read(request)
            case Locate():
                return await self._locate(request)
            case ListTopics(locator):
                return await self._list_topics(locator)

    # Reads

    async def _read(self, request: ReadSegment) -> SegmentData | bytes:
        locator, position = request.locator, request.from_position
        try:
            segment = await self._open(locator)
        except _DamagedError as damage:
            return SegmentData(b"", position, damage.reason)
        topic_range = segment.index.topic(request.topic_id)
        behind = max(position, segment.index.info.last_position + 1)
        if topic_range is None or position > topic_range.last_position:
            return SegmentData(b"", behind, segment.damage)
        return await self._take(request, segment, topic_range, behind)

    async def _take(
        self, request: ReadSegment, segment: OpenSegment, topic_range: TopicRange, behind: int
    ) -> bytes:
        wanted = max(1, min(request.bytes_max, READ_BYTES_MAX))
        until = request.until_position if 0 < request.until_position <= topic_range.last_position else 0
        last_position = until - 1 if until else topic_range.last_position
        position = max(request.from_position, topic_range.first_position)
        first = segment.range_of(segment.index.offset_of_position(position))
        parts: list[bytes | memoryview] = []
        taken = 0

        def more() -> bytes:
            return self._data(parts, position, splits=self._splits(request, segment, position, wanted))

        for number in range(first, segment.ranges):
            if taken >= wanted or number - first == RANGES_PER_READ_MAX:
                position = max(position, segment.first_position(number))
                return more()
            if number > first and segment.first_position(number) > last_position:
                break
            self._read_ahead(request.locator, segment, number + 1, wanted, topic_range.last_position)
            block = await self._block(request.locator, segment, number)
            data, next_position, left_out = block.take(
                request.topic_id, position, wanted - taken, first=not parts
            )
            if data:
                parts.append(data)
                taken += len(data)
                position = next_position
            if position > last_position:
                break
            if taken >= wanted or left_out:
                return more()
            if block.damage:
                return self._data(parts, max(position, block.damaged_from), block.damage)
        if until:
            position = max(position, until)
            return more()
        # An intact segment has no more messages; a salvaged one has lost those behind its damage.
        return self._data(parts, behind, segment.damage)

    def _splits(
        self, request: ReadSegment, segment: OpenSegment, position: int, wanted: int
    ) -> tuple[int, ...]:
        """Return where the reads that follow end. In a shared segment that is not known."""
        if segment.index.info.topic_id == SHARED:
            return ()
        step = self._ranges_in(request.locator, wanted)
        number = segment.range_of(segment.index.offset_of_position(position))
        ends = range(number + step, number + SPLITS_MAX * step + 1, step)
        return tuple(
            segment.first_position(end) if end < segment.ranges else segment.index.info.last_position + 1
            for end in ends
            if end < segment.ranges + step
        )

    def _data(
        self,
        parts: list[bytes | memoryview],
        next_position: int,
        damage: str = "",
        splits: tuple[int, ...] = (),
    ) -> bytes:
        self._metrics.served_bytes.inc(sum(map(len, parts)))
        return encode_data(parts, SegmentData(b"", next_position, damage, splits))

    # Look-ups

    async def _locate(self, request: Locate) -> Located:
        segment = await self._open_intact(request.locator)
        topic_range = segment.index.topic(request.topic_id)
        if topic_range is None:
            raise NotFound("the segment holds nothing of the topic")
        number = await self._first_range(request, segment)
        while number < segment.ranges:
            block = await self._block(request.locator, segment, number)
            for first_position, messages, first_offset, published_ms_max in block.heads(request.topic_id):
                index = _index_at(request, first_position, first_offset, published_ms_max)
                if index < messages:
                    return Located(first_position + index, first_offset + index)
            if block.damage:
                raise StoreUnavailable(f"segment {request.locator.key} is damaged: {block.damage}")
            number += 1
        if segment.damage:
            raise StoreUnavailable(f"segment {request.locator.key} is damaged: {segment.damage}")
        raise NotFound("the segment holds no such message")

    async def _first_range(self, request: Locate, segment: OpenSegment) -> int:
        """Return the number of the first range that may hold the message."""
        index = segment.index
        match request.by:
            case By.POSITION:
                return segment.range_of(min(index.offset_of_position(request.value), index.info.data_bytes))
            case By.TIME:
                return segment.range_of(index.offset_of_time(request.value))
            case By.OFFSET:
                return await self._range_of_offset(request, segment)

    async def _range_of_offset(self, request: Locate, segment: OpenSegment) -> int:
        """Search by bisection: offsets grow with the ranges, and each range of an own segment has entries."""
        if segment.index.info.topic_id == SHARED:
            return 0
        low, high = 0, segment.ranges
        while high - low > 1:
            middle = (low + high) // 2
            heads = (await self._block(request.locator, segment, middle)).heads(request.topic_id)
            if heads and heads[0][2] <= request.value:
                low = middle
            else:
                high = middle
        return low

    async def _list_topics(self, locator: SegmentLocator) -> SegmentTopics:
        segment = await self._open_intact(locator)
        if segment.damage:
            raise StoreUnavailable(f"segment {locator.key} is damaged: {segment.damage}")
        rows = (
            TOPIC.pack(t.topic_id, t.first_position, t.last_position, t.messages, t.first_offset)
            for t in segment.index.info.topics
        )
        return SegmentTopics(b"".join(rows))

    # Opening

    async def _open_intact(self, locator: SegmentLocator) -> OpenSegment:
        try:
            return await self._open(locator)
        except _DamagedError as damage:
            raise StoreUnavailable(f"segment {locator.key} is damaged: {damage.reason}") from None

    async def _open(self, locator: SegmentLocator) -> OpenSegment:
        """Raises NotFound if the manifest does not have the segment, _DamagedError if no entry is intact."""
        key = (locator.backend, locator.key)
        load = partial(self._load_tail, locator)
        segment = await self._opened.get(key, self._pool(locator), load)
        if segment.salvaged and time.monotonic() - segment.opened_s > SALVAGED_S_MAX:
            self._opened.drop(key)
            segment = await self._opened.get(key, self._pool(locator), load)
        return segment

    async def _load_tail(self, locator: SegmentLocator) -> OpenSegment:
        store = self._store_of(locator.backend)
        range_bytes = self._range_bytes.get(locator.backend, RANGE_BYTES)
        try:
            return OpenSegment(await _read_tail_twice(store, locator.key), range_bytes)
        except NotFound:
            await self._retained_record(locator)
            await self._quarantine(locator, "it is missing")
            raise _DamagedError("it is missing") from None
        except CorruptData as error:
            reason = str(error)
        record = await self._retained_record(locator)
        await self._quarantine(locator, reason)
        index, whole = await salvage(store, locator, record)
        if index is None:
            raise _DamagedError(reason)
        return OpenSegment(index, range_bytes, salvaged=True, damage="" if whole else reason)

    async def _retained_record(self, locator: SegmentLocator) -> SegmentRecord:
        """Return the segment's record. Raises NotFound if it is marked or deleted, MetadataUnavailable."""
        record = await self.quarantine.record(locator)
        if record is None or not record.retained:
            self.quarantine.forget(locator)
            raise NotFound(f"there is no segment {locator.key} any more")
        if record.backend is not locator.backend:
            raise StoreUnavailable(f"segment {locator.key} was moved to {record.backend}")
        return record

    async def _block(self, locator: SegmentLocator, segment: OpenSegment, number: int) -> VerifiedRange:
        load = partial(self._load_range, locator, segment, number)
        return await self._blocks.get((locator.backend, locator.key, number), self._pool(locator), load)

    def _read_ahead(
        self, locator: SegmentLocator, segment: OpenSegment, number: int, wanted: int, last_position: int
    ) -> None:
        """Start reading the ranges of the next read, from number ``number`` up to ``last_position``."""
        pool = self._pool(locator)
        for ahead in range(number, min(number + self._ranges_in(locator, wanted), segment.ranges)):
            if segment.first_position(ahead) > last_position:
                return
            load = partial(self._load_range, locator, segment, ahead)
            self._blocks.ahead((locator.backend, locator.key, ahead), pool, load)

    def _ranges_in(self, locator: SegmentLocator, wanted: int) -> int:
        return max(1, wanted // self._range_bytes.get(locator.backend, RANGE_BYTES))

    async def _load_range(self, locator: SegmentLocator, segment: OpenSegment, number: int) -> VerifiedRange:
        store = self._store_of(locator.backend)
        offset, length = segment.bounds(number)
        for attempt in range(2):
            try:
                data = await store.read(locator.key, offset, length)
            except NotFound:
                await self._retained_record(locator)
                data = b""
            self._metrics.read_bytes.labels(locator.backend).inc(len(data))
            if segment.entries_in(length) <= VERIFIED_AT_ONCE_MAX:
                found = verify(segment.index, offset, data, length)
            else:
                found = await asyncio.to_thread(verify, segment.index, offset, data, length)
            if not found.damage or attempt:
                break
        if found.damage:
            await self._retained_record(locator)
            await self._quarantine(locator, found.damage)
        return found

    async def _quarantine(self, locator: SegmentLocator, reason: str) -> None:
        self._metrics.damaged_reads.labels(locator.backend).inc()
        await self.quarantine.put(locator, reason)

    def _pool(self, locator: SegmentLocator) -> Pool:
        newest = self._newest.get(locator.bundle, ())
        return Pool.TAIL if locator.entry_first_sequence in newest else Pool.BACKFILL


async def _read_tail_twice(store: SegmentStore, key: str) -> SegmentIndex:
    """Read the tail; read it again if it is damaged, as the damage may be of the transfer only."""
    try:
        return await read_tail(store, key)
    except CorruptData:
        return await read_tail(store, key)


class _DamagedError(Exception):
    """No entry of the segment can be served."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def _index_at(request: Locate, first_position: int, first_offset: int, published_ms_max: int) -> int:
    """Return the index in an entry of the first message at or after the value; it may be beyond its end."""
    match request.by:
        case By.POSITION:
            return max(0, request.value - first_position)
        case By.OFFSET:
            return max(0, request.value - first_offset)
        case By.TIME:
            return 0 if published_ms_max >= request.value else 1 << 62
