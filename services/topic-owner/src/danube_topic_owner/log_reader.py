"""Reads a bundle's log once, in order: follows the live feed and fills its gaps from the log."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import structlog

from danube_common.errors import DanubeError, LogUnavailable, NotFound
from danube_common.log.port import BundleLog, LogEntry, LogFeed
from danube_common.model.bundle import Bundle, Family
from danube_common.wire.frame import frame_id_of

FRAMES_PER_READ_MAX = 128
BYTES_PER_READ_MAX = 4 * 1024 * 1024
CHECK_INTERVAL_S = 1.0
"""A feed that lost its last message shows no gap, so the reader looks up the log's end this often."""
RETRY_WAIT_S = 0.2

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class LogExtent:
    """What is known of a bundle's log.

    Attributes:
        floor: the first sequence; earlier ones were purged.
        tail: the last sequence that the live feed handed over; later ones are still to come.
        tail_frame_id: the id of the frame at the tail, kept for volatile logs only: such a log may begin
            anew while it is read.
    """

    floor: int = 1
    tail: int = 0
    tail_frame_id: str = ""


class LogReader:
    """Hands over every entry after the tail once and in order, whatever the live feed loses or repeats.

    Args:
        log: the log of all bundles.
        bundle: the bundle whose log is read.
        extent: kept up to date by this reader.
        on_entry: called with each entry.
        on_restarted: called when a volatile log began anew; it is read from its beginning.
        on_missed: called with the first of the sequences that were purged before they were read here; the
            entries after them follow.
        on_floor: called when the log's first sequence has changed.
    """

    def __init__(
        self,
        log: BundleLog,
        bundle: Bundle,
        extent: LogExtent,
        on_entry: Callable[[LogEntry], None],
        on_restarted: Callable[[], None],
        *,
        on_missed: Callable[[int], None],
        on_floor: Callable[[], None],
    ) -> None:
        self._log = log
        self._bundle = bundle
        self._on_entry = on_entry
        self._on_restarted = on_restarted
        self._on_missed = on_missed
        self._on_floor = on_floor
        self.extent = extent
        self._volatile = bundle.family is Family.MEMORY
        self._seen = 0
        self._doubt = False
        self._gap = asyncio.Event()
        self._feed: LogFeed | None = None

    async def open(self, seen_sequence: int, seen_frame_id: str) -> None:
        """Start at the log's present end.

        ``seen_*`` is the frame of a volatile log that an earlier owner journaled. If the log does not have
        that frame, it began anew. Raises LogUnavailable.
        """
        await self._log.open(self._bundle)
        if self._volatile and seen_sequence and not await self._holds(seen_sequence, seen_frame_id):
            self._on_restarted()
        self._feed = await self._log.follow(self._bundle, self._live)
        bounds = await self._log.bounds(self._bundle)
        self._set_floor(bounds.first_sequence)
        last = bounds.last_sequence
        entries = (
            await self._log.read(self._bundle, last, frames_max=1, bytes_max=1)
            if self._volatile and last > self.extent.tail
            else []
        )
        if last > self.extent.tail:
            self.extent.tail_frame_id = frame_id_of(entries[0].frame) if entries else ""
            self.extent.tail = last

    async def close(self) -> None:
        """Close the live feed."""
        if self._feed is not None:
            await self._feed.close()

    def check(self) -> None:
        """Compare with the log soon: the bus was away, so a volatile log may have begun anew."""
        self._doubt = self._volatile
        self._gap.set()

    async def run(self) -> None:
        """Fill gaps until cancelled."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(CHECK_INTERVAL_S):
                    await self._gap.wait()
            self._gap.clear()
            try:
                await self._fill()
            except (LogUnavailable, NotFound) as error:
                _log.warning("log_read_retried", bundle=str(self._bundle), error=str(error))
                await asyncio.sleep(RETRY_WAIT_S)
                self._gap.set()

    def _live(self, entry: LogEntry) -> None:
        self._seen = max(self._seen, entry.sequence)
        if entry.sequence == self.extent.tail + 1:
            self._hand_over(entry)
        elif entry.sequence > self.extent.tail:
            self._gap.set()

    async def _fill(self) -> None:
        tail = self.extent.tail
        bounds = await self._log.bounds(self._bundle)
        last = bounds.last_sequence
        gone = last < tail or not await self._is_the_same(tail)
        if gone and self.extent.tail == tail:
            _log.warning("log_restarted", bundle=str(self._bundle), tail=tail, last=last)
            self.extent.tail = self._seen = 0
            self.extent.floor = 1
            self._on_restarted()
            bounds = await self._log.bounds(self._bundle)
        self._set_floor(bounds.first_sequence)
        self._pass_to(bounds.first_sequence)
        while self.extent.tail < max(bounds.last_sequence, self._seen):
            entries = await self._log.read(
                self._bundle,
                self.extent.tail + 1,
                frames_max=FRAMES_PER_READ_MAX,
                bytes_max=BYTES_PER_READ_MAX,
            )
            if not entries:
                return
            for entry in entries:
                if entry.sequence > self.extent.tail:
                    self._pass_to(entry.sequence)
                    self._hand_over(entry)

    def _set_floor(self, floor: int) -> None:
        if floor != self.extent.floor:
            self.extent.floor = floor
            self._on_floor()

    def _pass_to(self, first: int) -> None:
        """Entries before ``first`` are not in the log any more."""
        if first > self.extent.tail + 1:
            missed = self.extent.tail + 1
            self.extent.tail = first - 1
            self.extent.tail_frame_id = ""
            self._on_missed(missed)

    async def _is_the_same(self, tail: int) -> bool:
        """Return whether the log is still the one that was read; looked up only after `check`."""
        doubt, self._doubt = self._doubt, False
        try:
            return not doubt or tail == 0 or await self._holds(tail, self.extent.tail_frame_id)
        except DanubeError:
            self._doubt = True
            raise

    async def _holds(self, sequence: int, frame_id: str) -> bool:
        """Return whether the log has the frame, or only later entries because the frame may be purged."""
        entries = await self._log.read(self._bundle, sequence, frames_max=1, bytes_max=1)
        if entries and entries[0].sequence == sequence:
            return frame_id_of(entries[0].frame) == frame_id
        return (await self._log.bounds(self._bundle)).first_sequence > sequence

    def _hand_over(self, entry: LogEntry) -> None:
        self.extent.tail = entry.sequence
        if self._volatile:
            self.extent.tail_frame_id = frame_id_of(entry.frame)
        self._on_entry(entry)
