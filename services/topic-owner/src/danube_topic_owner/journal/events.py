"""The events that an owner journals. A journal record is a list of them (docs/wire/formats.md)."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from danube_common.errors import UNDECODABLE, CorruptData
from danube_common.model.failure_policy import FailurePolicy
from danube_common.model.producer import AccessMode
from danube_common.model.subscription import SubscriptionType
from danube_topic_owner.journal.cursor import Range

RECORD_BYTES_MAX = 512 * 1024
"""Bytes of a journal record, unless one event alone has more."""
RANGES_PER_EVENT_MAX = 4_000
"""Acknowledged ranges in one event, which then takes at most about 100 KB."""
FAILURES_PER_EVENT_MAX = 4_000
"""Messages that failed in one event, which then takes at most about 60 KB."""
LASTS_PER_EVENT_MAX = 4_000
"""Sequences of producers in one event, which then takes at most about 70 KB."""
COUNTS_PER_EVENT_MAX = 4_000
"""Topics whose messages are counted in one event, which then takes at most about 70 KB."""


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
    """A subscription was created with its cursor at ``mark_delete``.

    Its consumers have at most ``prefetch`` unacknowledged messages at once, unless they ask for another
    number; 0 is as many as the owner allows. ``generation`` differs from that of every earlier
    subscription of the name.
    """

    topic_id: int
    topic: str
    name: str
    subscription_type: SubscriptionType
    mark_delete: int
    prefetch: int = 0
    generation: int = 0


class SubscriptionRemoved(msgspec.Struct, tag="subscription-", frozen=True):
    """A subscription was deleted, with its cursor and consumers."""

    topic_id: int
    name: str


class ConsumerCreated(msgspec.Struct, tag="consumer+", frozen=True, omit_defaults=True):
    """A consumer subscribed for the first time, or with other filters of keys."""

    topic_id: int
    subscription: str
    consumer_id: int
    name: str
    key_filters: tuple[str, ...] = ()


class ConsumerRemoved(msgspec.Struct, tag="consumer-", frozen=True):
    """A consumer without a stream was removed, to make room for others."""

    consumer_id: int


class CursorSet(msgspec.Struct, tag="cursor", frozen=True):
    """Where a cursor is, whatever was journaled of it before.

    ``acked`` are first and last of consecutive acknowledged positions; only journals of version 0.1 have any.
    ``generation`` is the subscription's from now on; None leaves it as it is.
    """

    topic_id: int
    subscription: str
    mark_delete: int
    acked: list[tuple[int, int]]
    generation: int | None = None


class CursorMoved(msgspec.Struct, tag="acked", frozen=True):
    """How a cursor moved: its mark-delete, and the acknowledged ranges that are new or have grown."""

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


class FailurePolicySet(msgspec.Struct, tag="failure-policy", frozen=True):
    """A subscription has this failure policy from now on."""

    topic_id: int
    subscription: str
    policy: FailurePolicy


class DispatchConfigSet(msgspec.Struct, tag="dispatch-config", frozen=True):
    """A subscription has at most so many unacknowledged messages from now on; 0 is the owner's bound."""

    topic_id: int
    subscription: str
    max_unacked_messages: int


class MessagesFailed(msgspec.Struct, tag="failed", frozen=True):
    """How many deliveries of messages failed so far: pairs of a position and that number."""

    topic_id: int
    subscription: str
    failures: list[tuple[int, int]]


class GenerationReached(msgspec.Struct, tag="generation", frozen=True):
    """The next subscription of a topic has at least this generation."""

    topic_id: int
    topic: str
    generation: int


class TopicRemoved(msgspec.Struct, tag="topic-", frozen=True):
    """A topic was deleted, with everything that belongs to it."""

    topic_id: int


class ProducersStored(msgspec.Struct, tag="stored", frozen=True):
    """Last stored sequences of idempotent producers that have changed: pairs of sequence key and sequence.

    Every frame up to ``through`` of the log is in what was journaled of them; 0 says nothing of that.
    """

    through: int
    lasts: list[tuple[int, int]]


class MessagesCounted(msgspec.Struct, tag="counted", frozen=True):
    """Messages that were published to topics since they were created: pairs of topic id and that number.

    Without ``through`` more totals follow. With it, they and what was journaled before count every frame of
    the log up to there.
    """

    through: int | None
    totals: list[tuple[int, int]]


