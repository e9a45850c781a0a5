"""The path of a message from a producer to its frame: policies, schema, rate, order, publisher."""

from __future__ import annotations

import asyncio
import time

from danube_common.bus.port import Bus
from danube_common.cluster.catalogue import Catalogue
from danube_common.cluster.records import Topic
from danube_common.errors import DanubeError, LimitExceeded, SchemaViolation, Unavailable
from danube_common.log.port import BundleLog
from danube_common.model.bundle import Bundle
from danube_common.model.rate_limit import TokenBucket
from danube_common.runtime.service import Spawn
from danube_gateway.gateway_metrics import GatewayMetrics
from danube_gateway.publish.producers import PRODUCERS_MAX, Producer, Producers
from danube_gateway.publish.publisher import FrameNumbers, LogPublisher, NonReliablePublisher, Publisher
from danube_gateway.publish.reorder_buffer import ReorderBuffer
from danube_gateway.publish.schema_checks import SchemaChecks

ENVELOPE_BYTES_MAX = 64 * 1024
"""Bytes allowed for a message's names and attributes in addition to its payload."""
RATE_WAIT_S_MAX = 2.0
"""A publish over ``max_publish_rate`` is delayed up to this long; a longer delay is refused."""


class Publishing:
    """Publishes messages for every dialect. A message that is refused changes nothing."""

    def __init__(
        self,
        producers: Producers,
        catalogue: Catalogue,
        log: BundleLog,
        bus: Bus,
        spawn: Spawn,
        metrics: GatewayMetrics,
        checks: SchemaChecks,
    ) -> None:
        self._producers = producers
        self._catalogue = catalogue
        self._log = log
        self._bus = bus
        self._spawn = spawn
        self._metrics = metrics
        self._checks = checks
        self._numbers = FrameNumbers()
        self._publishers: dict[tuple[Bundle, bool], Publisher] = {}
        self._rates: dict[int, TokenBucket] = {}
        self._reorder_buffers: dict[int, ReorderBuffer] = {}
        self._draining = False
        catalogue.on_topic_gone(self._topic_gone)

    def drain(self) -> None:
        """Refuse new messages, except those that precede an accepted message of the same producer."""
        self._draining = True

    def producer_created(self, producer_id: int) -> None:
        """Note that a producer was created, or created again: its numbers may begin anew."""
        if (reorder := self._reorder_buffers.get(producer_id)) is not None:
            reorder.begin_again()

    async def publish(self, producer_id: int, number: int, payload: bytes, message: bytes) -> None:
        """Publish ``message``, a whole serialized StreamMessage whose payload is ``payload``.

        ``number`` is its number among its producer's messages; the order of publication follows it.

        Raises:
            NotFound: no such producer.
            LimitExceeded: ``max_message_size``, ``max_publish_rate``, the envelope's size, a schema check
                that takes too long, or too much waits.
            SchemaViolation: the payload does not fit the topic's schema.
            Unavailable: not acknowledged in time; the message may or may not be stored. Or the gateway is
                shutting down, and it is not stored.
        """
        if self._draining:
            self._refuse_unless_awaited(producer_id, number)
        began = time.perf_counter()
        producer = await self._producers.find(producer_id)
        reorder = self._reorder_buffers.get(producer_id)
        if reorder is None:
            reorder = self._new_reorder_buffer(producer_id)
        await reorder.turn(number)
        try:
            try:
                async with reorder.forwarding:
                    await self._check(producer, payload, message)
                stored = await self._enqueue(producer, message)
            finally:
                reorder.passed(number)
            await stored
        except DanubeError as error:
            self._metrics.publish_failures.labels(producer.topic.name, _reason(error)).inc()
            raise
        self._metrics.published(producer.topic.name, producer_id, len(payload), time.perf_counter() - began)

    async def _check(self, producer: Producer, payload: bytes, message: bytes) -> None:
        limit = self._catalogue.policies(producer.topic_name).message_bytes_max
        if len(payload) > limit:
            raise LimitExceeded(
                "max_message_size", f"max_message_size is {limit} bytes: the payload has {len(payload)}"
            )
        envelope = len(message) - len(payload)
        if envelope > ENVELOPE_BYTES_MAX:
            raise LimitExceeded(
                "message_envelope_bytes",
                f"the names and attributes of the message have {envelope} bytes: at most {ENVELOPE_BYTES_MAX}"
                " are allowed beside the payload",
            )
        await self._checks.check(producer.topic, producer.check, payload)

    async def _enqueue(self, producer: Producer, message: bytes) -> asyncio.Future[None]:
        policies = self._catalogue.policies(producer.topic_name)
        if policies.max_publish_rate:
            await self._wait_for_rate(producer, policies.max_publish_rate)
        publisher = self._publisher(producer.bundle, reliable=producer.topic.strategy.is_reliable)
        return publisher.enqueue(producer.topic.topic_id, message)

    def _refuse_unless_awaited(self, producer_id: int, number: int) -> None:
        reorder = self._reorder_buffers.get(producer_id)
        if reorder is None or number > reorder.highest:
            raise Unavailable("the gateway is shutting down")

    def _new_reorder_buffer(self, producer_id: int) -> ReorderBuffer:
        if len(self._reorder_buffers) >= PRODUCERS_MAX:
            self._reorder_buffers.pop(next(iter(self._reorder_buffers)))
        reorder = self._reorder_buffers[producer_id] = ReorderBuffer()
        return reorder

    async def _wait_for_rate(self, producer: Producer, limit: int) -> None:
        """Spread the topic's rate over the live gateways; later callers wait longer, so order holds."""
        now = time.monotonic()
        share = limit / max(len(self._catalogue.instances("gateway")), 1)
        bucket = self._rates.get(producer.topic.topic_id)
        if bucket is None:
            bucket = self._rates[producer.topic.topic_id] = TokenBucket(share, now)
        bucket.set_rate(share, now)
        bucket.take(1)
        wait_s = bucket.debt_s(now)
        if wait_s > RATE_WAIT_S_MAX:
            bucket.take(-1)
            raise LimitExceeded(
                "max_publish_rate", f"max_publish_rate of topic {producer.topic.name} is {limit} messages/s"
            )
        if wait_s:
            await asyncio.sleep(wait_s)

    def _publisher(self, bundle: Bundle, *, reliable: bool) -> Publisher:
        publisher = self._publishers.get((bundle, reliable))
        if publisher is None:
            if reliable:
                publisher = LogPublisher(bundle, self._numbers, self._log)
            else:
                publisher = NonReliablePublisher(bundle, self._numbers, self._bus)
            self._publishers[bundle, reliable] = publisher
            self._spawn(publisher.run(), f"publisher {bundle}")
        return publisher

    def _topic_gone(self, topic: Topic) -> None:
        self._rates.pop(topic.topic_id, None)
        self._checks.forget(topic)


def _reason(error: DanubeError) -> str:
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
