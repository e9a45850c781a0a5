"""Reads a topic's archived messages in log order, from the storage instances that hold the segments."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import dataclass

from danube_common.archive.manifest import Manifest
from danube_common.archive.records import S3_HOLDER, SHARED, ManifestEntry, SegmentRecord
from danube_common.archive.segment_clients import SegmentClients
from danube_common.bus.port import Bus
from danube_common.cluster.catalogue import Catalogue
from danube_common.cluster.records import Topic
from danube_common.errors import CorruptData, NotFound, Quarantined, StoreUnavailable, Unavailable
from danube_common.model.position import BEFORE_ALL, position_of, sequence_of
from danube_common.segment.format import TOPIC, TopicRange
from danube_common.segment.reader import SegmentEntry, split_entries
from danube_common.wire.archive import (
    READ_BYTES_DEFAULT,
    READ_BYTES_MAX,
    By,
    ListTopics,
    Locate,
    Located,
    ReadSegment,
    SegmentData,
)

READS_AHEAD_MAX = 3
"""Reads of a bundle that may run, or wait for a reader, ahead of time."""
READ_AHEAD_S_MAX = 5.0
"""A read ahead that no reader takes is dropped after this time: it takes memory and may become outdated."""
TABLES_BYTES_MAX = 4 << 20
"""Bytes of topic tables of shared segments that are cached for a bundle."""
STALE_ATTEMPTS_MAX = 3
SEARCHED_MAX = 64
"""Shared segments that may be searched for a topic's newest message."""


@dataclass(frozen=True, slots=True)
class HistoryBatch:
    """What `History.read` returns.

    Attributes:
        entries: of the topic, in log order. The first entry may begin before the position that was asked
            for: its earlier messages do not count.
        next_position: where to read next. Without entries the archive holds nothing more of the topic, and
            the log is to be read from this position.
        splits: where the next reads of the same size will end, as far as that is known.
    """

    entries: list[SegmentEntry]
    next_position: int
    splits: tuple[int, ...] = ()


