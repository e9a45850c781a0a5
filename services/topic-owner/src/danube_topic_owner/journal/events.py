"""The facts an owner journals, and the form of a journal record: a batch of them (architecture D7)."""

from __future__ import annotations

import msgspec

from danube_common.errors import UNDECODABLE, CorruptData
from danube_common.model.producer import AccessMode
from danube_common.model.subscription import SubscriptionType
from danube_topic_owner.journal.cursor import Range


class Claimed(msgspec.Struct, tag="claimed", frozen=True):
    """A new owner took over; writing this fences the one before."""

    epoch: int
    instance_id: str


class ProducerCreated(msgspec.Struct, tag="producer+", frozen=True):
    """Also written when a producer's access mode changes."""

    topic_id: int
    topic: str
    producer_id: int
    name: str
    access_mode: AccessMode


class ProducerRemoved(msgspec.Struct, tag="producer-", frozen=True):
    producer_id: int


class SubscriptionCreated(msgspec.Struct, tag="subscription+", frozen=True):
    topic_id: int
    topic: str
    name: str
    subscription_type: SubscriptionType
    mark_delete: int


class SubscriptionRemoved(msgspec.Struct, tag="subscription-", frozen=True):
    topic_id: int
    name: str


class ConsumerCreated(msgspec.Struct, tag="consumer+", frozen=True):
    topic_id: int
    subscription: str
    consumer_id: int
    name: str


class ConsumerRemoved(msgspec.Struct, tag="consumer-", frozen=True):
    consumer_id: int


class CursorMoved(msgspec.Struct, tag="cursor", frozen=True):
    """Absolute: everything up to ``mark_delete``, and ``acked`` beyond it, is acknowledged."""

    topic_id: int
    subscription: str
    mark_delete: int
    acked: list[Range]


class MessagesLost(msgspec.Struct, tag="lost", frozen=True):
    """Absolute: so many messages expired before the subscription acknowledged them, over its life."""

    topic_id: int
    subscription: str
    total: int


class TopicRemoved(msgspec.Struct, tag="topic-", frozen=True):
    topic_id: int


class LogRestarted(msgspec.Struct, tag="log-restarted", frozen=True):
    """The bundle's volatile log began anew (memory family): every cursor starts over."""

    at_ms: int


class LogSeen(msgspec.Struct, tag="log-seen", frozen=True):
    """How far the log was read, and which frame stood there, to recognise a volatile log that began anew."""

    sequence: int
    frame_id: str


Fact = (
    ProducerCreated
    | SubscriptionCreated
    | ConsumerCreated
    | CursorMoved
    | MessagesLost
    | LogRestarted
    | LogSeen
)


class SnapshotTaken(msgspec.Struct, tag="snapshot", frozen=True):
    """Everything that was true: the facts that rebuild it. What came before it in the journal may go."""

    epoch: int
    facts: list[Fact]


Event = (
    Claimed
    | ProducerCreated
    | ProducerRemoved
    | SubscriptionCreated
    | SubscriptionRemoved
    | ConsumerCreated
    | ConsumerRemoved
    | CursorMoved
    | MessagesLost
    | TopicRemoved
    | LogRestarted
    | LogSeen
    | SnapshotTaken
)

_ENCODER = msgspec.msgpack.Encoder()
_DECODER: msgspec.msgpack.Decoder[list[Event]] = msgspec.msgpack.Decoder(list[Event])


def encode_events(events: list[Event]) -> bytes:
    return _ENCODER.encode(events)


def decode_events(data: bytes) -> list[Event]:
    """Raises CorruptData."""
    try:
        return _DECODER.decode(data)
    except UNDECODABLE as error:
        raise CorruptData(f"not a journal record: {error}") from None
