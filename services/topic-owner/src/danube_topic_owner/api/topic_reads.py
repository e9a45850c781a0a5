"""Handles requests of readers without a subscription."""

from __future__ import annotations

import asyncio
import struct
from typing import Final

from danube_common.errors import InvalidInput
from danube_common.model.position import position_of
from danube_common.model.run import Run
from danube_common.model.subscription import StartKind
from danube_common.wire.archive import READ_BYTES_DEFAULT
from danube_common.wire.owner.topics import ReadTopic, TopicRead
from danube_topic_owner.api.consumer_admission import starting_mark
from danube_topic_owner.catchup.archive_catchup import ArchiveCatchUp
from danube_topic_owner.catchup.start_positions import check_start
from danube_topic_owner.context import Handlers, OwnerContext

READS_AT_ONCE_MAX: Final = 4
"""Requests of a bundle that are carried out at the same time; others wait."""


class TopicReads:
    """Reads of a bundle's topics.

    Attributes:
        handlers: by request type.
    """

    def __init__(self, context: OwnerContext, archive_catchup: ArchiveCatchUp) -> None:
        self.handlers: Final[Handlers] = {ReadTopic: self._read}
        self._context = context
        self._archive = archive_catchup
        self._places = asyncio.Semaphore(READS_AT_ONCE_MAX)

    async def _read(self, request: ReadTopic) -> TopicRead:
        context = self._context
        topic = await context.find_topic(request.topic)
        if not topic.strategy.is_reliable:
            raise InvalidInput(f"topic {topic.name} keeps no messages: there is nothing to read")
        async with self._places:
            position, missing = request.position, 0
            if (start := request.start) is not None:
                check_start(start, topic)
                oldest = starting_mark(topic, context.state)
                position = await self._archive.starts.mark_delete(topic, start, oldest) + 1
                if start.kind is StartKind.POSITION and oldest < start.value < position:
                    missing = await self._archive.reader.missing_from(topic, start.value)
            end = (await context.ports.log.bounds(context.bundle)).last_sequence + 1
            bytes_max = max(1, min(request.bytes_max, READ_BYTES_DEFAULT))
            reading = await self._archive.reader.read(topic, position, bytes_max)
        return TopicRead(
            [(run.first, run.offset, len(run), _body(run)) for run in reading.runs],
            reading.position,
            position_of(end, 0, 0),
            missing + reading.missing,
        )


def _body(run: Run) -> bytes:
    ends = run.ends[run.low : run.high]
    if start := run.start:
        ends = tuple([end - start for end in ends])
    return b"".join((struct.pack(f"<{len(ends)}I", *ends), run.body()))
