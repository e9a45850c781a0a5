"""The one client of all rounds: raw calls of bytes, the same for the platform and for the echo."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable

import grpc.aio
from tests.benchmarks.echo_server import METHOD

from danube_proto import danube_api_pb2 as api

PAYLOAD_BYTES = 1024
PAYLOAD = bytes(range(256)) * (PAYLOAD_BYTES // 256)
TIMEOUT_S = 30.0
OPTIONS = (("grpc.use_local_subchannel_pool", 1),)

STRATEGIES = {
    "non-reliable": api.TopicDispatchStrategy(strategy=api.NonReliable),
    "reliable, memory": api.TopicDispatchStrategy(
        strategy=api.Reliable,
        reliable_options=api.ReliableOptions(
            segment_size=20, storage_backend=api.IN_MEMORY, retention_period=600
        ),
    ),
    "reliable, disk": api.TopicDispatchStrategy(
        strategy=api.Reliable,
        reliable_options=api.ReliableOptions(segment_size=20, storage_backend=api.DISK, retention_period=600),
    ),
}
DURABILITY = {
    "echo": "nothing is kept",
    "non-reliable": "nothing is kept; handed to the owner of the topic",
    "reliable, memory": "in the memory of the log server when it is answered",
    "reliable, disk": "synced to disk by the log server when it is answered (sync_interval: always)",
}


def _call(channel: grpc.aio.Channel, method: str) -> Callable[..., Awaitable[bytes]]:
    return channel.unary_unary(method, request_serializer=None, response_deserializer=None)


class Sender:
    """Sends numbered 1 KiB messages, to the platform as a producer, or to the echo."""

    def __init__(self, channel: grpc.aio.Channel, topic: str = "/default/echo", producer_id: int = 1) -> None:
        self._send = _call(channel, METHOD)
        self._numbers = itertools.count()
        self._message = api.StreamMessage(
            request_id=1,
            msg_id=api.MsgID(producer_id=producer_id, topic_name=topic, broker_addr="http://127.0.0.1:6650"),
            payload=PAYLOAD,
            producer_name="bench",
        )

    def send(self) -> Awaitable[bytes]:
        """Starts the next message's call at once."""
        self._message.msg_id.sequence_id = next(self._numbers)
        return self._send(self._message.SerializeToString(), timeout=TIMEOUT_S)

    async def latencies(self, count: int) -> list[float]:
        """Seconds from call to answer, one message at a time."""
        taken = []
        for _ in range(count):
            began = time.perf_counter()
            await self.send()
            taken.append(time.perf_counter() - began)
        return taken

    async def rate(self, in_flight: int, seconds: float) -> float:
        """Answers per second with so many calls in flight."""
        began = time.perf_counter()
        count = 0

        async def keep_sending() -> None:
            nonlocal count
            while time.perf_counter() - began < seconds:
                await self.send()
                count += 1

        await asyncio.gather(*(keep_sending() for _ in range(in_flight)))
        return count / (time.perf_counter() - began)


class Route(Sender):
    """A producer and, if asked for, one consumer of a topic of the platform; made by `open`."""

    def __init__(self, channel: grpc.aio.Channel, topic: str, producer_id: int) -> None:
        super().__init__(channel, topic, producer_id)
        self._channel = channel
        self._topic = topic
        self._ack = _call(channel, "/danube.ConsumerService/Ack")
        self._stream: grpc.aio.UnaryStreamCall[bytes, bytes] | None = None

    @classmethod
    async def open(cls, channel: grpc.aio.Channel, topic: str, kind: str) -> Route:
        """Create a topic with a producer; ``kind`` is its strategy."""
        request = api.ProducerRequest(
            request_id=1,
            producer_name="bench",
            topic_name=topic,
            schema=api.Schema(name="bench", type_schema=api.Schema.Bytes),
            dispatch_strategy=STRATEGIES[kind],
        )
        answer = await _call(channel, "/danube.ProducerService/CreateProducer")(request.SerializeToString())
        return cls(channel, topic, api.ProducerResponse.FromString(answer).producer_id)

    async def subscribe(self) -> None:
        """Receive from now on; returns when the stream stands."""
        request = api.ConsumerRequest(
            request_id=1,
            topic_name=self._topic,
            consumer_name="bench",
            subscription="bench",
            subscription_type=api.ConsumerRequest.Exclusive,
        )
        answer = await _call(self._channel, "/danube.ConsumerService/Subscribe")(request.SerializeToString())
        consumer_id = api.ConsumerResponse.FromString(answer).consumer_id
        receive: grpc.aio.UnaryStreamMultiCallable[bytes, bytes]
        receive = self._channel.unary_stream(
            "/danube.ConsumerService/ReceiveMessages", request_serializer=None, response_deserializer=None
        )
        self._stream = receive(api.ReceiveRequest(request_id=1, consumer_id=consumer_id).SerializeToString())
        await self._stream.initial_metadata()

    async def deliveries(self, count: int) -> list[float]:
        """Seconds from publishing to receiving, one message at a time; acknowledged outside of the time."""
        assert self._stream is not None, "subscribe first"
        taken = []
        for _ in range(count):
            began = time.perf_counter()
            answer = self.send()
            delivery = await asyncio.wait_for(self._stream.read(), TIMEOUT_S)
            taken.append(time.perf_counter() - began)
            await answer
            assert isinstance(delivery, bytes)
            message = api.StreamMessage.FromString(delivery)
            ack = api.AckRequest(
                request_id=message.request_id, msg_id=message.msg_id, subscription_name="bench"
            )
            await self._ack(ack.SerializeToString(), timeout=TIMEOUT_S)
        return taken

    def close(self) -> None:
        """End the stream."""
        if self._stream is not None:
            self._stream.cancel()
