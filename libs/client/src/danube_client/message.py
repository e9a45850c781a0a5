"""A received message."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from danube_proto import danube_api_pb2 as wire


class Acknowledger(Protocol):
    """Where a message's acknowledgement goes."""

    async def ack(self, delivery: wire.StreamMessage) -> None: ...


class Message:
    """A received message; acknowledge it when it is done with."""

    __slots__ = ("_delivery", "_source")

    def __init__(self, delivery: wire.StreamMessage, source: Acknowledger) -> None:
        self._delivery = delivery
        self._source = source

    @property
    def payload(self) -> bytes:
        return self._delivery.payload

    @property
    def text(self) -> str:
        """The payload as UTF-8.

        Raises:
            UnicodeDecodeError: it is not.
        """
        return self._delivery.payload.decode()

    @property
    def attributes(self) -> Mapping[str, str]:
        return self._delivery.attributes

    @property
    def topic(self) -> str:
        """The topic, with its partition suffix if it is a partition."""
        return self._delivery.msg_id.topic_name

    @property
    def sequence_id(self) -> int:
        """The producer's own number; begins anew with each producer."""
        return self._delivery.msg_id.sequence_id

    @property
    def producer_id(self) -> int:
        return self._delivery.msg_id.producer_id

    @property
    def producer_name(self) -> str:
        return self._delivery.producer_name

    @property
    def publish_time_ms(self) -> int:
        """Milliseconds since the epoch, by the producer's clock."""
        return self._delivery.publish_time

    async def ack(self) -> None:
        """Acknowledges the message and waits for the answer.

        Raises:
            CallError: the platform did not take it; the message will come again.
        """
        await self._source.ack(self._delivery)

    def __repr__(self) -> str:
        return f"Message(topic={self.topic!r}, sequence_id={self.sequence_id}, {len(self.payload)} bytes)"
