"""The path of a message from a producer to its frame: policies, schema, rate, order, publisher."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from danube_common.bus.port import Bus
from danube_common.cluster.catalogue import Catalogue
from danube_common.cluster.records import Topic
from danube_common.errors import DanubeError, LimitExceeded, SchemaViolation, Unavailable
from danube_common.log.port import BundleLog
from danube_common.model.bundle import Bundle
from danube_common.rpc.first_step import Later
from danube_common.runtime.service import Spawn
from danube_gateway.gateway_metrics import GatewayMetrics, Tally
from danube_gateway.publish.producers import PRODUCERS_MAX, Producer, Producers
from danube_gateway.publish.publisher import FrameNumbers, LogPublisher, NonReliablePublisher, Publisher
from danube_gateway.publish.reorder_buffer import ReorderBuffer
from danube_gateway.publish.schema_checks import SchemaChecks
from danube_gateway.publish.subject_checks import SchemaStamp, SubjectChecks
from danube_gateway.publish.topic_limits import PublishRates, TopicLimits
from danube_gateway.publish.traces import PublishTraces

PRODUCER_BYTES_MAX = 64 * 1024 * 1024
"""Bytes of one producer's messages that may wait for their order, a check, the rate or an answer; more are
refused."""


class Lane:
    """What publishing keeps of one producer: the order of its messages, and where they go."""

    __slots__ = (
        *("check_turn", "checking", "limits", "pending_bytes", "producer", "publisher", "reorder", "tally"),
    )

    def __init__(
        self,
        producer: Producer,
        reorder: ReorderBuffer,
        publisher: Publisher,
        tally: Tally,
        limits: TopicLimits,
    ) -> None:
        self.producer = producer
        self.reorder = reorder
        self.publisher = publisher
        self.tally = tally
        self.check_turn = asyncio.Lock()
        """Held while a message's schema is checked in a process: the next one may not overtake it."""
        self.checking = 0
        """Messages that hold the turn or wait for it."""
        self.pending_bytes = 0
        """Of the producer's messages that were not answered yet."""
        self.limits = limits


class Stored(Later[bool]):
    """What the call of a message waits for; it raises Unavailable if the message may not be stored."""

    __slots__ = ("_began", "_lane", "_metrics", "_payload_bytes", "_size")

    def __init__(
        self, lane: Lane, size: int, payload_bytes: int, began: float, metrics: GatewayMetrics
    ) -> None:
        super().__init__()
        lane.pending_bytes += size
        self._lane = lane
        self._size = size
        self._payload_bytes = payload_bytes
        self._began = began
        self._metrics = metrics

    def set_result(self, result: bool) -> None:
        """Note that the message is stored."""
        self._lane.pending_bytes -= self._size
        self._lane.tally.count(self._payload_bytes, time.perf_counter() - self._began)
        super().set_result(result)

    def set_exception(self, error: BaseException) -> None:
        """Note why it may not be."""
        self._lane.pending_bytes -= self._size
        if isinstance(error, DanubeError):
            self._metrics.publish_failures.labels(self._lane.producer.topic.name, failure_reason(error)).inc()
        super().set_exception(error)


