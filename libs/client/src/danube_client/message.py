"""A received message."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from danube_proto import danube_api_pb2 as wire


class Acknowledger(Protocol):
    """Sends acknowledgements."""

    async def ack(self, delivery: wire.StreamMessage) -> None:
        """Acknowledge a delivery; raises CallError."""


class Message:
    """A received message. Acknowledge it when it is processed, or it is delivered again."""

    __slots__ = ("_delivery", "_source")

    def __init__(self, delivery: wire.StreamMessage, source: Acknowledger) -> None:
        self._delivery = delivery
        self._source = source

    @property
    def payload(self) -> bytes:
        """The bytes that the producer sent."""
        return self._delivery.payload

    @property
    def text(self) -> str:
        """The payload decoded as UTF-8.

        Raises:
            UnicodeDecodeError: the payload is not UTF-8.
        """
        return self._delivery.payload.decode()

    @property
    def attributes(self) -> Mapping[str, str]:
        """The attributes that the producer attached."""
        return self._delivery.attributes

    @property
    def topic(self) -> str:
        """The topic, with its partition suffix if it is a partition."""
        return self._delivery.msg_id.topic_name

    @property
    def sequence_id(self) -> int:
        """The number that the producer gave the message; each producer starts at 0."""
        return self._delivery.msg_id.sequence_id

    @property
    def producer_id(self) -> int:
        """The id that the platform gave the producer."""
        return self._delivery.msg_id.producer_id

    @property
    def producer_name(self) -> str:
        """The producer's name."""
        return self._delivery.producer_name

    @property
    def publish_time_ms(self) -> int:
        """Milliseconds since the epoch, by the producer's clock."""
        return self._delivery.publish_time

    async def ack(self) -> None:
        """Acknowledge the message and wait for the answer.

        Raises:
            CallError: the acknowledgement failed; the message is delivered again.
        """
        await self._source.ack(self._delivery)

    def __repr__(self) -> str:
        return f"Message(topic={self.topic!r}, sequence_id={self.sequence_id}, {len(self.payload)} bytes)"
