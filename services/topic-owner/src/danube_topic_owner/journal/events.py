"""The events that an owner journals. A journal record is a list of them (docs/wire/formats.md)."""

from __future__ import annotations

import msgspec

from danube_common.errors import UNDECODABLE, CorruptData
from danube_common.model.producer import AccessMode
from danube_common.model.subscription import SubscriptionType
from danube_topic_owner.journal.cursor import Range


class Claimed(msgspec.Struct, tag="claimed", frozen=True):
    """A new owner took over. Writing this event fences the previous owner."""

    epoch: int
    instance_id: str


class ProducerCreated(msgspec.Struct, tag="producer+", frozen=True):
    """A producer was created, or its access mode has changed."""

    topic_id: int
    topic: str
    producer_id: int
    name: str
    access_mode: AccessMode


class ProducerRemoved(msgspec.Struct, tag="producer-", frozen=True):
    """A producer was removed, to make room for others."""

    producer_id: int


class SubscriptionCreated(msgspec.Struct, tag="subscription+", frozen=True):
    """A subscription was created with its cursor at ``mark_delete``."""

    topic_id: int
    topic: str
    name: str
    subscription_type: SubscriptionType
    mark_delete: int


class SubscriptionRemoved(msgspec.Struct, tag="subscription-", frozen=True):
    """A subscription was deleted, with its cursor and consumers."""

    topic_id: int
    name: str


class ConsumerCreated(msgspec.Struct, tag="consumer+", frozen=True):
    """A consumer subscribed for the first time."""

    topic_id: int
    subscription: str
    consumer_id: int
    name: str


class ConsumerRemoved(msgspec.Struct, tag="consumer-", frozen=True):
    """A consumer without a stream was removed, to make room for others."""

    consumer_id: int


class CursorMoved(msgspec.Struct, tag="cursor", frozen=True):
    """Where a cursor is: every position up to ``mark_delete`` and the ranges ``acked`` are acknowledged."""

    topic_id: int
    subscription: str
    mark_delete: int
    acked: list[Range]


class MessagesLost(msgspec.Struct, tag="lost", frozen=True):
    """A lower bound of the messages that expired before a subscription acknowledged them, over its life."""

    topic_id: int
    subscription: str
    total: int


class LossesTold(msgspec.Struct, tag="losses-told", frozen=True):
    """How many of the lost messages of a subscription its consumers have been told of, over its life."""

    topic_id: int
    subscription: str
    total: int


class TopicRemoved(msgspec.Struct, tag="topic-", frozen=True):
    """A topic was deleted, with everything that belongs to it."""

    topic_id: int


class LogRestarted(msgspec.Struct, tag="log-restarted", frozen=True):
    """The log of a bundle of the memory family began anew: every cursor starts over."""

    at_ms: int


class LogSeen(msgspec.Struct, tag="log-seen", frozen=True):
    """The last frame that was read of a volatile log: another frame there tells that the log began anew."""

    sequence: int
    frame_id: str


Fact = (
    ProducerCreated
    | SubscriptionCreated
    | ConsumerCreated
    | CursorMoved
    | MessagesLost
    | LossesTold
    | LogRestarted
    | LogSeen
)


class SnapshotTaken(msgspec.Struct, tag="snapshot", frozen=True):
    """The facts that rebuild the whole state. Earlier records of the journal may be discarded."""

    epoch: int
    facts: list[Fact]


Event = (
    Fact | Claimed | ProducerRemoved | SubscriptionRemoved | ConsumerRemoved | TopicRemoved | SnapshotTaken
)

_ENCODER = msgspec.msgpack.Encoder()
_DECODER: msgspec.msgpack.Decoder[list[Event]] = msgspec.msgpack.Decoder(list[Event])


def encode_events(events: list[Event]) -> bytes:
    """Return a journal record."""
    return _ENCODER.encode(events)


def decode_events(data: bytes) -> list[Event]:
    """Return the events of a journal record. Raises CorruptData."""
    try:
        return _DECODER.decode(data)
    except UNDECODABLE as error:
        raise CorruptData(f"not a journal record: {error}") from None
