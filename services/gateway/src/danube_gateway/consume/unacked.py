"""What the streams of one subscription delivered and their clients have not acknowledged. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from operator import ge, itemgetter
from typing import Final

UNACKED_RANGES_MAX = 50_000
"""Ranges kept for one subscription. Beyond it the oldest are forgotten: their acks ask the owner."""
FORGOTTEN_PART = 10
"""At the bound 1/FORGOTTEN_PART of the ranges is forgotten at once."""
SWEEP_SPANS_MIN: Final = 4
"""Fewer spans are added or taken one by one."""
SWEEP_RANGES_MAX: Final = 8
"""One sweep adds or takes all spans if it passes at most so many ranges for each of them."""

_first = itemgetter(0)


class Unacked:
    """Positions as ranges, ascending and apart, each of one stream. Ends of ranges are inclusive."""

    def __init__(self) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        self._streams: list[object] = []

    def __len__(self) -> int:
        """Return the number of ranges."""
        return len(self._firsts)

    def add(self, stream: object, first: int, count: int) -> None:
        """Note that ``stream`` delivers ``count`` messages from ``first`` on, for the first time or again."""
        firsts, lasts, streams = self._firsts, self._lasts, self._streams
        last = first + count - 1
        at = len(firsts)
        if lasts and first <= lasts[-1]:
            self._remove(first, last)
            at = bisect_left(firsts, first)
        if at and lasts[at - 1] == first - 1 and streams[at - 1] is stream:
            lasts[at - 1] = last
            return
        firsts.insert(at, first)
        lasts.insert(at, last)
        streams.insert(at, stream)
        if len(firsts) > UNACKED_RANGES_MAX:
            self._replace(0, len(firsts) // FORGOTTEN_PART or 1, [])

    def add_all(self, stream: object, spans: Sequence[tuple[int, int]]) -> None:
        """Note that ``stream`` delivers spans of positions, as `add` does one after the other."""
        spans = sorted(spans)
        found = self._between(spans)
        if found is None or not self._merge(stream, spans, *found):
            for first, last in spans:
                self.add(stream, first, last - first + 1)
        while len(self._firsts) > UNACKED_RANGES_MAX:
            self._replace(0, len(self._firsts) // FORGOTTEN_PART or 1, [])

    def take(self, position: int) -> bool:
        """Remove a position that is acknowledged; return False if it is not here."""
        firsts, lasts = self._firsts, self._lasts
        at = bisect_right(firsts, position) - 1
        if at < 0 or lasts[at] < position:
            return False
        if firsts[at] < position < lasts[at]:
            self._remove(position, position)
        elif firsts[at] < position:
            lasts[at] = position - 1
        elif position < lasts[at]:
            firsts[at] = position + 1
        else:
            del firsts[at], lasts[at], self._streams[at]
        return True

    def take_span(self, stream: object, first: int, last: int) -> list[tuple[int, int]]:
        """Remove what ``stream`` delivered of the positions ``first`` to ``last``; return it, ascending."""
        low, high = bisect_left(self._lasts, first), bisect_right(self._firsts, last)
        if high - low == 1 and self._firsts[low] == first and self._lasts[low] == last:
            if self._streams[low] is not stream:
                return []
            del self._firsts[low], self._lasts[low], self._streams[low]
            return [(first, last)]
        taken: list[tuple[int, int]] = []
        kept: list[tuple[int, int, object]] = []
        for at in range(low, high):
            begin, end, owner = self._firsts[at], self._lasts[at], self._streams[at]
            if owner is not stream:
                kept.append((begin, end, owner))
                continue
            if begin < first:
                kept.append((begin, first - 1, stream))
            if end > last:
                kept.append((last + 1, end, stream))
            taken.append((max(begin, first), min(end, last)))
        if taken:
            self._replace(low, high, kept)
        return taken

    def take_spans(self, stream: object, spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
        """Remove and return, ascending, what ``stream`` delivered of spans of positions."""
        spans = sorted(spans)
        if (found := self._between(spans)) is None:
            return [part for first, last in spans for part in self.take_span(stream, first, last)]
        low, high = found
        taken: list[tuple[int, int]] = []
        kept: list[tuple[int, int, object]] = []
        rest = iter(spans)
        span = next(rest, None)
        for each in zip(self._firsts[low:high], self._lasts[low:high], self._streams[low:high], strict=True):
            begin, end, owner = each
            if owner is not stream:
                kept.append(each)
                continue
            while span is not None and span[1] < begin:
                span = next(rest, None)
            while span is not None and span[0] <= end:
                first, last = span
                if begin < first:
                    kept.append((begin, first - 1, stream))
                    begin = first
                if last >= end:
                    taken.append((begin, end))
                    begin = end + 1
                    break
                if begin <= last:
                    taken.append((begin, last))
                    begin = last + 1
                span = next(rest, None)
            if begin <= end:
                kept.append((begin, end, stream))
        if taken:
            self._replace(low, high, kept)
        return taken

    def overlap(self, stream: object, first: int, last: int) -> list[tuple[int, int]]:
        """Return what ``stream`` delivered of the positions ``first`` to ``last``, ascending."""
        low, high = bisect_left(self._lasts, first), bisect_right(self._firsts, last)
        return [
            (max(self._firsts[at], first), min(self._lasts[at], last))
            for at in range(low, high)
            if self._streams[at] is stream
        ]

    def forget(self, stream: object) -> None:
        """Remove what ``stream`` delivered: it ended."""
        kept = [
            part
            for part in zip(self._firsts, self._lasts, self._streams, strict=True)
            if part[2] is not stream
        ]
        self._replace(0, len(self._firsts), kept)

    def _between(self, spans: Sequence[tuple[int, int]]) -> tuple[int, int] | None:
        """Return which ranges lie between the ends of ascending spans; None if a sweep is not worth it."""
        if len(spans) < SWEEP_SPANS_MIN:
            return None
        low = bisect_left(self._lasts, spans[0][0])
        high = bisect_right(self._firsts, max([last for _, last in spans]))
        return (low, high) if high - low <= len(spans) * SWEEP_RANGES_MAX else None

    def _merge(self, stream: object, spans: Sequence[tuple[int, int]], low: int, high: int) -> bool:
        """Add spans among the ranges ``low`` to ``high``; return False if all these are not apart."""
        ranges = [(first, last, stream) for first, last in spans]
        ranges += zip(self._firsts[low:high], self._lasts[low:high], self._streams[low:high], strict=True)
        ranges.sort(key=_first)
        if any(map(ge, [last for _, last, _ in ranges], [first for first, _, _ in ranges[1:]])):
            return False
        self._replace(low, high, ranges)
        return True

    def _remove(self, first: int, last: int) -> None:
        """Remove positions ``first`` to ``last``, and keep what ranges have on either side."""
        low, high = bisect_left(self._lasts, first), bisect_right(self._firsts, last)
        if low == high:
            return
        kept: list[tuple[int, int, object]] = []
        if self._firsts[low] < first:
            kept.append((self._firsts[low], first - 1, self._streams[low]))
        if self._lasts[high - 1] > last:
            kept.append((last + 1, self._lasts[high - 1], self._streams[high - 1]))
        self._replace(low, high, kept)

    def _replace(self, low: int, high: int, ranges: list[tuple[int, int, object]]) -> None:
        self._firsts[low:high] = [first for first, _, _ in ranges]
        self._lasts[low:high] = [last for _, last, _ in ranges]
        self._streams[low:high] = [stream for _, _, stream in ranges]
