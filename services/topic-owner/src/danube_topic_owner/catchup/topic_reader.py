"""Reads a topic's messages from the log or the archive for readers that have no subscription."""

from __future__ import annotations

from typing import NamedTuple

import structlog

from danube_common.archive.manifest import Manifest
from danube_common.archive.records import SHARED
from danube_common.cluster.records import Topic
from danube_common.errors import CorruptData, NotFound, Quarantined
from danube_common.model.position import end_of_sequence, position_of, sequence_of
from danube_common.model.run import Run
from danube_common.wire.frame import decode_frame
from danube_topic_owner.catchup.expiry import gone_after, next_gone
from danube_topic_owner.catchup.history import History
from danube_topic_owner.catchup.offset_fold import OffsetFold
from danube_topic_owner.context import OwnerContext

FRAMES_PER_READ = 64
STEPS_MAX = 8
"""Reads of log and archive for one request, when they hold nothing of the topic."""

_log = structlog.get_logger(__name__)


class Reading(NamedTuple):
    """What `TopicReader.read` returns.

    Attributes:
        runs: in order.
        position: the next one to read.
        missing: messages before it that cannot be read: a lower bound.
    """

    runs: list[Run]
    position: int
    missing: int = 0


class TopicReader:
    """Reads one bundle's topics. ``manifest`` and ``history`` are None for a bundle of the memory family."""

    def __init__(
        self, context: OwnerContext, manifest: Manifest | None, history: History | None, offsets: OffsetFold
    ) -> None:
        self._context = context
        self._manifest = manifest
        self._history = history
        self._offsets = offsets

    async def read(self, topic: Topic, position: int, bytes_max: int) -> Reading:
        """Return the next messages at or after ``position``; none at the log's end, or if they are far.

        Raises LogUnavailable, StoreUnavailable, MetadataUnavailable, NotFound.
        """
        missing = 0
        for _ in range(STEPS_MAX):
            if sequence_of(position) > self._context.extent.tail:
                break
            if sequence_of(position) >= self._context.extent.floor:
                reading = await self._read_log(topic, position, bytes_max)
            else:
                reading = await self._read_below(topic, position, bytes_max)
            position, missing = reading.position, missing + reading.missing
            if reading.runs:
                return Reading(reading.runs, position, missing)
        return Reading([], position, missing)

    async def missing_from(self, topic: Topic, position: int) -> int:
        """Return how many messages at or after ``position`` are not retained up to the next one that is."""
        gap = gone_after(self._manifest, topic, position - 1, self._context.extent.floor)
        return 0 if gap is None else max(gap.messages_after(position - 1), 1)

    async def _read_log(self, topic: Topic, position: int, bytes_max: int) -> Reading:
        context, sequence = self._context, sequence_of(position)
        log = context.ports.log
        entries = await log.read(context.bundle, sequence, frames_max=FRAMES_PER_READ, bytes_max=bytes_max)
        first = entries[0].sequence if entries else (await log.bounds(context.bundle)).first_sequence
        if first > sequence:
            context.extent.floor = max(context.extent.floor, first)
            return Reading([], position)
        await self._offsets.cover(sequence)
        runs: list[Run] = []
        missing = 0
        for entry in entries:
            if entry.sequence > context.extent.tail:
                break
            try:
                sections = decode_frame(entry.frame).sections
            except CorruptData as error:
                _log.error("corrupt_frame_skipped", sequence=entry.sequence, error=str(error))
                sections, missing = (), missing + 1
            for number, section in enumerate(sections):
                if section.topic_id == topic.topic_id:
                    first_position = position_of(entry.sequence, number, 0)
                    try:
                        offset = context.offsets.of(topic.topic_id, first_position)
                    except LookupError:
                        raise NotFound(f"topic {topic.name} was deleted") from None
                    runs += _from(section.run(first_position, offset), position)
            sequence = entry.sequence + 1
        return Reading(runs, max(position, position_of(sequence, 0, 0)), missing)

    async def _read_below(self, topic: Topic, position: int, bytes_max: int) -> Reading:
        floor, manifest, history = self._context.extent.floor, self._manifest, self._history
        if manifest is not None and manifest.archived_through + 1 < floor:
            await manifest.refresh()
        if (gap := gone_after(manifest, topic, position - 1, floor)) is not None:
            return Reading([], gap.through + 1, gap.messages_after(position - 1))
        if manifest is None or history is None:
            return Reading([], position_of(floor, 0, 0))
        try:
            batch = await history.read(topic, position, bytes_max=bytes_max)
        except Quarantined as damage:
            return self._behind_damage(topic, manifest, max(damage.position, position))
        entries, following = batch.entries, batch.next_position
        if (hole := next_gone(manifest, topic, position - 1, following)) is not None:
            entries = [entry for entry in entries if entry.first_position < hole.first_position]
            following = min(following, max(position, hole.first_position))
        runs = [
            run
            for entry in entries
            for run in _from(entry.section.run(entry.first_position, entry.first_offset), position)
        ]
        return Reading(runs, max(following, position))

    def _behind_damage(self, topic: Topic, manifest: Manifest, position: int) -> Reading:
        """Pass over the rest of a segment of which every copy is damaged."""
        entry = manifest.covering(sequence_of(position))
        for record in entry.segments_for(topic) if entry is not None else ():
            if record.last_position >= position:
                whole = record.topic_id != SHARED and position <= record.first_position
                missing = record.messages if whole else 1
                _log.warning("reader_passed_damage", topic=topic.name, segment=record.key, messages=missing)
                return Reading([], record.last_position + 1, missing)
        return Reading([], end_of_sequence(sequence_of(position)) + 1, 1)


def _from(run: Run, position: int) -> list[Run]:
    """Return what of a run is at or after a position."""
    if run.last < position:
        return []
    return [run if run.first >= position else run.part(position, run.last)]
