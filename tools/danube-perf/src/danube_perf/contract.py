"""The client contract of Danube v0.2 as official clients speak it: one call for each message and each ack.

The rest of the tool sees `Publisher` and `Subscription` only; `streaming` has their counterparts for native
streaming.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from google.protobuf.message import DecodeError

from danube_perf.channel import CallError, Channel
from danube_perf.http2 import Stream
from danube_perf.plan import ConsumerPlan, Storage
from danube_proto import danube_api_pb2 as wire

CREATE: Final = b"/danube.ProducerService/CreateProducer"
SEND: Final = b"/danube.ProducerService/SendMessage"
SUBSCRIBE: Final = b"/danube.ConsumerService/Subscribe"
RECEIVE: Final = b"/danube.ConsumerService/ReceiveMessages"
ACK: Final = b"/danube.ConsumerService/Ack"
SEGMENT_MIB: Final = 20
RETENTION_S: Final = 3600

Done = Callable[[int, str], None]
"""Called with the status and the text of a call."""


def strategy(storage: Storage) -> wire.TopicDispatchStrategy:
    """Return the dispatch strategy of a new topic."""
    if storage == "none":
        return wire.TopicDispatchStrategy(strategy=wire.NonReliable)
    backend = {"memory": wire.IN_MEMORY, "disk": wire.DISK, "s3": wire.S3}[storage]
    options = wire.ReliableOptions(
        segment_size=SEGMENT_MIB,
        storage_backend=backend,
        retention_policy=wire.RetainUntilAck,
        retention_period=RETENTION_S,
    )
    return wire.TopicDispatchStrategy(strategy=wire.Reliable, reliable_options=options)


class Publisher:
    """One producer of a topic; made by `attach`."""

    def __init__(self, channel: Channel, topic: str, name: str, identity: int, address: str) -> None:
        self._channel = channel
        self._message = wire.StreamMessage(
            msg_id=wire.MsgID(producer_id=identity, topic_name=topic, broker_addr=f"http://{address}"),
            producer_name=name,
        )
        self._msg_id = self._message.msg_id

    @classmethod
    async def attach(
        cls, channel: Channel, topic: str, name: str, storage: Storage, address: str
    ) -> Publisher:
        """Create the producer, and the topic if it is new. Raises CallError."""
        request = wire.ProducerRequest(
            request_id=1,
            producer_name=name,
            topic_name=topic,
            schema=wire.Schema(name="perf", type_schema=wire.Schema.Bytes),
            dispatch_strategy=strategy(storage),
        )
        answer = await channel.unary(CREATE, request.SerializeToString())
        return cls(channel, topic, name, wire.ProducerResponse.FromString(answer).producer_id, address)

    def publish(self, number: int, payload: bytes, now_ns: int, done: Done) -> None:
        """Send a message; ``done`` gets the outcome."""
        message = self._message
        message.request_id = number + 1
        self._msg_id.sequence_id = number + 1
        message.payload = payload
        message.publish_time = now_ns // 1_000_000
        self._channel.call(
            SEND, message.SerializeToString(), lambda status, text, _answer: done(status, text)
        )


class Delivery:
    """A message of a subscription, and what acknowledges it."""

    __slots__ = ("message", "payload", "size")

    def __init__(self, data: bytes) -> None:
        self.message = wire.StreamMessage.FromString(data)
        self.payload = self.message.payload
        self.size = len(data)


class Subscription:
    """One consumer of a subscription, and its stream; made by `attach`.

    Args:
        arrived: gets the messages; each is to be given back by `grant` when there is room for another.
        ended: gets status and text when the stream ends.
    """

    def __init__(
        self, channel: Channel, name: str, arrived: Callable[[list[Delivery]], None], ended: Done
    ) -> None:
        self._channel = channel
        self._name = name
        self._arrived = arrived
        self._ended = ended
        self._stream: Stream | None = None

    async def attach(self, plan: ConsumerPlan) -> None:
        """Subscribe and open the stream. Raises CallError."""
        kind = wire.ConsumerRequest.Shared if plan.shared else wire.ConsumerRequest.Exclusive
        request = wire.ConsumerRequest(
            request_id=1,
            topic_name=plan.topic,
            consumer_name=plan.name,
            subscription=plan.subscription,
            subscription_type=kind,
        )
        answer = await self._channel.unary(SUBSCRIBE, request.SerializeToString())
        identity = wire.ConsumerResponse.FromString(answer).consumer_id
        self._stream = self._channel.call(
            RECEIVE,
            wire.ReceiveRequest(request_id=1, consumer_id=identity).SerializeToString(),
            lambda status, text, _messages: self._ended(status, text),
            self._deliver,
        )

    def acknowledge(self, delivery: Delivery, done: Done) -> None:
        """Acknowledge a message; ``done`` gets the outcome."""
        message = delivery.message
        request = wire.AckRequest(
            request_id=message.request_id, msg_id=message.msg_id, subscription_name=self._name
        )
        self._channel.call(ACK, request.SerializeToString(), lambda status, text, _answer: done(status, text))

    def grant(self, delivery: Delivery) -> None:
        """Let the stream send as much again as this message was."""
        if self._stream is not None:
            self._channel.grant(self._stream, delivery.size)

    async def close(self) -> None:
        """Do nothing: the stream ends with its channel."""

    def _deliver(self, messages: list[bytes]) -> None:
        try:
            self._arrived([Delivery(data) for data in messages])
        except DecodeError as error:
            raise CallError(13, f"a delivery that does not decode: {error}") from None