class History:
    """Reads one bundle's archive. Segments that are marked for deletion count as deleted.

    Args:
        bus: reaches the storage instances.
        catalogue: of storage instances.
        manifest: of the bundle. Its view may be behind the store; the caller refreshes it.
    """

    def __init__(self, bus: Bus, catalogue: Catalogue, manifest: Manifest) -> None:
        self._manifest = manifest
        self._clients = SegmentClients(bus, catalogue)
        self._tables: OrderedDict[str, bytes] = OrderedDict()
        self._tables_bytes = 0
        self._ahead: dict[tuple[int, int, int], asyncio.Task[HistoryBatch]] = {}

    async def close(self) -> None:
        """Stop the reads ahead. Idempotent."""
        tasks = list(self._ahead.values())
        for key in list(self._ahead):
            self._drop(key)
        await asyncio.gather(*tasks, return_exceptions=True)

    async def read(
        self, topic: Topic, from_position: int, *, bytes_max: int = READ_BYTES_DEFAULT
    ) -> HistoryBatch:
        """The topic's next messages at or after ``from_position``, about ``bytes_max`` bytes of them.

        The following messages are read ahead while the caller works on the returned ones.

        Raises:
            Quarantined: every copy of the next message is damaged. The message is not skipped.
            StoreUnavailable: no storage instance that may hold the next message answers.
            MetadataUnavailable: the manifest view was behind and could not be refreshed.
        """
        bytes_max = max(1, min(bytes_max, READ_BYTES_MAX))
        batch = await self._take_ahead(topic, from_position, bytes_max)
        if batch is None:
            batch = await self._read(topic, from_position, bytes_max)
        if batch.entries:
            self._read_ahead(topic, batch, bytes_max)
        return batch

    async def locate(self, topic: Topic, by: By, value: int) -> Located | None:
        """The topic's first archived message in log order at or after ``value``; None if there is none.

        Raises StoreUnavailable if a segment that may hold the message is damaged or cannot be read.
        """
        position = value if by is By.POSITION else BEFORE_ALL
        for entry, record in self._candidates(topic, position):
            held = await self._held(topic, entry, record)
            if held is None:
                continue
            last = {By.POSITION: held.last_position, By.OFFSET: held.last_offset}
            if last.get(by, record.published_ms_max) < value:
                continue
            first = {By.POSITION: held.first_position, By.OFFSET: held.first_offset}
            if value <= first.get(by, record.published_ms_min):
                return Located(held.first_position, held.first_offset)
            request = Locate(entry.locator(record), topic.topic_id, by, value)
            try:
                return await self._clients.first_answer(record, request)
            except NotFound:
                continue
        return None

    async def newest(self, topic: Topic, *, segments_max: int = SEARCHED_MAX) -> TopicRange | None:
        """What the newest retained segment with messages of the topic holds of it; None if none does.

        Raises StoreUnavailable, also when the newest ``segments_max`` shared segments hold no message of the
        topic and older segments are left.
        """
        searched = 0
        for entry in reversed(self._manifest.all()):
            for record in reversed(entry.segments_for(topic)):
                held = await self._held(topic, entry, record) if record.retained else None
                if held is not None:
                    return held
                searched += 1
                if searched == segments_max:
                    raise StoreUnavailable(f"nothing of {topic.name} in the newest {searched} segments")
        return None

    def _candidates(self, topic: Topic, position: int) -> Iterator[tuple[ManifestEntry, SegmentRecord]]:
        """Retained segments, in log order, that may hold messages of the topic at or after ``position``."""
        for entry in self._manifest.from_sequence(sequence_of(position)):
            for record in entry.segments_for(topic):
                if record.retained and record.last_position >= position:
                    yield entry, record

    async def _held(self, topic: Topic, entry: ManifestEntry, record: SegmentRecord) -> TopicRange | None:
        """What the segment holds of the topic: as recorded, or as a shared segment's topic table says.

        Raises StoreUnavailable.
        """
        if record.topic_id != SHARED:
            return TopicRange(
                topic.topic_id,
                record.first_position,
                record.last_position,
                record.messages,
                record.first_offset,
            )
        rows = self._tables.get(record.key)
        if rows is None:
            request = ListTopics(entry.locator(record))
            try:
                rows = (await self._clients.first_answer(record, request)).rows
            except NotFound:
                return None
            if len(rows) % TOPIC.size:
                raise StoreUnavailable(f"segment {record.key}: {len(rows)} bytes are no table of topics")
            self._tables_bytes += len(rows) - len(self._tables.pop(record.key, b""))
            self._tables[record.key] = rows
        self._tables.move_to_end(record.key)
        while self._tables_bytes > TABLES_BYTES_MAX and len(self._tables) > 1:
            self._tables_bytes -= len(self._tables.popitem(last=False)[1])
        return _find_topic(rows, topic.topic_id)

    # Reading

    async def _read(
        self, topic: Topic, from_position: int, bytes_max: int, until_position: int = 0
    ) -> HistoryBatch:
        for _ in range(STALE_ATTEMPTS_MAX):
            try:
                return await self._read_view(topic, from_position, bytes_max, until_position)
            except NotFound:
                # The segment was deleted, and this view of the manifest does not show that yet.
                await self._manifest.refresh()
        raise StoreUnavailable(
            f"a segment of {topic.name} is in the manifest, and its holders do not have it"
        )

    async def _read_view(
        self, topic: Topic, from_position: int, bytes_max: int, until_position: int
    ) -> HistoryBatch:
        position = from_position
        for entry, record in self._candidates(topic, position):
            if not await self._may_hold(topic, entry, record, position):
                continue
            while position <= record.last_position:
                request = ReadSegment(
                    entry.locator(record), topic.topic_id, position, bytes_max, until_position
                )
                batch = await self._fetch(record, request)
                if batch.entries:
                    return batch
                position = batch.next_position
        behind = position_of(self._manifest.archived_through + 1, 0, 0)
        return HistoryBatch([], max(from_position, behind))

    async def _may_hold(
        self, topic: Topic, entry: ManifestEntry, record: SegmentRecord, position: int
    ) -> bool:
        try:
            held = await self._held(topic, entry, record)
        except StoreUnavailable:
            # A read tells better what is wrong, and may serve what is before the damage.
            return True
        return held is not None and held.last_position >= position

    async def _fetch(self, record: SegmentRecord, request: ReadSegment) -> HistoryBatch:
        """Read from the first holder that serves the request. Raises also NotFound: it was deleted."""
        damage: dict[str, str] = {}
        reached = request.from_position
        async with aclosing(self._clients.answers(record, request)) as answers:
            async for holder, data in answers:
                if data.entries or not data.corrupt:
                    try:
                        return _batch(request, data)
                    except CorruptData as error:
                        damage[holder] = str(error)
                else:
                    damage[holder] = data.corrupt
                    reached = max(reached, data.next_position)
                    if holder == S3_HOLDER:
                        break  # other instances would read the same object
        raise Quarantined(reached, "; ".join(f"{holder}: {why}" for holder, why in damage.items()))

    # Reading ahead

    def _read_ahead(self, topic: Topic, batch: HistoryBatch, bytes_max: int) -> None:
        """Read what follows a batch; several reads at once if it is known where they end."""
        for start, until in zip((batch.next_position, *batch.splits), (*batch.splits, 0), strict=True):
            key = (topic.topic_id, start, bytes_max)
            if sequence_of(start) > self._manifest.archived_through or len(self._ahead) >= READS_AHEAD_MAX:
                return
            if key in self._ahead:
                continue
            task = asyncio.create_task(self._read(topic, start, bytes_max, until), name="history read-ahead")
            # If no reader takes the result, a failure is not reported.
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
            asyncio.get_running_loop().call_later(READ_AHEAD_S_MAX, self._drop, key)
            self._ahead[key] = task

    def _drop(self, key: tuple[int, int, int]) -> None:
        if (task := self._ahead.pop(key, None)) is not None:
            task.cancel()

    async def _take_ahead(self, topic: Topic, position: int, bytes_max: int) -> HistoryBatch | None:
        task = self._ahead.pop((topic.topic_id, position, bytes_max), None)
        if task is None:
            return None
        try:
            batch = await task
        except (Unavailable, NotFound):
            return None
        # A batch without entries tells where the archive ended then; the archive may have grown since.
        return batch if batch.entries else None


def _batch(request: ReadSegment, data: SegmentData) -> HistoryBatch:
    """Raises CorruptData if the answer is damaged or does not fit the request."""
    entries = split_entries(data.entries)
    if data.next_position <= request.from_position or any(e.topic_id != request.topic_id for e in entries):
        raise CorruptData("the answer does not fit the request")
    return HistoryBatch(entries, data.next_position, data.splits)


def _find_topic(rows: bytes, topic_id: int) -> TopicRange | None:
    """Search the topic table of a shared segment: a `TOPIC` row for each topic, by ascending id."""
    starts = range(0, len(rows), TOPIC.size)
    row = bisect_left(starts, topic_id, key=lambda start: TOPIC.unpack_from(rows, start)[0])
    found = TopicRange(*TOPIC.unpack_from(rows, starts[row])) if row < len(starts) else None
    return found if found is not None and found.topic_id == topic_id else None
