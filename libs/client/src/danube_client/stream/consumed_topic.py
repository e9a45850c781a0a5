"""A topic or partition of a streaming consumer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

from danube_client.message import Message
from danube_client.payload import Codec
from danube_client.stream.ack_ranges import AckRanges, Ranges
from danube_proto import danube_stream_pb2 as api

if TYPE_CHECKING:
    from danube_client.stream.acknowledgements import Acknowledgements


class ConsumedTopic:
    """Where messages come from, and where their acknowledgements go.

    Attributes:
        topic: its name.
        topic_id: its number in the cluster; a topic that is made again has another one.
        index: its number on the stream; None while it is on none.
        reliable: whether it has a past.
        acks: acknowledged, and not sent.
        cumulative: acknowledged up to here, and not sent; 0 for nothing.
        repeated: acknowledged on a stream that was lost, and perhaps delivered again.
        seeking: the ticket of a seek that is not answered; deliveries until then are void.
        void: whether its messages are over, and acknowledgements of them mean nothing.
    """

    __slots__ = (
        "_acknowledgements",
        "_codec",
        "_send",
        "acks",
        "cumulative",
        "index",
        "reliable",
        "repeated",
        "seeking",
        "topic",
        "topic_id",
        "void",
    )

    def __init__(
        self,
        acknowledgements: Acknowledgements,
        send: Callable[[api.ConsumeRequest], None],
        topic: str,
        topic_id: int,
        codec: Codec | None,
    ) -> None:
        self._acknowledgements = acknowledgements
        self._send = send
        self._codec = codec
        self.topic = topic
        self.topic_id = topic_id
        self.index: int | None = None
        self.reliable = True
        self.acks = AckRanges()
        self.cumulative = 0
        self.repeated: Ranges = []
        self.seeking = 0
        self.void = False

    def after_seek(self, ticket: int) -> ConsumedTopic:
        """Return the topic as it is after a seek; acknowledgements of earlier messages are void."""
        state = ConsumedTopic(self._acknowledgements, self._send, self.topic, self.topic_id, self._codec)
        state.reliable, state.seeking, state.index = self.reliable, ticket, self.index
        self.end()
        return state

    def end(self) -> None:
        """Make what was received void."""
        self.void, self.index = True, None

    def ack(self, message: Message) -> Awaitable[None]:
        """Acknowledge a message; it leaves with others."""
        if message.position and not self.void:
            acks = self.acks
            if not acks.count:
                self._acknowledgements.mark_dirty(self)
            acks.add(message.position)
            self._acknowledgements.note()
        return self._acknowledgements.done

    def ack_all(self, messages: Sequence[Message]) -> Awaitable[None]:
        """Acknowledge messages; they leave together."""
        positions = [message.position for message in messages]
        if positions[0] and not self.void:
            self._acknowledgements.mark_dirty(self)
            self.acks.add_all(positions)
            self._acknowledgements.note(len(positions))
        return self._acknowledgements.done

    def ack_cumulative(self, message: Message) -> Awaitable[None]:
        """Acknowledge a message and all before it."""
        if message.position and not self.void:
            self._acknowledgements.mark_dirty(self)
            self.cumulative = max(self.cumulative, message.position)
            self._acknowledgements.note()
        return self._acknowledgements.done

    def nack(self, message: Message, delay_s: float | None, reason: str) -> Awaitable[None]:
        """Give a message back."""
        if message.position and not self.void and self.index is not None:
            nack = api.Nack(topic=self.index, reason=reason)
            nack.ranges.add(first=message.position, last=message.position)
            if delay_s is not None:
                nack.delay_ms = round(delay_s * 1000)
            self._send(api.ConsumeRequest(nack=nack))
            self._acknowledgements.note_nack()
        return self._acknowledgements.done

    def decode(self, payload: bytes) -> Any:
        """Return what the consumer's codec makes of a payload."""
        return payload if self._codec is None else self._codec.decode(payload)
