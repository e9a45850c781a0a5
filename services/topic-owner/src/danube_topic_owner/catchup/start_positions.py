"""Finds the cursor for a start position: earliest, latest, a position, a time, or the last messages."""

from __future__ import annotations

from danube_common.archive.manifest import Manifest
from danube_common.cluster.records import Topic
from danube_common.errors import CorruptData, InvalidInput, LogUnavailable, Unavailable
from danube_common.log.port import BundleLog, LogBounds, LogEntry
from danube_common.model.bundle import Bundle
from danube_common.model.position import SEQUENCE_MAX, end_of_sequence, position_of, sequence_of
from danube_common.model.subscription import StartKind, StartPosition
from danube_common.wire.archive import By
from danube_common.wire.frame import split_frame
from danube_topic_owner.catchup.expiry import first_retained
from danube_topic_owner.catchup.history import History

FRAMES_PER_READ = 64
BYTES_PER_READ = 4 << 20
STRIDE = 64
"""Frames that the first step of a backward search of the log reads; each next step reads twice as many."""
STRIDE_MAX = 4096
SEARCHED_MAX = 4096
"""Shared segments that are searched for the newest message of a topic."""
COUNTED_BYTES_MAX = 64 << 20
"""Bytes of the log that are read to count the messages of a topic."""
LAST_MAX = 1_000_000_000

_VALUED = (StartKind.POSITION, StartKind.LAST, StartKind.TIME)


def check_start(start: StartPosition, topic: Topic) -> None:
    """Raises InvalidInput for a start that no subscription of the topic can have."""
    if start.kind in _VALUED and start.value < (0 if start.kind is StartKind.TIME else 1):
        raise InvalidInput(f"a start by {start.kind} needs a number above 0, not {start.value}")
    if start.kind is StartKind.LAST and start.value > LAST_MAX:
        raise InvalidInput(f"the last {start.value} messages are more than {LAST_MAX}")
    if start.kind is StartKind.POSITION and start.value > end_of_sequence(SEQUENCE_MAX):
        raise InvalidInput(f"{start.value} is no position")
    if start.kind in _VALUED and not topic.strategy.is_reliable:
        raise InvalidInput(
            f"topic {topic.name} keeps no messages: nothing is before what is sent from now on"
        )


