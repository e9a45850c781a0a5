"""Feeds the subscriptions that are behind the log's tail with messages that are in the log."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from danube_common.errors import CorruptData, LogUnavailable, NotFound
from danube_common.log.port import LogEntry
from danube_common.wire.frame import Frame, decode_frame
from danube_topic_owner.catchup.offset_fold import OffsetFold
from danube_topic_owner.context import OwnerContext
from danube_topic_owner.delivery.subscription import LogSubscription

FRAMES_PER_READ_MAX = 64
BYTES_PER_READ_MAX = 4 * 1024 * 1024
RETRY_WAIT_S = 0.2

_log = structlog.get_logger(__name__)


def find_behind(context: OwnerContext) -> list[LogSubscription]:
    """Return the subscriptions with room that are below the tail; those that have reached it go live."""
    tail = context.extent.tail
    found = [each for each in context.dispatcher.lagging() if each.wants_backlog]
    for subscription in found:
        if subscription.next_sequence > tail:
            subscription.reach_tail()
    return [each for each in found if each.next_sequence <= tail]


class LogCatchUp:
    """Reads one bundle's log in passes; each pass serves every lagging subscription that it meets.

    Args:
        context: of the bundle; nothing above the tail of its log's extent is read here.
        offsets: counts the messages of topics.
        on_below: called when the floor has moved, or when a subscription is below the floor.
    """

    def __init__(self, context: OwnerContext, offsets: OffsetFold, *, on_below: Callable[[], None]) -> None:
        self._context = context
        self._offsets = offsets
        self._on_below = on_below
        self._last_start = 0

    async def run(self) -> None:
        """Read until cancelled."""
        while True:
            await self._context.catch_up_wanted.wait()
            self._context.catch_up_wanted.clear()
            try:
                await self._serve()
            except (LogUnavailable, NotFound) as error:
                _log.warning("log_catchup_retried", bundle=str(self._context.bundle), error=str(error))
                await asyncio.sleep(RETRY_WAIT_S)
                self._context.catch_up_wanted.set()

    async def _serve(self) -> None:
        while behind := find_behind(self._context):
            in_log = [each for each in behind if each.next_sequence >= self._context.extent.floor]
            if len(in_log) < len(behind):
                self._on_below()
            if not in_log:
                return
            await self._read_from(self._choose_start(in_log))
            await asyncio.sleep(0)

    async def _read_from(self, start: int) -> None:
        """Read once, and offer the entries to all that they meet. Raises LogUnavailable, NotFound."""
        log, bundle, extent = self._context.ports.log, self._context.bundle, self._context.extent
        entries = await log.read(bundle, start, frames_max=FRAMES_PER_READ_MAX, bytes_max=BYTES_PER_READ_MAX)
        first = entries[0].sequence if entries else (await log.bounds(bundle)).first_sequence
        if first > start:
            extent.floor = max(extent.floor, first)
            self._on_below()
        elif not entries:
            raise LogUnavailable(f"the log ends before {start}, which was read before")
        await self._offsets.cover(max(start, first))
        for entry in entries:
            self._offer(entry, max(start, first))

    def _choose_start(self, behind: list[LogSubscription]) -> int:
        """Take turns from low to high, so that a slow subscription does not hold up the others."""
        starts = sorted({each.next_sequence for each in behind})
        start = next((s for s in starts if s > self._last_start), starts[0])
        self._last_start = start
        return start

    def _offer(self, entry: LogEntry, start: int) -> None:
        if entry.sequence > self._context.extent.tail:
            return
        met = [
            each
            for each in self._context.dispatcher.lagging()
            if each.wants_backlog and start <= each.next_sequence <= entry.sequence
        ]
        if not met:
            return
        try:
            frame = decode_frame(entry.frame)
        except CorruptData as error:
            _log.error(
                "corrupt_frame_skipped",
                bundle=str(self._context.bundle),
                sequence=entry.sequence,
                error=str(error),
            )
            frame = Frame(0, 0, ())
        if entry.traces:
            self._context.traces.note(entry.sequence, entry.traces)
        for subscription in met:
            subscription.offer_frame(entry.sequence, frame, self._context.offsets)
            subscription.read_past(entry.sequence)
            self._context.dispatcher.mark_ready(subscription)
            if entry.sequence == self._context.extent.tail:
                subscription.reach_tail()