class LogRestarted(msgspec.Struct, tag="log-restarted", frozen=True):
    """The log of a bundle of the memory family began anew: every cursor starts over."""

    at_ms: int


class LogSeen(msgspec.Struct, tag="log-seen", frozen=True):
    """The last frame that was read of a volatile log: another frame there tells that the log began anew."""

    sequence: int
    frame_id: str


Fact = (
    ProducerCreated
    | GenerationReached
    | SubscriptionCreated
    | ConsumerCreated
    | CursorSet
    | CursorMoved
    | MessagesLost
    | LossesTold
    | FailurePolicySet
    | DispatchConfigSet
    | MessagesFailed
    | ProducersStored
    | MessagesCounted
    | LogRestarted
    | LogSeen
)


class SnapshotTaken(msgspec.Struct, tag="snapshot", frozen=True):
    """The facts that rebuild the whole state, as version 0.1 wrote them in one record."""

    epoch: int
    facts: list[Fact]


class SnapshotBegan(msgspec.Struct, tag="snapshot-began", frozen=True):
    """The facts up to `SnapshotEnded` rebuild the whole state; they may take several records.

    Without `SnapshotEnded` they do not count: their owner died, or has begun another snapshot.
    """

    epoch: int


class SnapshotEnded(msgspec.Struct, tag="snapshot-ended", frozen=True):
    """The state is what the facts since `SnapshotBegan` say. Earlier records may be discarded."""


Change = Fact | ProducerRemoved | SubscriptionRemoved | ConsumerRemoved | TopicRemoved

Event = Change | Claimed | SnapshotTaken | SnapshotBegan | SnapshotEnded


def cursor_moves(
    topic_id: int, subscription: str, mark_delete: int, acked: list[Range]
) -> Iterator[CursorMoved]:
    """Yield what the ranges take to journal, in events of RANGES_PER_EVENT_MAX."""
    for start in range(0, len(acked), RANGES_PER_EVENT_MAX):
        some = acked[start : start + RANGES_PER_EVENT_MAX]
        yield CursorMoved(topic_id, subscription, mark_delete, some)


def failed_messages(
    topic_id: int, subscription: str, failures: list[tuple[int, int]]
) -> Iterator[MessagesFailed]:
    """Yield what the failures take to journal, in events of FAILURES_PER_EVENT_MAX."""
    for start in range(0, len(failures), FAILURES_PER_EVENT_MAX):
        yield MessagesFailed(topic_id, subscription, failures[start : start + FAILURES_PER_EVENT_MAX])


def producers_stored(through: int, lasts: list[tuple[int, int]]) -> Iterator[ProducersStored]:
    """Yield what the sequences take to journal, in events of LASTS_PER_EVENT_MAX."""
    for start in range(0, len(lasts), LASTS_PER_EVENT_MAX):
        yield ProducersStored(0, lasts[start : start + LASTS_PER_EVENT_MAX])
    yield ProducersStored(through, [])


def messages_counted(through: int, totals: list[tuple[int, int]]) -> Iterator[MessagesCounted]:
    """Yield what the totals take to journal, in events of COUNTS_PER_EVENT_MAX."""
    for start in range(0, len(totals), COUNTS_PER_EVENT_MAX):
        yield MessagesCounted(None, totals[start : start + COUNTS_PER_EVENT_MAX])
    yield MessagesCounted(through, [])


_ENCODER = msgspec.msgpack.Encoder()
_DECODER: msgspec.msgpack.Decoder[list[Event]] = msgspec.msgpack.Decoder(list[Event])


def encode_events(events: list[Event]) -> bytes:
    """Return a journal record."""
    return _ENCODER.encode(events)


def encode_records(events: list[Event]) -> list[bytes]:
    """Return the events as one journal record, or as several ones of about RECORD_BYTES_MAX."""
    data = encode_events(events)
    if len(data) <= RECORD_BYTES_MAX or len(events) == 1:
        return [data]
    half = len(events) // 2
    return [*encode_records(events[:half]), *encode_records(events[half:])]


def decode_events(data: bytes) -> list[Event]:
    """Return the events of a journal record. Raises CorruptData."""
    try:
        return _DECODER.decode(data)
    except UNDECODABLE as error:
        raise CorruptData(
            f"not a journal record that this version knows ({error}): if a later version wrote it, "
            "upgrade this topic owner"
        ) from None