class StartPositions:
    """Finds start positions of one bundle's topics in its log and its archive.

    Args:
        bundle: whose topics.
        log: the log of the bundle.
        manifest: of the bundle; None for a bundle of the memory family.
        history: the archive of the bundle; None likewise.
    """

    def __init__(
        self, bundle: Bundle, log: BundleLog, manifest: Manifest | None, history: History | None
    ) -> None:
        self._bundle = bundle
        self._log = log
        self._manifest = manifest
        self._history = history

    async def mark_delete(self, topic: Topic, start: StartPosition, oldest: int) -> int:
        """The mark-delete of a cursor that begins at ``start``: positions up to it are not delivered.

        Args:
            topic: a reliable topic of the bundle.
            start: checked by `check_start`.
            oldest: a position below all messages of the topic.

        Raises LogUnavailable, StoreUnavailable, MetadataUnavailable.
        """
        bounds = await self._log.bounds(self._bundle)
        if self._manifest is not None and self._manifest.archived_through + 1 < bounds.first_sequence:
            await self._manifest.refresh()
        latest = max(end_of_sequence(bounds.last_sequence), oldest) if bounds.last_sequence else oldest
        earliest = min(first_retained(self._manifest, topic, oldest, bounds.first_sequence), latest)
        match start.kind:
            case StartKind.EARLIEST:
                found = earliest
            case StartKind.LATEST:
                found = latest
            case StartKind.POSITION:
                found = start.value - 1
            case StartKind.TIME:
                found = await self._before_time(topic, start.value, bounds)
            case StartKind.LAST:
                found = await self._before_last(topic, start.value, bounds, earliest)
        return min(max(found, earliest), latest)

    async def counts_after(self, topic: Topic, positions: list[int]) -> list[tuple[int, bool]]:
        """For each position: (number of the topic's messages behind it, whether the number is exact).

        It is a lower bound if more than COUNTED_BYTES_MAX of the log would have to be read, or if the archive
        cannot be asked now. Raises LogUnavailable.
        """
        if not positions:
            return []
        bounds = await self._log.bounds(self._bundle)
        low = max(bounds.first_sequence, self._archived_through + 1)
        archived = [await self._count_archived(topic, after) for after in positions]
        low = max(low, sequence_of(min(positions)))
        sections, reached = await self._sections(topic, low, bounds.last_sequence, COUNTED_BYTES_MAX)
        whole = reached >= bounds.last_sequence
        return [
            (count + sum(len(range(max(after + 1, s.start), s.stop)) for s in sections), exact and whole)
            for after, (count, exact) in zip(positions, archived, strict=True)
        ]

    async def _count_archived(self, topic: Topic, after: int) -> tuple[int, bool]:
        if self._history is None or end_of_sequence(self._archived_through) <= after:
            return 0, True
        try:
            first = await self._history.locate(topic, By.POSITION, after + 1)
            newest = await self._history.newest(topic) if first is not None else None
        except Unavailable:
            return 0, False
        return (newest.last_offset + 1 - first.offset if first and newest else 0), True

    @property
    def _archived_through(self) -> int:
        return self._manifest.archived_through if self._manifest is not None else 0

    async def _before_time(self, topic: Topic, time_ms: int, bounds: LogBounds) -> int:
        if self._history is not None and self._archived_through:
            located = await self._history.locate(topic, By.TIME, time_ms)
            if located is not None:
                return located.position - 1
        low = max(bounds.first_sequence, self._archived_through + 1)
        high = bounds.last_sequence + 1
        while low < high:
            middle = (low + high) // 2
            entries = await self._log.read(self._bundle, middle, frames_max=1, bytes_max=1)
            if not entries:
                raise LogUnavailable(f"the log ended before {middle} while it was searched")
            if entries[0].stored_ms >= time_ms:
                high = middle
            else:
                low = max(middle, entries[0].sequence) + 1
        return end_of_sequence(low - 1)

    async def _before_last(self, topic: Topic, count: int, bounds: LogBounds, earliest: int) -> int:
        """Search the log backwards, in strides that double, then the archive by offsets."""
        low, high = max(bounds.first_sequence, self._archived_through + 1), bounds.last_sequence
        stride = STRIDE
        while high >= low:
            begin = max(low, high - stride + 1)
            for section in reversed((await self._sections(topic, begin, high))[0]):
                if len(section) >= count:
                    return section.stop - count - 1
                count -= len(section)
            high, stride = begin - 1, min(2 * stride, STRIDE_MAX)
        if self._history is None:
            return earliest
        newest = await self._history.newest(topic, segments_max=SEARCHED_MAX)
        offset = newest.last_offset + 1 - count if newest is not None else 0
        located = await self._history.locate(topic, By.OFFSET, offset) if offset > 0 else None
        return located.position - 1 if located is not None else earliest

    async def _sections(
        self, topic: Topic, first: int, last: int, bytes_max: int | None = None
    ) -> tuple[list[range], int]:
        """The positions of the topic's sections in log sequences ``first..last``; the last sequence read."""
        found: list[range] = []
        read_bytes = 0
        while first <= last and (bytes_max is None or read_bytes < bytes_max):
            frames_max = min(FRAMES_PER_READ, last - first + 1)
            entries = await self._log.read(
                self._bundle, first, frames_max=frames_max, bytes_max=BYTES_PER_READ
            )
            if not entries:
                break
            for entry in entries:
                found += _sections_in(entry, topic.topic_id) if entry.sequence <= last else []
                read_bytes += len(entry.frame)
            first = entries[-1].sequence + 1
        return found, first - 1


def _sections_in(entry: LogEntry, topic_id: int) -> list[range]:
    try:
        sections = split_frame(entry.frame)
    except CorruptData:
        return []  # delivery skips it too
    return [
        range(first := position_of(entry.sequence, number, 0), first + section.messages)
        for number, section in enumerate(sections)
        if section.topic_id == topic_id
    ]
