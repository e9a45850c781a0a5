"""A range of a segment with verified checksums, and the index of each topic's entries in it."""

from __future__ import annotations

from array import array
from bisect import bisect_left

from danube_common.errors import CorruptData
from danube_common.segment.format import ENTRY, ENTRY_HEAD_BYTES, HEADER_BYTES
from danube_common.segment.reader import EntryReader, SegmentEntry, SegmentIndex
from danube_common.wire.archive import READ_BYTES_MAX

ROW_BYTES = 24
"""Memory of the index per entry."""
HUGE_BYTES = READ_BYTES_MAX
"""A larger entry is served in a reply of its own."""
TOPIC_BYTES = 250
"""Memory of the index per topic in a range of a shared segment."""


class VerifiedRange:
    """Whole entries, back to back. Created by `verify`.

    Attributes:
        damage: why entries at the end of the range are lost; empty if none are.
        damaged_from: the first position that may be lost.
    """

    def __init__(
        self, data: bytes, offset: int, entries: list[SegmentEntry], damage: str, start: int
    ) -> None:
        self.damage = damage
        self.damaged_from = entries[-1].last_position + 1 if entries else start
        self._data = data
        self._starts = array("Q")
        self._firsts = array("Q")
        self._lasts = array("Q")
        self._by_topic: dict[int, array[int]] = {}
        at = offset
        for number, entry in enumerate(entries):
            self._starts.append(at)
            self._firsts.append(entry.first_position)
            self._lasts.append(entry.last_position)
            at += ENTRY_HEAD_BYTES + len(entry.raw.body)
            self._by_topic.setdefault(entry.topic_id, array("I")).append(number)
        self._starts.append(at)
        if len(self._by_topic) == 1:
            # Most ranges are of one topic: an empty array stands for all entries.
            self._by_topic = dict.fromkeys(self._by_topic, array("I"))

    @property
    def size_bytes(self) -> int:
        """Its size in memory."""
        return len(self._data) + ROW_BYTES * len(self._firsts) + TOPIC_BYTES * len(self._by_topic)

    @property
    def keeps(self) -> bool:
        """Whether it may be cached. A damaged range may be repaired, so it is read again each time."""
        return not self.damage

    def take(
        self, topic_id: int, from_position: int, bytes_max: int, *, first: bool = True
    ) -> tuple[bytes | memoryview, int, bool]:
        """Take the topic's entries from ``from_position`` on, until they reach ``bytes_max``.

        An entry above HUGE_BYTES is taken only as the ``first`` of a reply: with others, the reply could be
        larger than the bus allows.

        Returns the bytes, the position behind the last entry (0 if there is none), and whether an entry was
        left out for that reason.
        """
        numbers = self._by_topic.get(topic_id)
        if numbers is None:
            return b"", 0, False
        if not numbers:
            return self._take_run(bisect_left(self._lasts, from_position), bytes_max, first=first)
        begin = bisect_left(numbers, from_position, key=self._lasts.__getitem__)
        taken: list[bytes] = []
        taken_bytes = last = 0
        for number in numbers[begin:]:
            start, end = self._starts[number], self._starts[number + 1]
            if end - start > HUGE_BYTES and (taken or not first):
                return b"".join(taken), last, True
            taken.append(self._data[start:end])
            taken_bytes += end - start
            last = self._lasts[number] + 1
            if taken_bytes >= bytes_max:
                break
        return b"".join(taken), last, False

    def _take_run(self, number: int, bytes_max: int, *, first: bool) -> tuple[bytes | memoryview, int, bool]:
        if number == len(self._firsts):
            return b"", 0, False
        begin = self._starts[number]
        end = min(bisect_left(self._starts, begin + bytes_max, number + 1), len(self._firsts))
        huge = self._starts[end] - self._starts[end - 1] > HUGE_BYTES and (end - 1 > number or not first)
        if huge:
            end -= 1
        if end == number:
            return b"", 0, huge
        return memoryview(self._data)[begin : self._starts[end]], self._lasts[end - 1] + 1, huge

    def heads(self, topic_id: int) -> list[tuple[int, int, int, int]]:
        """Return (first position, messages, first offset, latest publish time) of the topic's entries."""
        numbers = self._by_topic.get(topic_id)
        if numbers is None:
            return []
        found = []
        for number in numbers or range(len(self._firsts)):
            _, _, first_offset, _, published_ms_max, _, messages, _, _ = ENTRY.unpack_from(
                self._data, self._starts[number]
            )
            found.append((self._firsts[number], messages, first_offset, published_ms_max))
        return found


def verify(index: SegmentIndex, offset: int, data: bytes, length: int) -> VerifiedRange:
    """Verify ``data``, read with ``length`` from ``offset``, which is 0 or the start of a block.

    Returns the entries before the first damage, and the reason of the damage.
    """
    entries: list[SegmentEntry] = []
    reader = EntryReader(index, offset)
    damage = ""
    try:
        reader.feed_into(entries, data)
        if reader.held_bytes or len(data) < length:
            damage = f"only {len(data)} of {length} bytes are there from {offset}"
    except CorruptData as error:
        damage = str(error)
    start = index.position_at(offset) if offset else index.info.first_position
    return VerifiedRange(data, HEADER_BYTES if offset == 0 else 0, entries, damage, start)
