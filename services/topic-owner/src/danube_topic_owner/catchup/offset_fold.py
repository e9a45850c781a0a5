"""Counts the messages of a bundle's topics, so that each message has an offset (docs/adr/0040-offsets.md)."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from danube_common.archive.manifest import Manifest
from danube_common.archive.records import unpack_offsets
from danube_common.archive.state import read_archive_state
from danube_common.errors import CorruptData
from danube_common.log.port import LogEntry
from danube_common.wire.frame import split_frame
from danube_topic_owner.context import OwnerContext
from danube_topic_owner.delivery.log_offsets import ROWS_KEPT_MAX, CountedFrame
from danube_topic_owner.journal.events import TopicRemoved, messages_counted

CHECKPOINT_S: Final = 1.0
"""What was counted is journaled this often: the next owner reads the log from there before it serves."""
FRAMES_PER_READ_MAX: Final = 256
BYTES_PER_READ_MAX: Final = 8 * 1024 * 1024

_log = structlog.get_logger(__name__)


class OffsetFold:
    """Fills `LogOffsets`: what an earlier owner had not journaled, and what readers below the tail ask for.

    Args:
        context: of the bundle.
        manifest: of the bundle; None for the memory family.
    """

    def __init__(self, context: OwnerContext, manifest: Manifest | None) -> None:
        self._context = context
        self._manifest = manifest
        self._turn = asyncio.Lock()
        self._early: list[CountedFrame] | None = []
        """Frames of the live feed that came before `catch_up` was done."""

    def note(self, entry: LogEntry) -> None:
        """Count the next frame of the live feed."""
        if self._early is None:
            self._context.offsets.append(counted(entry))
        else:
            self._early.append(counted(entry))

    async def catch_up(self) -> None:
        """Count everything up to the tail. Raises LogUnavailable, MetadataUnavailable."""
        context, offsets = self._context, self._context.offsets
        tail, floor = context.extent.tail, context.extent.floor
        through, totals = context.state.counted_through, context.state.totals
        if floor > through + 1 or not totals:
            archived_through, archived = await self._archived()
            if archived_through >= through:
                through, totals = archived_through, totals | archived
            if floor > through + 1 and totals:
                _log.warning("messages_not_counted", bundle=str(context.bundle), first=through + 1, end=floor)
        offsets.start(through, totals)
        for frame in await self._read(through + 1, tail):
            offsets.append(frame)
        early, self._early = self._early or [], None
        for frame in early:
            offsets.append(frame)
        if totals.keys() - context.state.topics.keys():
            await self._forget_deleted(list(totals))

    async def cover(self, sequence: int) -> None:
        """Know the offsets of what is in the log from ``sequence`` on. Raises LogUnavailable.

        To be called after the log was read, and before anything else is waited for.
        """
        offsets = self._context.offsets
        while sequence < offsets.first:
            async with self._turn:
                if (end := offsets.first - 1) < sequence:
                    return
                frames = await self._read(sequence, end)
                if offsets.first - 1 == end:
                    offsets.prepend(frames, sequence)

    async def run(self) -> None:
        """Journal what was counted, until cancelled."""
        context, offsets = self._context, self._context.offsets
        while True:
            await asyncio.sleep(CHECKPOINT_S)
            self.checkpoint()
            keep = context.extent.floor
            if offsets.rows > ROWS_KEPT_MAX:
                wanted = [each.next_sequence for each in context.log_subscriptions() if not each.at_tail]
                keep = max(keep, min(wanted, default=offsets.last + 1))
            offsets.forget_before(keep)

    def checkpoint(self) -> None:
        """Journal what was counted since the last time."""
        context, offsets = self._context, self._context.offsets
        if offsets.changed and offsets.complete:
            totals = [(topic_id, offsets.totals[topic_id]) for topic_id in offsets.changed]
            offsets.changed.clear()
            context.writer.record(*messages_counted(offsets.last, totals))

    async def _archived(self) -> tuple[int, dict[int, int]]:
        """Return up to which sequence the archive has counted messages, and how many of each topic.

        The log has what follows: its offsets are stored before a range with shared segments is purged.
        """
        if self._manifest is None:
            return 0, {}
        await self._manifest.refresh()
        state = await read_archive_state(self._context.ports.metadata, self._context.bundle)
        through, totals = state.offsets_through, unpack_offsets(state.offsets)
        for archived in self._manifest.from_sequence(through + 1):
            if archived.has_shared:
                break
            for topic_id, messages in archived.own_messages():
                totals[topic_id] = totals.get(topic_id, 0) + messages
            through = archived.last_sequence
        return through, totals

    async def _read(self, first: int, last: int) -> list[CountedFrame]:
        frames: list[CountedFrame] = []
        log, bundle = self._context.ports.log, self._context.bundle
        while first <= last:
            entries = await log.read(
                bundle, first, frames_max=FRAMES_PER_READ_MAX, bytes_max=BYTES_PER_READ_MAX
            )
            if not entries:
                break
            frames += [counted(entry) for entry in entries if entry.sequence <= last]
            first = entries[-1].sequence + 1
        return frames

    async def _forget_deleted(self, topic_ids: list[int]) -> None:
        catalogue = self._context.catalogue
        if any(catalogue.topic_by_id(topic_id) is None for topic_id in topic_ids):
            await catalogue.see_topics()
        for topic_id in topic_ids:
            if catalogue.topic_by_id(topic_id) is None:
                self._context.offsets.forget_topic(topic_id)
                self._context.writer.record(TopicRemoved(topic_id))


def counted(entry: LogEntry) -> CountedFrame:
    """Count the messages of a frame; one that is damaged has none: it is neither delivered nor archived."""
    try:
        return CountedFrame.of(entry.sequence, split_frame(entry.frame))
    except CorruptData:
        return CountedFrame(entry.sequence, ())
