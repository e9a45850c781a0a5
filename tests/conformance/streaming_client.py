"""The client of these tests, `client.Client`, on native streaming: what both wires promise is tested on both.

The number that a producer gives a message, which streaming does not have, travels as an attribute. Tests that
are about calls of v0.2 run on those only.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import deque
from collections.abc import Iterator
from typing import Any, ClassVar
from weakref import WeakSet

import grpc.aio
from grpc.aio import EOF
from tests.conformance.client import BYTES, DISK, EXCLUSIVE, Client, Producer, Refusal, Stream, strategy
from tests.conformance.stubs import danube

from danube_harness.traffic.consume_stream import ConsumeStream, messages_of
from danube_harness.traffic.publish_stream import PublishStream, batch_of_body, body_of, message_of
from danube_proto import danube_stream_pb2 as api

NUMBER = "the-producers-number"
ENDS_S = 5.0
"""How long a stream may take to end after it was half-closed."""
UNTIL_ACK = 0


class StreamingProducer(Producer):
    """A producer on a Publish stream. Each message is a batch."""

    def __init__(
        self, client: Client, topic: str, name: str, stream: PublishStream, producer_id: int
    ) -> None:
        super().__init__(client, topic, name, producer_id)
        self._stream = stream
        self._sequence = self._through = 0
        self._writing, self._reading = asyncio.Lock(), asyncio.Lock()

    async def publish(self, message: Any) -> Any:
        """Send a message, and wait until it is stored."""
        attributes = {**message.attributes, NUMBER: str(message.msg_id.sequence_id)}
        data = message_of(message.payload, producer_name=self.name, attributes=attributes)
        async with self._writing:
            self._sequence += 1
            sequence = self._sequence
            await self._stream.send(sequence, batch_of_body(body_of([data]), 1))
        async with self._reading:
            while self._through < sequence:
                answer = await self._stream.answer()
                assert not answer.HasField("refused"), answer
                self._through = max(self._through, answer.stored.through_sequence)
        return danube.MessageResponse(request_id=message.request_id, sequence_id=message.msg_id.sequence_id)

    async def close(self) -> None:
        """End the stream."""
        await self._stream.close()


class StreamingStream(Stream):
    """A Consume stream. It reads only when asked to, as the one of v0.2."""

    opened_ones: ClassVar[WeakSet[StreamingStream]] = WeakSet()
    numbers: ClassVar[Iterator[int]] = itertools.count()

    def __init__(self, addr: str, topic: str, subscription: str, consumer: str, kind: int) -> None:
        self.topic = topic
        self.subscription = subscription
        self._reading = None
        self._ready: deque[Any] = deque()
        self._delivered: set[int] = set()
        self._acked = False
        self._confirmed = asyncio.Event()
        self.number = next(self.numbers)
        self.opened_ones.add(self)
        self._opening = asyncio.create_task(
            ConsumeStream.open(addr, topic, subscription, type=kind, consumer_name=consumer)
        )

    async def opened(self) -> None:
        """Wait until the platform has answered."""
        try:
            await asyncio.shield(self._opening)
        except grpc.aio.AioRpcError as error:
            raise Refusal("Subscribe", error) from None

    def has_delivered(self, message: Any, subscription: str) -> bool:
        """Return whether the message came on this stream."""
        return (
            self.subscription == subscription
            and self.topic == message.msg_id.topic_name
            and message.request_id in self._delivered
        )

    async def ack(self, message: Any) -> None:
        """Acknowledge a message; those of non-reliable topics have no position."""
        if position := message.request_id:
            self._acked = True
            await (await self._opening).ack((position, position))

    async def cancel(self) -> None:
        """Go away; what was acknowledged is handed over before."""
        try:
            stream = await self._opening
        except grpc.aio.AioRpcError:
            return
        if self._acked:
            with contextlib.suppress(TimeoutError, grpc.aio.AioRpcError, EOFError):
                async with asyncio.timeout(ENDS_S):
                    await stream.send(ack=api.Ack(ticket=1))
                    await self._handed_over(stream)
        await super().cancel()
        await stream.close()

    def _end(self) -> None:
        if self._reading is not None:
            self._reading.cancel()

    async def _handed_over(self, stream: ConsumeStream) -> None:
        confirmed = asyncio.create_task(self._confirmed.wait())
        try:
            while not self._confirmed.is_set():
                if self._reading is not None and not self._reading.done():
                    await asyncio.wait({self._reading, confirmed}, return_when=asyncio.FIRST_COMPLETED)
                else:
                    await self._take(stream)
        finally:
            confirmed.cancel()

    async def _read(self) -> Any:
        await self.opened()
        try:
            while not self._ready:
                await self._take(self._opening.result())
        except EOFError:
            return EOF
        except grpc.aio.AioRpcError as error:
            raise Refusal("Consume", error) from None
        return self._ready.popleft()

    async def _take(self, stream: ConsumeStream) -> None:
        answer = await stream.answer()
        if answer.HasField("acked"):
            self._confirmed.set()
        delivery = answer.delivery
        step = 1 if delivery.first_position else 0
        if answer.HasField("delivery"):
            for index, message in enumerate(messages_of(delivery.batch)):
                position = delivery.first_position + index * step
                self._delivered.add(position)
                self._ready.append(self._as_delivered(message, position))

    def _as_delivered(self, message: api.StoredMessage, position: int) -> Any:
        attributes = dict(message.attributes)
        number = int(attributes.pop(NUMBER, "0"))
        return danube.StreamMessage(
            request_id=position,
            msg_id=danube.MsgID(sequence_id=number, topic_name=self.topic),
            payload=message.payload,
            producer_name=message.producer_name,
            attributes=attributes,
        )


class StreamingClient(Client):
    """`Client` whose producers and consumers are on streams; other calls are the same."""

    def __init__(self, addr: str) -> None:
        super().__init__(addr)
        self._producers: list[StreamingProducer] = []
        self._consumers: dict[int, tuple[str, str, str, int]] = {}
        self._ids = itertools.count(1)

    async def close(self) -> None:
        """End everything, then the connection."""
        for producer in self._producers:
            await producer.close()
        await super().close()

    async def call(self, method: str, request: Any, **options: Any) -> Any:
        """Make a call; messages go on the stream of their producer."""
        if method != "SendMessage":
            return await super().call(method, request, **options)
        return await self._producers[request.msg_id.producer_id].publish(request)

    async def producer(self, topic: str, name: str = "producer", **fields: Any) -> Producer:
        """Open a producer; of ``fields`` schema and dispatch_strategy count."""
        schema = fields.get("schema") or danube.Schema(type_schema=BYTES)
        dispatch = fields.get("dispatch_strategy") or strategy(reliable=False)
        options = dispatch.reliable_options
        until_ack = options.retention_policy == UNTIL_ACK
        stream = await PublishStream.open(
            self.addr,
            topic,
            name,
            schema=api.Schema(type=schema.type_schema),
            dispatch=api.Dispatch(
                reliable=True,
                storage="DISK" if options.storage_backend == DISK else "MEMORY",
                segment_size_mb=options.segment_size,
                retention_period_s=0 if until_ack else options.retention_period,
            )
            if dispatch.strategy
            else api.Dispatch(),
        )
        producer = StreamingProducer(self, topic, name, stream, len(self._producers))
        self._producers.append(producer)
        return producer

    async def subscribe(
        self, topic: str, subscription: str, consumer: str = "consumer", kind: int = EXCLUSIVE
    ) -> int:
        """Create the subscription, without a stream; return what `receive` takes."""
        stream = StreamingStream(self.addr, topic, subscription, consumer, kind)
        await stream.opened()
        await stream.cancel()
        consumer_id = next(self._ids)
        self._consumers[consumer_id] = (topic, subscription, consumer, kind)
        return consumer_id

    def receive(self, consumer_id: int, *, request_id: int = 1) -> Stream:
        """Open the stream of a consumer."""
        del request_id
        stream = StreamingStream(self.addr, *self._consumers[consumer_id])
        self._streams.append(stream)
        return stream

    async def consume(
        self, topic: str, subscription: str, consumer: str = "consumer", kind: int = EXCLUSIVE
    ) -> Stream:
        """Subscribe and open the stream at once."""
        consumer_id = next(self._ids)
        self._consumers[consumer_id] = (topic, subscription, consumer, kind)
        stream = self.receive(consumer_id)
        await stream.opened()
        return stream

    async def ack(self, message: Any, subscription: str) -> None:
        """Acknowledge a message on the stream that delivered it, whosever that is."""
        delivered = [
            each for each in StreamingStream.opened_ones if each.has_delivered(message, subscription)
        ]
        await max(delivered, key=lambda each: each.number).ack(message)
