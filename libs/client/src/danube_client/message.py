"""A received message."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Mapping
from datetime import UTC, datetime
from math import inf
from typing import Any, Protocol, Self

from danube_proto import danube_api_pb2 as wire


class Source(Protocol):
    """The topic that a message came from, as its consumer or reader has it."""

    @property
    def topic(self) -> str:
        """The topic, with its partition suffix if it is a partition."""

    def ack(self, message: Message) -> Awaitable[None]:
        """Acknowledge a message."""

    def ack_cumulative(self, message: Message) -> Awaitable[None]:
        """Acknowledge a message and all before it."""

    def nack(self, message: Message, delay_s: float | None, reason: str) -> Awaitable[None]:
        """Give a message back."""

    def decode(self, payload: bytes) -> Any:
        """Return what the consumer's codec makes of a payload."""


class Message:
    """A received message. Acknowledge it when it is processed, or it is delivered again.

    Attributes:
        position: where the message lies in its topic's log; the next message has a higher one. 0 on a
            non-reliable topic, and on a platform without native streaming.
        redelivery_count: how often its delivery failed before.
        offset: how many messages of its topic or partition are before it, without gaps. None on a
            non-reliable topic, and on a platform without native streaming.
    """

    __slots__ = ("_data", "_source", "_stored", "offset", "position", "redelivery_count")

    def __init__(
        self,
        data: bytes,
        source: Source,
        position: int = 0,
        redelivery_count: int = 0,
        offset: int | None = None,
    ) -> None:
        self._data = data
        self._source = source
        self._stored: wire.StreamMessage | None = None
        self.position = position
        self.redelivery_count = redelivery_count
        self.offset = offset

    @classmethod
    def of(cls, stored: wire.StreamMessage, source: Source) -> Self:
        """Return the message of a delivery that is parsed already."""
        message = cls(b"", source)
        message._stored = stored
        return message

    @property
    def stored(self) -> wire.StreamMessage:
        """The message as it is stored, in the layout of v0.2."""
        stored = self._stored
        if stored is None:
            stored = self._stored = wire.StreamMessage.FromString(self._data)
            self._data = b""
        return stored

    @property
    def payload(self) -> bytes:
        """The bytes that the producer sent."""
        return self.stored.payload

    @property
    def text(self) -> str:
        """The payload decoded as UTF-8.

        Raises:
            UnicodeDecodeError: the payload is not UTF-8.
        """
        return self.stored.payload.decode()

    @property
    def value(self) -> Any:
        """What the consumer's codec makes of the payload; without a codec the payload."""
        return self._source.decode(self.stored.payload)

    def json(self) -> Any:
        """Return the payload parsed as JSON. Raises ValueError."""
        return json.loads(self.stored.payload)

    def int64(self) -> int:
        """Return the payload of a topic of 64-bit integers, decimal text. Raises ValueError."""
        return int(self.stored.payload)

    @property
    def attributes(self) -> Mapping[str, str]:
        """The attributes that the producer attached."""
        return self.stored.attributes

    @property
    def key(self) -> str | None:
        """The key that the producer gave the message, or None."""
        stored = self.stored
        return stored.routing_key if stored.HasField("routing_key") else None

    @property
    def topic(self) -> str:
        """The topic, with its partition suffix if it is a partition."""
        return self._source.topic

    @property
    def sequence_id(self) -> int:
        """The number that a producer of v0.2 gave the message; 0 for others. See `position`."""
        return self.stored.msg_id.sequence_id

    @property
    def producer_id(self) -> int:
        """The id that the platform gave a producer of v0.2; 0 for others."""
        return self.stored.msg_id.producer_id

    @property
    def producer_name(self) -> str:
        """The producer's name."""
        return self.stored.producer_name

    @property
    def publish_time(self) -> datetime:
        """When the message was sent, by the producer's clock, in UTC."""
        return datetime.fromtimestamp(self.stored.publish_time / 1000, UTC)

    @property
    def publish_time_ms(self) -> int:
        """Milliseconds since the epoch, by the producer's clock."""
        return self.stored.publish_time

    def ack(self) -> Awaitable[None]:
        """Acknowledge the message; to be awaited.

        With native streaming the acknowledgement is gathered with others and sent some milliseconds later;
        ``Consumer.flush_acks`` waits until the platform has all of them. On a platform without it the
        answer is awaited.

        Raises:
            CallError: the acknowledgement failed; the message is delivered again.
        """
        return self._source.ack(self)

    def ack_cumulative(self) -> Awaitable[None]:
        """Acknowledge the message and all before it in its topic; to be awaited.

        For subscriptions with one active consumer: EXCLUSIVE and FAILOVER.
        """
        return self._source.ack_cumulative(self)

    def nack(self, delay: float | None = None, reason: str = "") -> Awaitable[None]:
        """Give the message back: it is delivered again; to be awaited.

        Args:
            delay: seconds until then; None leaves it to the subscription's failure policy.
            reason: told in the dead letter, if it becomes one.

        Raises:
            TypeError: ``delay`` is no number, such as a reason that was not named.
            ValueError: ``delay`` is negative, or without end.
        """
        if delay is not None and not isinstance(delay, (int, float)):
            raise TypeError(
                f"nack: delay is a number of seconds, not {delay!r}; name the reason: nack(reason=...)"
            )
        if delay is not None and not 0 <= delay < inf:
            raise ValueError(f"nack: delay is {delay} s: it cannot be negative, nor without end")
        return self._source.nack(self, delay, reason)

    def __repr__(self) -> str:
        return f"Message(topic={self.topic!r}, position={self.position}, {len(self.payload)} bytes)"