class Publishing:
    """Publishes messages for every dialect. A message that is refused changes nothing.

    Attributes:
        rates: of all topics.
        numbers: of the frames of this process.
        batch_tallies: what producers of batches have counted since the metrics were read.
        draining: whether new messages are refused.
        traces: the spans of what is published.
    """

    def __init__(
        self,
        producers: Producers,
        catalogue: Catalogue,
        log: BundleLog,
        bus: Bus,
        spawn: Spawn,
        metrics: GatewayMetrics,
        checks: SchemaChecks,
        subjects: SubjectChecks,
        traces: PublishTraces | None = None,
    ) -> None:
        self.producers = producers
        self.catalogue = catalogue
        self.log = log
        self.bus = bus
        self._spawn = spawn
        self.metrics = metrics
        self.checks = checks
        self.subjects = subjects
        self.numbers = FrameNumbers()
        self._publishers: dict[tuple[Bundle, bool], Publisher] = {}
        self.rates = PublishRates(catalogue)
        self._lanes: dict[int, Lane] = {}
        self.batch_tallies: set[Tally] = set()
        self._on_drain: dict[Callable[[], None], None] = {}
        self.draining = False
        self.traces = traces or PublishTraces()
        catalogue.on_topic_gone(self._topic_gone)
        metrics.on_render(self._flush)

    def drain(self) -> None:
        """Refuse new messages, except those that precede an accepted message of the same producer."""
        self.draining = True
        for listener in list(self._on_drain):
            listener()

    def enter(self, on_drain: Callable[[], None]) -> None:
        """Note an open stream, and whom to call when `drain` is called. Raises Unavailable after it was."""
        if self.draining:
            raise Unavailable("the gateway is shutting down")
        self._on_drain[on_drain] = None

    def leave(self, on_drain: Callable[[], None]) -> None:
        """Note that a stream has ended."""
        self._on_drain.pop(on_drain, None)

    @property
    def streams(self) -> int:
        """How many streams are open."""
        return len(self._on_drain)

    def producer_created(self, producer_id: int, first: int = 0) -> None:
        """Note that a producer was created, or created again: its numbers may begin anew.

        ``first`` is the first number of clients of its kind.
        """
        lane = self._lanes.get(producer_id)
        if lane is not None:
            lane.reorder.begin_again(first)
        elif (producer := self.producers.known(producer_id)) is not None:
            self._open_lane(producer, ReorderBuffer(first))

    def publish_at_once(
        self, producer: Producer, number: int, payload: bytes | memoryview, message: bytes
    ) -> bool | Stored:
        """Publish a message that nothing holds up and nothing refuses, in one step.

        Returns True if it counts as sent, what is to be awaited if it is to be stored, and False if `publish`
        is to do it.
        """
        began = time.perf_counter()
        lane = self._lanes.get(producer.producer_id)
        if not (
            lane is not None
            and lane.producer is producer
            and lane.reorder.is_next(number)
            and not lane.checking
            and not self.draining
            and producer.check.takes_all
            and lane.limits.leave_alone(len(payload), len(message))
            and self.subjects.find(producer.topic) is None
        ):
            return False
        publisher, topic_id = lane.publisher, producer.topic.topic_id
        if publisher.enqueue_at_once(topic_id, message):
            lane.reorder.passed(number)
            lane.tally.count(len(payload), time.perf_counter() - began)
            return True
        size = len(message)
        if lane.pending_bytes + size > PRODUCER_BYTES_MAX or not publisher.has_room(message):
            return False
        stored = Stored(lane, size, len(payload), began, self.metrics)
        publisher.enqueue(topic_id, message, stored)
        lane.reorder.passed(number)
        return stored

    async def publish(
        self,
        producer_id: int,
        number: int,
        payload: bytes | memoryview,
        message: bytes,
        stamp: SchemaStamp | None = None,
    ) -> None:
        """Publish ``message``, a whole serialized StreamMessage whose payload is ``payload``.

        ``number`` is its number among its producer's messages; the order of publication follows it. ``stamp``
        is what the message says of its schema.

        Raises:
            NotFound: no such producer.
            LimitExceeded: ``max_message_size``, ``max_publish_rate``, the envelope's size, a schema check
                that takes too long, or too much waits.
            SchemaViolation: the payload does not fit the topic's schema, or the message its schema subject.
            Unavailable: not acknowledged in time; the message may or may not be stored. Or the gateway is
                shutting down, and it is not stored.
        """
        began = time.perf_counter()
        lane = self._lanes.get(producer_id)
        if self.draining and (lane is None or number > lane.reorder.highest):
            raise Unavailable("the gateway is shutting down")
        producer = self.producers.known(producer_id) or await self.producers.find(producer_id)
        if lane is None or lane.producer is not producer:
            lane = self._lane(producer)
        size = len(message)
        try:
            if lane.pending_bytes + size > PRODUCER_BYTES_MAX:
                raise LimitExceeded(
                    "producer_pending_bytes", f"{lane.pending_bytes} bytes of this producer wait already"
                )
            lane.pending_bytes += size
            try:
                await self._publish_in_order(lane, number, payload, message, stamp)
            finally:
                lane.pending_bytes -= size
        except DanubeError as error:
            self.metrics.publish_failures.labels(producer.topic.name, failure_reason(error)).inc()
            raise
        lane.tally.count(len(payload), time.perf_counter() - began)

    async def _publish_in_order(
        self, lane: Lane, number: int, payload: bytes | memoryview, message: bytes, stamp: SchemaStamp | None
    ) -> None:
        reorder = lane.reorder
        new_future = asyncio.get_running_loop().create_future
        stored: asyncio.Future[bool] = new_future()
        if not reorder.is_next(number):

            def forward() -> bool:
                try:
                    forwarded = self._forward(lane, payload, message, stored)
                except Exception as error:  # noqa: BLE001 - it belongs to this call, not to the one that forwards
                    stored.set_exception(error)
                    return True
                if not forwarded:
                    stored.set_result(False)
                return forwarded

            reorder.hold(number, stored, forward)
            if await stored:
                return
            stored = new_future()
        try:
            if not self._forward(lane, payload, message, stored):
                await self._forward_later(lane, bytes(payload), message, stamp, stored)
        finally:
            reorder.passed(number)
        await stored

    def _forward(
        self, lane: Lane, payload: bytes | memoryview, message: bytes, stored: asyncio.Future[bool]
    ) -> bool:
        """Queue the message for its frame, and return True; False if there is something to wait for before.

        What is cheap to check makes no task wait, so that no message can overtake another.
        """
        limits = lane.limits
        limits.check(len(payload), len(message))
        if limits.publish_rate_max or lane.checking or not self._fits(lane.producer, payload):
            return False
        lane.publisher.enqueue(lane.producer.topic.topic_id, message, stored)
        return True

    async def _forward_later(
        self,
        lane: Lane,
        payload: bytes,
        message: bytes,
        stamp: SchemaStamp | None,
        stored: asyncio.Future[bool],
    ) -> None:
        """Queue a message whose check takes long, or whose topic has a rate."""
        producer = lane.producer
        if lane.checking or not self._fits(producer, payload):
            await self._check_in_turn(lane, producer, payload, stamp)
        if rate := lane.limits.publish_rate_max:
            await self.rates.wait(producer.topic, rate)
        lane.publisher.enqueue(producer.topic.topic_id, message, stored)

    def _fits(self, producer: Producer, payload: bytes | memoryview) -> bool:
        """Return whether the payload fits; False if that has to be waited for. Raises if it does not."""
        if self.subjects.concern(producer.topic):
            return False
        if self.subjects.replaces_own(producer.topic):
            return True
        check = producer.check
        return check.takes_all or self.checks.check_now(check, bytes(payload))

    async def _check_in_turn(
        self, lane: Lane, producer: Producer, payload: bytes, stamp: SchemaStamp | None
    ) -> None:
        lane.checking += 1
        try:
            async with lane.check_turn:
                await self.check(producer, payload, stamp)
        finally:
            lane.checking -= 1

    async def check(self, producer: Producer, payload: bytes, stamp: SchemaStamp | None) -> None:
        """Return when a message was found to fit the schemas of its topic. Raises as `publish`."""
        if not self.subjects.replaces_own(producer.topic):
            await self.checks.check(producer.topic, producer.check, payload)
        await self.subjects.check(producer.topic, payload, stamp)

    def _lane(self, producer: Producer) -> Lane:
        """Return the lane of a producer that is new here, or whose topic was made anew."""
        lane = self._lanes.get(producer.producer_id)
        if lane is not None and lane.producer is producer:
            return lane
        return self._open_lane(producer, lane.reorder if lane else ReorderBuffer())

    def _open_lane(self, producer: Producer, reorder: ReorderBuffer) -> Lane:
        before = self._lanes.pop(producer.producer_id, None)
        if before is None and len(self._lanes) >= PRODUCERS_MAX:
            before = self._lanes.pop(next(iter(self._lanes)))
        if before is not None:
            before.tally.flush()
        publisher = self._publisher(producer.bundle, reliable=producer.topic.strategy.is_reliable)
        tally = self.metrics.tally(producer.topic.name, producer.producer_id)
        limits = TopicLimits(self.catalogue, producer.topic_name)
        lane = self._lanes[producer.producer_id] = Lane(producer, reorder, publisher, tally, limits)
        return lane

    def _publisher(self, bundle: Bundle, *, reliable: bool) -> Publisher:
        publisher = self._publishers.get((bundle, reliable))
        if publisher is None:
            if reliable:
                publisher = LogPublisher(bundle, self.numbers, self.log, self.traces)
            else:
                publisher = NonReliablePublisher(bundle, self.numbers, self.bus)
            self._publishers[bundle, reliable] = publisher
            self._spawn(publisher.run(), f"publisher {bundle}")
        return publisher

    def _flush(self) -> None:
        for lane in self._lanes.values():
            lane.tally.flush()
        for tally in self.batch_tallies:
            tally.flush()

    def _topic_gone(self, topic: Topic) -> None:
        self.rates.forget(topic)
        self.checks.forget(topic)


def failure_reason(error: DanubeError) -> str:
    """Return why a message was not published, in a word."""
    match error:
        case LimitExceeded():
            return error.limit
        case SchemaViolation():
            return "schema"
        case Unavailable():
            return "unavailable"
        case _:
            return "other"
