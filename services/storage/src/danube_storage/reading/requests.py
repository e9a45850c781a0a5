"""Answers what readers of the archive ask this storage instance: verified entries, and where things are."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

import structlog

from danube_common.archive.records import SHARED, SegmentRecord
from danube_common.errors import CorruptData, NotFound, StoreUnavailable
from danube_common.metadata.port import MetadataStore
from danube_common.model.strategy import StorageBackend
from danube_common.segment.format import TOPIC, TopicRange
from danube_common.segment.reader import SegmentIndex
from danube_common.wire.archive import (
    READ_BYTES_MAX,
    By,
    ListTopics,
    Locate,
    Located,
    ReadSegment,
    SegmentData,
    SegmentLocator,
    SegmentTopics,
    StorageReply,
    StorageRequest,
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
"""A read of a shared segment that finds nothing so far answers, so that it does not hold its place."""
SPLITS_MAX = 2
"""How many reads ahead a reader is told how to divide."""
RANGE_BYTES = 1 << 20
VERIFIED_AT_ONCE_MAX = 500
"""Entries that take a millisecond or two; more are verified beside the event loop."""
TAIL_CUTS = 2
"""So many newest cuts of a bundle are its tail: what readers ask for that only just fell behind the log."""
SALVAGED_S_MAX = 30.0
"""A segment whose tail is damaged is opened anew after this long: somebody may have put it back."""

log = structlog.get_logger(__name__)


def _range_bytes() -> dict[StorageBackend, int]:
    # What one request to S3 costs in time and money is worth more bytes than a read from disk.
    return {StorageBackend.DISK: RANGE_BYTES, StorageBackend.S3: 4 << 20}


@dataclass(frozen=True, slots=True)
class ReadBounds:
    """Bytes of memory, and of one read from each backend."""

    tail_bytes: int = 48 << 20
    backfill_bytes: int = 32 << 20
    index_bytes: int = 24 << 20
    range_bytes: Mapping[StorageBackend, int] = field(default_factory=_range_bytes)


class ReadRequests:
    """Serves segments of the stores that this instance has.

    Nothing leaves it that was not verified: the checksum of every entry's head and body, and that it follows
    the one before. Damage ends what is served of a segment, and puts it into quarantine.

    Args:
        store_of: this instance's store of a backend; raises StoreUnavailable if it has none.
        metadata: where the catalogue is, for segments that are damaged or missing.
        instance_id: of this process.
        metrics: where it counts.
        bounds: of memory.
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
        await self._blocks.close()
        await self._opened.close()

    def forget(self, place: SegmentLocator) -> None:
        """Open a segment anew when it is asked for next."""
        self._opened.drop((place.backend, place.key))

    def note_cut(self, bundle: str, first_sequence: int) -> None:
        """A cut was made or asked for: the newest ones are the bundle's tail."""
        newest = self._newest.setdefault(bundle, [])
        if first_sequence not in newest:
            self._newest[bundle] = sorted([*newest, first_sequence])[-TAIL_CUTS:]

    async def answer(self, request: StorageRequest) -> StorageReply | bytes:
        """Answer a reader; data is encoded already. Raises DanubeError."""
        self.note_cut(request.place.bundle, request.place.cut_first_sequence)
        match request:
            case ReadSegment():
                return await self._read(request)
            case Locate():
                return await self._locate(request)
            case ListTopics(place):
                return await self._list_topics(place)

    # ReadRequests

    async def _read(self, request: ReadSegment) -> SegmentData | bytes:
        place, position = request.place, request.from_position
        try:
            opened = await self._open(place)
        except _DamagedError as damage:
            return SegmentData(b"", position, damage.reason)
        held = opened.index.topic(request.topic_id)
        behind = max(position, opened.index.info.last_position + 1)
        if held is None or position > held.last_position:
            return SegmentData(b"", behind, opened.damage)
        return await self._take(request, opened, held, behind)

    async def _take(self, request: ReadSegment, opened: OpenSegment, held: TopicRange, behind: int) -> bytes:
        wanted = max(1, min(request.bytes_max, READ_BYTES_MAX))
        until = request.until_position if 0 < request.until_position <= held.last_position else 0
        last_position = until - 1 if until else held.last_position
        position = max(request.from_position, held.first_position)
        first = opened.range_of(opened.index.offset_of_position(position))
        parts: list[bytes | memoryview] = []
        taken = 0
        for number in range(first, opened.ranges):
            if taken >= wanted or number - first == RANGES_PER_READ_MAX:
                position = max(position, opened.first_position(number))
                return self._data(parts, position, splits=self._splits(request, opened, position, wanted))
            if number > first and opened.first_position(number) > last_position:
                break
            self._read_ahead(request.place, opened, number + 1, wanted, held.last_position)
            block = await self._block(request.place, opened, number)
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
                return self._data(parts, position, splits=self._splits(request, opened, position, wanted))
            if block.damage:
                return self._data(parts, max(position, block.damaged_from), block.damage)
        if until:
            position = max(position, until)
            return self._data(parts, position, splits=self._splits(request, opened, position, wanted))
        # A salvaged segment says less than the catalogue promises; a whole one has nothing more.
        return self._data(parts, behind, opened.damage)

    def _splits(
        self, request: ReadSegment, opened: OpenSegment, position: int, wanted: int
    ) -> tuple[int, ...]:
        """Where reads that go on from ``position`` end; only in a topic's own segment it is known how."""
        if opened.index.info.topic_id == SHARED:
            return ()
        step = self._ranges_in(request.place, wanted)
        number = opened.range_of(opened.index.offset_of_position(position))
        ends = range(number + step, number + SPLITS_MAX * step + 1, step)
        return tuple(
            opened.first_position(end) if end < opened.ranges else opened.index.info.last_position + 1
            for end in ends
            if end < opened.ranges + step
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

    # Finding

    async def _locate(self, request: Locate) -> Located:
        opened = await self._open_sound(request.place)
        held = opened.index.topic(request.topic_id)
        if held is None:
            raise NotFound("the segment holds nothing of the topic")
        number = await self._first_range(request, opened)
        while number < opened.ranges:
            block = await self._block(request.place, opened, number)
            for first_position, messages, first_offset, published_ms_max in block.heads(request.topic_id):
                index = _index_at(request, first_position, first_offset, published_ms_max)
                if index < messages:
                    return Located(first_position + index, first_offset + index)
            if block.damage:
                raise StoreUnavailable(f"segment {request.place.key} is damaged: {block.damage}")
            number += 1
        if opened.damage:
            raise StoreUnavailable(f"segment {request.place.key} is damaged: {opened.damage}")
        raise NotFound("the segment holds no such message")

    async def _first_range(self, request: Locate, opened: OpenSegment) -> int:
        """The first range that may hold the message: no earlier one does."""
        index = opened.index
        match request.by:
            case By.POSITION:
                return opened.range_of(min(index.offset_of_position(request.value), index.info.data_bytes))
            case By.TIME:
                return opened.range_of(index.offset_of_time(request.value))
            case By.OFFSET:
                return await self._range_of_offset(request, opened)

    async def _range_of_offset(self, request: Locate, opened: OpenSegment) -> int:
        """Offsets grow with the ranges, and each range of a topic's own segment has some."""
        if opened.index.info.topic_id == SHARED:
            return 0
        low, high = 0, opened.ranges
        while high - low > 1:
            middle = (low + high) // 2
            heads = (await self._block(request.place, opened, middle)).heads(request.topic_id)
            if heads and heads[0][2] <= request.value:
                low = middle
            else:
                high = middle
        return low

    async def _list_topics(self, place: SegmentLocator) -> SegmentTopics:
        opened = await self._open_sound(place)
        if opened.damage:
            raise StoreUnavailable(f"segment {place.key} is damaged: {opened.damage}")
        rows = (
            TOPIC.pack(t.topic_id, t.first_position, t.last_position, t.messages, t.first_offset)
            for t in opened.index.info.topics
        )
        return SegmentTopics(b"".join(rows))

    # Opening

    async def _open_sound(self, place: SegmentLocator) -> OpenSegment:
        try:
            return await self._open(place)
        except _DamagedError as damage:
            raise StoreUnavailable(f"segment {place.key} is damaged: {damage.reason}") from None

    async def _open(self, place: SegmentLocator) -> OpenSegment:
        """Raises NotFound if it is not catalogued, _DamagedError if it is and nothing is left of it."""
        key = (place.backend, place.key)
        opened = await self._opened.get(key, self._pool(place), partial(self._load_tail, place))
        if opened.salvaged and time.monotonic() - opened.opened_s > SALVAGED_S_MAX:
            self._opened.drop(key)
            opened = await self._opened.get(key, self._pool(place), partial(self._load_tail, place))
        return opened

    async def _load_tail(self, place: SegmentLocator) -> OpenSegment:
        store = self._store_of(place.backend)
        range_bytes = self._range_bytes.get(place.backend, RANGE_BYTES)
        try:
            return OpenSegment(await _read_tail_twice(store, place.key), range_bytes)
        except NotFound:
            await self._catalogued(place)
            await self._damaged(place, "it is missing")
            raise _DamagedError("it is missing") from None
        except CorruptData as error:
            reason = str(error)
        record = await self._catalogued(place)
        await self._damaged(place, reason)
        index, whole = await salvage(store, place, record)
        if index is None:
            raise _DamagedError(reason)
        return OpenSegment(index, range_bytes, salvaged=True, damage="" if whole else reason)

    async def _catalogued(self, place: SegmentLocator) -> SegmentRecord:
        """What is not to be there any more is not damaged. Raises NotFound then, MetadataUnavailable."""
        record = await self.quarantine.record(place)
        if record is None or not record.retained:
            self.quarantine.forget(place)
            raise NotFound(f"there is no segment {place.key} any more")
        return record

    async def _block(self, place: SegmentLocator, opened: OpenSegment, number: int) -> VerifiedRange:
        load = partial(self._load_range, place, opened, number)
        return await self._blocks.get((place.backend, place.key, number), self._pool(place), load)

    def _read_ahead(
        self, place: SegmentLocator, opened: OpenSegment, number: int, wanted: int, last_position: int
    ) -> None:
        """Begin to read from a range on what the next read will want, up to ``last_position``."""
        pool = self._pool(place)
        for ahead in range(number, min(number + self._ranges_in(place, wanted), opened.ranges)):
            if opened.first_position(ahead) > last_position:
                return
            load = partial(self._load_range, place, opened, ahead)
            self._blocks.ahead((place.backend, place.key, ahead), pool, load)

    def _ranges_in(self, place: SegmentLocator, wanted: int) -> int:
        return max(1, wanted // self._range_bytes.get(place.backend, RANGE_BYTES))

    async def _load_range(self, place: SegmentLocator, opened: OpenSegment, number: int) -> VerifiedRange:
        store = self._store_of(place.backend)
        offset, length = opened.bounds(number)
        for attempt in range(2):
            try:
                data = await store.read(place.key, offset, length)
            except NotFound:
                await self._catalogued(place)
                data = b""
            self._metrics.read_bytes.labels(place.backend).inc(len(data))
            if opened.entries_in(length) <= VERIFIED_AT_ONCE_MAX:
                found = verify(opened.index, offset, data, length)
            else:
                found = await asyncio.to_thread(verify, opened.index, offset, data, length)
            if not found.damage or attempt:
                break
        if found.damage:
            await self._catalogued(place)
            await self._damaged(place, found.damage)
        return found

    async def _damaged(self, place: SegmentLocator, reason: str) -> None:
        self._metrics.damaged_reads.labels(place.backend).inc()
        await self.quarantine.put(place, reason)

    def _pool(self, place: SegmentLocator) -> Pool:
        newest = self._newest.get(place.bundle, ())
        return Pool.TAIL if place.cut_first_sequence in newest else Pool.BACKFILL


async def _read_tail_twice(store: SegmentStore, key: str) -> SegmentIndex:
    """What was damaged only on its way here is not damaged."""
    try:
        return await read_tail(store, key)
    except CorruptData:
        return await read_tail(store, key)


class _DamagedError(Exception):
    """Nothing of a segment can be served."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def _index_at(request: Locate, first_position: int, first_offset: int, published_ms_max: int) -> int:
    """Which message of an entry is the first at or after the value, if the entry has as many."""
    match request.by:
        case By.POSITION:
            return max(0, request.value - first_position)
        case By.OFFSET:
            return max(0, request.value - first_offset)
        case By.TIME:
            return 0 if published_ms_max >= request.value else 1 << 62
