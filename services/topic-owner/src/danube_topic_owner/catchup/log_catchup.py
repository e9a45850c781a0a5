"""Feeds the subscriptions that are behind the log's tail, all of a bundle in shared passes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Generic, Protocol, TypeVar

import structlog

from danube_common.errors import CorruptData, LogUnavailable, NotFound
from danube_common.log.port import BundleLog, LogEntry
from danube_common.model.bundle import Bundle
from danube_common.wire.frame import Frame, decode_frame
from danube_topic_owner.log_reader import LogExtent

FRAMES_PER_READ_MAX = 64
BYTES_PER_READ_MAX = 4 * 1024 * 1024
RETRY_WAIT_S = 0.2

_log = structlog.get_logger(__name__)


class Reader(Protocol):
    """A subscription that reads the log below the tail."""

    next_sequence: int

    @property
    def wants_backlog(self) -> bool:
        """Behind the tail, with a consumer and room for more."""

    def offer_frame(self, sequence: int, frame: Frame) -> None:
        """Take what this frame holds for the subscription."""

    def reach_tail(self) -> None:
        """Nothing is left below the tail: the live feed serves it from now on."""


def release_at_tail(readers: Iterable[Reader], tail: int) -> None:
    """Those that have read up to ``tail`` are served by the live feed from now on."""
    for reader in readers:
        if reader.next_sequence > tail:
            reader.reach_tail()


R = TypeVar("R", bound=Reader)


class LogCatchUp(Generic[R]):
    """One pass at a time: starts at one reader's place and serves every reader it meets on the way.

    Args:
        log: the log.
        bundle: whose log.
        extent: the log's floor and tail, read and updated; nothing above the tail is read here.
        readers: those that are behind.
        wanted: set when a reader may want messages of the log.
        served: called with each reader that was given something: it can be dispatched.
        on_below: called when the floor has moved, or a reader's place is below it.
    """

    def __init__(
        self,
        log: BundleLog,
        bundle: Bundle,
        extent: LogExtent,
        readers: Callable[[], Iterable[R]],
        *,
        wanted: asyncio.Event,
        served: Callable[[R], None],
        on_below: Callable[[], None],
    ) -> None:
        self._log = log
        self._bundle = bundle
        self._readers = readers
        self._extent = extent
        self._served = served
        self._on_below = on_below
        self._wanted = wanted
        self._last_start = 0

    async def run(self) -> None:
        """Read until cancelled."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            try:
                await self._serve()
            except (LogUnavailable, NotFound) as error:
                _log.warning("backlog_read_retried", bundle=str(self._bundle), error=str(error))
                await asyncio.sleep(RETRY_WAIT_S)
                self._wanted.set()

    async def _serve(self) -> None:
        while True:
            behind = [reader for reader in self._readers() if reader.wants_backlog]
            release_at_tail(behind, self._extent.tail)
            behind = [reader for reader in behind if reader.next_sequence <= self._extent.tail]
            if any(reader.next_sequence < self._extent.floor for reader in behind):
                self._on_below()
            behind = [reader for reader in behind if reader.next_sequence >= self._extent.floor]
            if not behind:
                return
            await self._read_from(self._choose_start(behind))
            await asyncio.sleep(0)

    async def _read_from(self, start: int) -> None:
        """One read, offered to every reader it meets. Raises LogUnavailable, NotFound."""
        entries = await self._log.read(
            self._bundle, start, frames_max=FRAMES_PER_READ_MAX, bytes_max=BYTES_PER_READ_MAX
        )
        first = entries[0].sequence if entries else (await self._log.bounds(self._bundle)).first_sequence
        if first > start:
            self._extent.floor = max(self._extent.floor, first)
            self._on_below()
        elif not entries:
            raise LogUnavailable(f"the log ends before {start}, which was read before")
        for entry in entries:
            self._offer(entry, max(start, first))

    def _choose_start(self, behind: list[R]) -> int:
        """Readers in turn from low to high, so that one that crawls does not hold the others."""
        starts = sorted({reader.next_sequence for reader in behind})
        start = next((s for s in starts if s > self._last_start), starts[0])
        self._last_start = start
        return start

    def _offer(self, entry: LogEntry, start: int) -> None:
        if entry.sequence > self._extent.tail:
            return
        takers = [
            reader
            for reader in self._readers()
            if reader.wants_backlog and start <= reader.next_sequence <= entry.sequence
        ]
        if not takers:
            return
        try:
            frame = decode_frame(entry.frame)
        except CorruptData as error:
            _log.error(
                "corrupt_frame_skipped", bundle=str(self._bundle), sequence=entry.sequence, error=str(error)
            )
            frame = Frame(0, 0, ())
        for reader in takers:
            reader.offer_frame(entry.sequence, frame)
            reader.next_sequence = entry.sequence + 1
            self._served(reader)
        release_at_tail(takers, self._extent.tail)
