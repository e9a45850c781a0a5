"""The path of whole batches: a batch is a frame, and each producer has one frame of a topic on its way."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import structlog

from danube_common.errors import (
    BusUnavailable,
    DanubeError,
    LimitExceeded,
    LogFull,
    NotFound,
    SchemaViolation,
    Unavailable,
)
from danube_common.model.position import MESSAGES_PER_SECTION_MAX, position_of
from danube_common.tracing.marks import Mark, encode_marks
from danube_common.wire.frame import IDEMPOTENT, RawSection, encode_section, make_frame_id
from danube_common.wire.owner.protocol import non_reliable_subject
from danube_gateway.publish.batch import FRAME_BYTES_TARGET
from danube_gateway.publish.idempotence import Idempotence
from danube_gateway.publish.producers import Producer
from danube_gateway.publish.publisher import APPEND_TIMEOUT_S
from danube_gateway.publish.publishing import Publishing, failure_reason
from danube_gateway.publish.ready_batch import Body, Message, ReadyBatch, Unchecked, section_of_bodies
from danube_gateway.publish.topic_limits import ENVELOPE_BYTES_MAX, TopicLimits
from danube_gateway.publish.traces import joined_marks

WINDOW_MESSAGES: Final = 65_536
"""Messages that a stream may have sent and not been answered."""
WINDOW_BYTES_MAX: Final = 8 * 1024 * 1024
WINDOW_BYTES_MIN: Final = 512 * 1024
"""The same in bytes: the more streams, the less each gets of STREAMS_BYTES."""
STREAMS_BYTES: Final = 512 * 1024 * 1024
"""Bytes of batches that all streams of a gateway may hold, while they are at most a thousand."""


_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class MessageRefused(Exception):
    """One message makes its batch refused.

    Attributes:
        index: its place in the batch.
        error: why.
    """

    def __init__(self, index: int, error: DanubeError) -> None:
        super().__init__(index, error)
        self.index = index
        self.error = error


OnStored = Callable[[ReadyBatch, int], None]
"""Called with a batch and the position of its first message, 0 if it is non-reliable."""
OnRefused = Callable[[ReadyBatch, DanubeError, int | None], None]
"""Called with a batch of which nothing is stored, the reason, and the index of the message that is wrong."""


def window_bytes(streams: int) -> int:
    """Return the window in bytes of each of so many streams."""
    return max(WINDOW_BYTES_MIN, min(WINDOW_BYTES_MAX, STREAMS_BYTES // max(streams, 1)))


class BatchLane:
    """The batches of one producer of one topic, in order; one frame is on its way at a time.

    Batches that wait together go in one frame, but not those of an idempotent producer, which are sent again
    as they were.
    """

    def __init__(
        self,
        publishing: Publishing,
        producer: Producer,
        on_stored: OnStored,
        on_refused: OnRefused,
        idempotence: Idempotence | None = None,
    ) -> None:
        self.producer = producer
        self._idempotence = idempotence
        self.limits = TopicLimits(publishing.catalogue, producer.topic_name)
        self._publishing = publishing
        self._on_stored = on_stored
        self._on_refused = on_refused
        self._waiting: deque[ReadyBatch] = deque()
        self._wake = asyncio.Event()
        self._tally = publishing.metrics.tally(producer.topic.name, producer.producer_id)
        publishing.batch_tallies.add(self._tally)
        publishing.producers.hold(producer.producer_id)

    def ready(
        self, first: int, body: Body, messages: Iterable[Message], marks: Sequence[Mark] = ()
    ) -> ReadyBatch:
        """Check the messages of a batch against limits and schema. Raises MessageRefused, CorruptData."""
        producer, limits = self.producer, self.limits
        checks, takes_all = self._publishing.checks, producer.check.takes_all
        by_subject = self._publishing.subjects.concern(producer.topic)
        takes_all = takes_all or self._publishing.subjects.replaces_own(producer.topic)
        # A message of this size is within the limits, whatever part of it is the payload.
        small = min(limits.message_bytes_max, ENVELOPE_BYTES_MAX)
        payload_bytes = 0
        unchecked: list[Unchecked] = []
        for index, (size, payload, stamp) in enumerate(messages):
            payload_bytes += len(payload)
            try:
                if size > small:
                    limits.check(len(payload), size)
                if by_subject or not (takes_all or checks.check_now(producer.check, payload)):
                    unchecked.append(Unchecked(index, payload, stamp))
            except (LimitExceeded, SchemaViolation) as error:
                raise MessageRefused(index, error) from None
        return ReadyBatch(first, body, payload_bytes, unchecked, time.perf_counter(), marks)

    def add(self, batch: ReadyBatch) -> None:
        """Queue a batch. The stream's window bounds the queue."""
        self._waiting.append(batch)
        self._wake.set()

    def close(self) -> None:
        """Hand the counts over, and let the producer's life end."""
        self._publishing.batch_tallies.discard(self._tally)
        self._tally.flush()
        self._publishing.producers.release(self.producer.producer_id)

    def count_refused(self, error: DanubeError) -> None:
        """Count a refused batch."""
        reason = failure_reason(error)
        self._publishing.metrics.publish_failures.labels(self.producer.topic.name, reason).inc()

    async def run(self) -> None:
        """Send batches until cancelled.

        Raises:
            DanubeError: batches that were not answered may or may not be stored, and no more are sent.
        """
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._waiting:
                    if batches := await self._next():
                        await self._send(batches)
        except DanubeError as error:
            _log.warning("batch_failed", topic=self.producer.topic.name, error=str(error))
            self.count_refused(error)
            raise

    async def _next(self) -> list[ReadyBatch]:
        """Take what goes in the next frame: one batch, or several small ones that wait."""
        if self._idempotence is not None:
            batch = self._waiting.popleft()
            return [batch] if await self._is_accepted(batch) else []
        taken: list[ReadyBatch] = []
        messages = size = 0
        while self._waiting:
            batch = self._waiting[0]
            messages += batch.count
            size += len(batch.body.data)
            if taken and (
                messages > MESSAGES_PER_SECTION_MAX
                or size > FRAME_BYTES_TARGET
                or batch.unchecked
                or self.limits.publish_rate_max
            ):
                break
            self._waiting.popleft()
            if await self._is_accepted(batch):
                taken.append(batch)
        return taken

    async def _is_accepted(self, batch: ReadyBatch) -> bool:
        """Make the checks that take long, and wait for the rate."""
        publishing, producer = self._publishing, self.producer
        try:
            for index, payload, stamp in batch.unchecked:
                try:
                    await publishing.check(producer, payload, stamp)
                except SchemaViolation as error:
                    self._refuse(batch, error, index)
                    return False
        except (LimitExceeded, Unavailable) as error:
            self._refuse_now(batch, error)
            return False
        if rate := self.limits.publish_rate_max:
            await publishing.rates.wait_for_batch(producer.topic, rate, batch.count)
        return True

    async def _send(self, batches: list[ReadyBatch]) -> None:
        producer = self.producer
        # Whoever publishes is alive, and a producer whose topic was deleted is gone.
        if self._publishing.producers.known(producer.producer_id) is not producer:
            await self._find_again()
        section = section_of_bodies(producer.topic.topic_id, [batch.body for batch in batches])
        marks = joined_marks(batches)
        try:
            if self._idempotence is not None:
                position = await self._store_once(self._idempotence, batches[0], section, marks)
            elif producer.topic.strategy.is_reliable:
                numbers = self._publishing.numbers
                position = await self._store(section, numbers.gateway, numbers.next(), marks)
            else:
                position = await self._pass_on(section)
        except (LogFull, LimitExceeded) as error:
            for batch in batches:
                self._refuse_now(batch, error)
            return
        now = time.perf_counter()
        for batch in batches:
            self._tally.count_batch(batch.count, batch.payload_bytes, now - batch.began)
            if batch.marks:
                self._publishing.traces.published(batch, producer)
            self._on_stored(batch, position)
            position += batch.count if position else 0

    async def _find_again(self) -> None:
        """Look the producer up. Raises NotFound if it is gone, or its topic is another one now."""
        found = await self._publishing.producers.find(self.producer.producer_id)
        if found.topic.topic_id != self.producer.topic.topic_id:
            raise NotFound(f"topic {self.producer.topic.name} was deleted, and created again")
        self.producer = found

    async def _store(self, section: RawSection, gateway: int, number: int, marks: Sequence[Mark]) -> int:
        """Append a frame; return the position of its first message."""
        log, bundle = self._publishing.log, self.producer.bundle
        frame = encode_section(gateway, number, section)
        await log.open(bundle)
        appending = log.append(
            bundle,
            frame,
            frame_id=make_frame_id(gateway, number),
            timeout_s=APPEND_TIMEOUT_S,
            traces=encode_marks(marks) if marks else "",
        )
        if marks:
            appending = self._publishing.traces.appended(appending, bundle, frame, marks)
        appended = await appending
        if appended.duplicate and self._idempotence is not None:
            await self._idempotence.check_last(number + section.messages - 1)
        return position_of(appended.sequence, 0, 0)

    async def _store_once(
        self, idempotence: Idempotence, batch: ReadyBatch, section: RawSection, marks: Sequence[Mark]
    ) -> int:
        await idempotence.confirm()
        sent_at = time.monotonic()
        position = await self._store(section, IDEMPOTENT | idempotence.key, batch.first, marks)
        idempotence.stored(batch.last, sent_at)
        return position

    async def _pass_on(self, section: RawSection) -> int:
        """Send a frame to the topic's owner, at most once."""
        numbers = self._publishing.numbers
        frame = encode_section(numbers.gateway, numbers.next(), section)
        try:
            await self._publishing.bus.publish(non_reliable_subject(self.producer.bundle), frame)
        except BusUnavailable as error:
            raise Unavailable(f"the bus is not reachable: {error}") from error
        return 0

    def _refuse_now(self, batch: ReadyBatch, error: DanubeError) -> None:
        """Refuse a batch for a reason that passes.

        An idempotent producer's stream ends instead: when the batch is sent again it must not be one that was
        refused and that later batches have overtaken.
        """
        if self._idempotence is not None:
            raise error
        self._refuse(batch, error, None)

    def _refuse(self, batch: ReadyBatch, error: DanubeError, index: int | None) -> None:
        self.count_refused(error)
        self._on_refused(batch, error, index)
