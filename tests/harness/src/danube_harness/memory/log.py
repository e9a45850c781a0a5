"""The log inside one process: for tests, with the behaviour of `jetstream`."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from danube_common.errors import LogFull, LogUnavailable, NotFound
from danube_common.log.port import Appended, LogBounds, LogEntry
from danube_common.model.bundle import Bundle, Family

DUPLICATE_WINDOW_S = 120
DEFAULT_BYTES_MAX = 1 << 30
# What a stored frame costs beside its bytes, about as JetStream counts it.
ENTRY_OVERHEAD_BYTES = 64


@dataclass(slots=True)
class _Stored:
    entries: deque[LogEntry] = field(default_factory=deque)
    last_sequence: int = 0
    bytes_kept: int = 0
    sequences_by_id: dict[str, tuple[int, float]] = field(default_factory=dict)
    feeds: dict[_Feed, None] = field(default_factory=dict)


class MemoryLog:
    """A `BundleLog` for one process: every user holds the same object."""

    def __init__(
        self,
        *,
        file_bytes_max: int = DEFAULT_BYTES_MAX,
        memory_bytes_max: int = DEFAULT_BYTES_MAX,
        clock: Callable[[], float] = time.monotonic,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._now_ms = now_ms
        self._bytes_max = {Family.FILE: file_bytes_max, Family.MEMORY: memory_bytes_max}
        self._clock = clock
        self._stored: dict[Bundle, _Stored] = {}

    async def open(self, bundle: Bundle) -> None:
        """See the port."""
        if bundle not in self._stored:
            self._stored[bundle] = _Stored()

    async def append(
        self,
        bundle: Bundle,
        frame: bytes,
        *,
        frame_id: str,
        timeout_s: float,  # noqa: ARG002 - the port's; nothing is waited for here
        traces: str = "",
    ) -> Appended:
        """See the port."""
        stored = self._opened(bundle)
        known = self._known(stored, frame_id)
        if known is not None:
            return Appended(known, duplicate=True)
        cost = len(frame) + ENTRY_OVERHEAD_BYTES
        if stored.bytes_kept + cost > self._bytes_max[bundle.family]:
            raise LogFull(f"bundle {bundle} holds {stored.bytes_kept} bytes")
        stored.last_sequence += 1
        stored.bytes_kept += cost
        entry = LogEntry(stored.last_sequence, bytes(frame), self._now_ms(), traces)
        stored.entries.append(entry)
        stored.sequences_by_id[frame_id] = (entry.sequence, self._clock() + DUPLICATE_WINDOW_S)
        for feed in stored.feeds:
            feed.offer(entry)
        return Appended(entry.sequence, duplicate=False)

    async def bounds(self, bundle: Bundle) -> LogBounds:
        """See the port."""
        stored = self._stored.get(bundle)
        if stored is None:
            raise NotFound(f"the log of bundle {bundle} was not opened")
        return LogBounds(
            stored.last_sequence - len(stored.entries) + 1,
            stored.last_sequence,
            stored.bytes_kept,
            stored.entries[0].stored_ms if stored.entries else 0,
        )

    async def read(
        self, bundle: Bundle, from_sequence: int, *, frames_max: int, bytes_max: int
    ) -> list[LogEntry]:
        """See the port."""
        stored = self._opened(bundle)
        first = stored.last_sequence - len(stored.entries) + 1
        entries: list[LogEntry] = []
        taken_bytes = 0
        for position in range(max(from_sequence - first, 0), len(stored.entries)):
            if len(entries) == frames_max or (entries and taken_bytes >= bytes_max):
                break
            entry = stored.entries[position]
            entries.append(entry)
            taken_bytes += len(entry.frame)
        return entries

    async def follow(self, bundle: Bundle, on_entry: Callable[[LogEntry], None]) -> _Feed:
        """See the port."""
        stored = self._opened(bundle)
        feed = _Feed(stored, on_entry)
        stored.feeds[feed] = None
        return feed

    async def purge(self, bundle: Bundle, through_sequence: int) -> None:
        """See the port."""
        stored = self._opened(bundle)
        while stored.entries and stored.entries[0].sequence <= through_sequence:
            stored.bytes_kept -= len(stored.entries.popleft().frame) + ENTRY_OVERHEAD_BYTES

    def _opened(self, bundle: Bundle) -> _Stored:
        stored = self._stored.get(bundle)
        if stored is None:
            raise LogUnavailable(f"the log of bundle {bundle} was not opened")
        return stored

    def _known(self, stored: _Stored, frame_id: str) -> int | None:
        now_s = self._clock()
        while stored.sequences_by_id:
            oldest = next(iter(stored.sequences_by_id))
            if stored.sequences_by_id[oldest][1] > now_s:
                break
            del stored.sequences_by_id[oldest]
        known = stored.sequences_by_id.get(frame_id)
        return known[0] if known is not None else None


class _Feed:
    def __init__(self, stored: _Stored, on_entry: Callable[[LogEntry], None]) -> None:
        self._stored = stored
        self._on_entry = on_entry
        self._loop = asyncio.get_running_loop()
        self._open = True

    def offer(self, entry: LogEntry) -> None:
        # Not within the append: no caller may come to rely on having been called back by then.
        self._loop.call_soon(self._hand_over, entry)

    async def close(self) -> None:
        self._open = False
        self._stored.feeds.pop(self, None)

    def _hand_over(self, entry: LogEntry) -> None:
        if self._open:
            self._on_entry(entry)
