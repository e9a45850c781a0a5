"""The owner protocol: what gateways, storage and the admin service ask topic-owners.

Requests go to the `owner_subject` of a bundle and its owner's epoch, so a replaced owner receives no
requests. A request carries absolute values (a set, a total, a position), never increments, so it may be
repeated.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from danube_common.errors import UNDECODABLE, CorruptData
from danube_common.model.bundle import Bundle
from danube_common.model.failure_policy import FailurePolicy
from danube_common.model.producer import AccessMode
from danube_common.model.subscription import StartPosition, SubscriptionType
from danube_common.wire.envelope import Done, Protocol

ACKS_PER_BATCH_MAX = 10_000
"""Acknowledgements in one request: each a position or a range of adjacent ones."""
ACKED_POSITIONS_MAX = 1_000_000
"""Positions that the ranges of one request have in all, for one subscription."""
SESSIONS_PER_SYNC_MAX = 10_000
TOUCHED_PRODUCERS_MAX = 10_000


def owner_subject(bundle: Bundle, epoch: int) -> str:
    """The subject of requests to the owner of ``bundle`` in ``epoch``."""
    return f"danube.owner.{bundle}.{epoch}"


def non_reliable_subject(bundle: Bundle) -> str:
    """The subject of non-reliable frames, from gateway to owner, at most once."""
    return f"danube.fast.{bundle}"


def gateway_subject(instance_id: str) -> str:
    """The subject of deliveries and notices from owners to one gateway."""
    return f"danube.gateway.{instance_id}"


class CreateProducer(msgspec.Struct, tag="create-producer", frozen=True):
    """Create a producer, or find the existing one of that name. Reply: ProducerFound.

    Errors: AlreadyExists (an active producer conflicts with exclusive access), LimitExceeded,
    NotFound (topic).
    """

    topic: str
    producer_name: str
    access_mode: AccessMode


class FindProducer(msgspec.Struct, tag="find-producer", frozen=True):
    """Find a producer by id. Reply: ProducerFound. Errors: NotFound."""

    producer_id: int


class FindSequence(msgspec.Struct, tag="find-sequence", frozen=True):
    """Ask for the last stored sequence of an idempotent producer. Reply: SequenceFound.

    The owner first reads everything that the log holds when the request comes.
    Errors: NotFound (topic), Unavailable (the log was not read in time).
    """

    topic: str
    producer_name: str


class TouchProducers(msgspec.Struct, tag="touch-producers", frozen=True):
    """Report producers that are active at a gateway. Reply: UnknownIds, the ids that do not exist."""

    producer_ids: list[int]


class CreateConsumer(msgspec.Struct, tag="create-consumer", frozen=True):
    """Create a consumer, and its subscription if it is missing. Reply: ConsumerFound.

    Errors: Refused (another subscription type, an exclusive subscription that has a consumer, or another
    client took over from ``client``), LimitExceeded, NotFound (topic).

    Attributes:
        client: the client's connection, as in `Attach`.
        key_filters: globs of the keys that it takes, of a key-shared subscription; empty for all keys.
    """

    topic: str
    subscription: str
    subscription_type: SubscriptionType
    consumer_name: str
    client: str = ""
    key_filters: tuple[str, ...] = ()


class FindConsumer(msgspec.Struct, tag="find-consumer", frozen=True):
    """Find a consumer by id. Reply: ConsumerFound. Errors: NotFound."""

    consumer_id: int


class Attach(msgspec.Struct, tag="attach", frozen=True):
    """Start a session: a client opened its stream, or a gateway lost deliveries. Reply: ConsumerFound.

    Errors: NotFound, Refused (an exclusive subscription that has a consumer, a newer stream of the consumer,
    or another client took over from ``client`` and its stream is open).

    Attributes:
        consumer_id: the consumer of the stream.
        gateway: the gateway process; deliveries go to its `gateway_subject`.
        session: number of the session. It grows with each attach of the consumer; the owner keeps the
            session with the greatest number.
        messages_total: credit: messages that the owner may send from the session's start on.
        bytes_total: the same credit in bytes.
        resumes: number of the session that this one continues; 0 for a new stream.
        received: number of the last delivery of ``resumes`` that arrived.
        prefetch: unacknowledged messages that the consumer takes at once; 0 leaves it to the owner.
        client: the client's connection, unique among all gateways; empty if it is not known.
    """

    consumer_id: int
    gateway: str
    session: int
    messages_total: int
    bytes_total: int
    resumes: int = 0
    received: int = 0
    prefetch: int = 0
    client: str = ""


class Detach(msgspec.Struct, tag="detach", frozen=True):
    """End a session. Reply: Done, also if the session is unknown."""

    consumer_id: int
    session: int


class SessionState(msgspec.Struct, frozen=True, array_like=True):
    """The absolute state of one session at its gateway; credit counts from the session's start."""

    consumer_id: int
    session: int
    messages_total: int
    bytes_total: int


class Sync(msgspec.Struct, tag="sync", frozen=True):
    """All sessions of a gateway in the bundle, sent at least every SYNC_INTERVAL_S. Reply: Synced.

    The owner ends sessions that are not listed, and all sessions of a gateway that sent no Sync for
    GATEWAY_SILENCE_S.
    """

    gateway: str
    sessions: list[SessionState]


class Credit(msgspec.Struct, tag="credit", frozen=True):
    """Renew credit after a client read from its stream. It has no reply: the next Sync repairs a loss."""

    sessions: list[SessionState]


class TopicAcks(msgspec.Struct, frozen=True, array_like=True):
    """Acknowledged positions of one subscription, of messages that were delivered in its ``generation``.

    ``ranges`` holds the first position and the number of positions of each range in turn (`ack_ranges`).
    """

    topic: str
    subscription: str
    ranges: list[int]
    generation: int = 0

    def spans(self) -> list[tuple[int, int]]:
        """Return the first and last position of each range. Raises CorruptData."""
        firsts, counts = self.ranges[::2], self.ranges[1::2]
        if len(firsts) != len(counts) or min(counts, default=1) < 1 or sum(counts) > ACKED_POSITIONS_MAX:
            raise CorruptData(f"not at most {ACKED_POSITIONS_MAX} acknowledgements: {self.ranges[:4]}")
        return [(first, first + count - 1) for first, count in zip(firsts, counts, strict=True)]


def ack_ranges(positions: Iterable[int]) -> list[int]:
    """Return the ranges of positions in any order: first and count of one range after the other.

    Positions of one section of a frame are consecutive: what is acknowledged in order is few ranges.
    """
    ranges: list[int] = []
    after = -1
    for position in sorted(set(positions)):
        if position == after:
            ranges[-1] += 1
        else:
            ranges += (position, 1)
        after = position + 1
    return ranges


def span_ranges(spans: Iterable[tuple[int, int]]) -> list[int]:
    """Return the same of spans of positions (first and last) in any order, which may overlap."""
    ranges: list[int] = []
    after = -1
    for first, last in sorted(spans):
        if first > after or not ranges:
            ranges += (first, last - first + 1)
        elif last >= after:
            ranges[-1] += last - after + 1
        after = max(after, last + 1)
    return ranges


class Acks(msgspec.Struct, tag="acks", frozen=True):
    """Acknowledge messages. Reply: Acked. Positions of messages that are not in flight are ignored."""

    batches: list[TopicAcks]


class Nack(msgspec.Struct, tag="nack", frozen=True):
    """Acknowledge messages negatively: they come again, or are poison. Reply: Done.

    Errors: NotFound (no such topic or subscription). Positions of messages that are not in flight are
    ignored, and so is a generation that is over. A request that is repeated after one of the messages was
    delivered again counts a second failure of it.

    Attributes:
        first: the lowest position.
        last: the highest position.
        delay_ms: wait at least so long, as far as the failure policy allows.
        reason: why, for people and for the dead letter.
    """

    topic: str
    subscription: str
    first: int
    last: int
    generation: int = 0
    delay_ms: int = 0
    reason: str = ""


class FindTopic(msgspec.Struct, tag="find-topic", frozen=True):
    """Ask whether the owner serves a topic. Reply: Done. Errors: NotFound."""

    topic: str


class ListSubscriptions(msgspec.Struct, tag="list-subscriptions", frozen=True):
    """List the subscriptions of a topic. Reply: Subscriptions. Errors: NotFound (topic)."""

    topic: str


class Unsubscribe(msgspec.Struct, tag="unsubscribe", frozen=True):
    """Delete a subscription and its cursor.

    Reply: Done. Errors: NotFound, Refused (a consumer is connected).
    """

    topic: str
    subscription: str


class CreateSubscription(msgspec.Struct, tag="create-subscription", frozen=True):
    """Create a subscription without a consumer. Reply: SubscriptionFound; an existing one keeps its cursor.

    Errors: AlreadyExists (of another type), InvalidInput (the start is invalid, or a non-reliable topic is
    given another start than earliest or latest), LimitExceeded, NotFound (topic), Unavailable.

    Each consumer that asks for no prefetch of its own takes ``prefetch`` unacknowledged messages; 0 leaves it
    to the owner.
    """

    topic: str
    subscription: str
    subscription_type: SubscriptionType
    start: StartPosition = StartPosition()
    prefetch: int = 0


class ResetSubscription(msgspec.Struct, tag="reset-subscription", frozen=True):
    """Move a cursor forward or back. Reply: SubscriptionFound.

    Acknowledged messages after the new cursor are delivered again. The owner ends the streams of the
    subscription's consumers; a new stream starts at the new cursor.
    Errors: InvalidInput (the start is invalid), NotFound, Refused (a non-reliable topic), Unavailable.
    """

    topic: str
    subscription: str
    start: StartPosition


class SetFailurePolicy(msgspec.Struct, tag="set-failure-policy", frozen=True):
    """Give a subscription another failure policy, which also decides on what failed before. Reply: Done.

    Errors: InvalidInput (the policy cannot be kept), NotFound, Refused (a non-reliable topic).
    """

    topic: str
    subscription: str
    policy: FailurePolicy


class GetFailurePolicy(msgspec.Struct, tag="get-failure-policy", frozen=True):
    """Ask for a subscription's failure policy. Reply: FailurePolicyFound.

    Errors: NotFound, Refused (a non-reliable topic).
    """

    topic: str
    subscription: str


class SetDispatchConfig(msgspec.Struct, tag="set-dispatch-config", frozen=True):
    """Bound the unacknowledged messages of a subscription, of all its consumers together. Reply: Done.

    A lower bound than before takes back nothing that was sent.

    Errors: InvalidInput (not 1 to MAX_UNACKED_MESSAGES), NotFound, Refused (a non-reliable topic).
    """

    topic: str
    subscription: str
    max_unacked_messages: int


class GetDispatchConfig(msgspec.Struct, tag="get-dispatch-config", frozen=True):
    """Ask for what `SetDispatchConfig` has set. Reply: DispatchConfigFound.

    Errors: NotFound, Refused (a non-reliable topic).
    """

    topic: str
    subscription: str


class TellLosses(msgspec.Struct, tag="tell-losses", frozen=True):
    """Ask how many messages a subscription lost, and report a total that a consumer was told of.

    Reply: LossTotals. Errors: NotFound.

    Attributes:
        told: the total that consumers know of; a total below an earlier one changes nothing.
    """

    topic: str
    subscription: str
    told: int = 0


class DescribeTopic(msgspec.Struct, tag="describe-topic", frozen=True):
    """Describe a topic. Reply: TopicDescription. Errors: NotFound (topic)."""

    topic: str


class FindBounds(msgspec.Struct, tag="find-bounds", frozen=True):
    """Ask what a topic holds and who consumes it. Reply: BoundsFound. Errors: NotFound (topic)."""

    topic: str


class ReadTopic(msgspec.Struct, tag="read-topic", frozen=True):
    """Read messages of a reliable topic; no subscription knows of it. Reply: TopicRead.

    Errors: InvalidInput (an invalid start, or a topic that keeps no messages), NotFound (topic), Unavailable.

    Attributes:
        position: the first position to read, unless ``start`` is given.
        start: where the first request of a reading begins.
        bytes_max: about so many bytes of messages are returned, and at least one message.
    """

    topic: str
    position: int = 0
    start: StartPosition | None = None
    bytes_max: int = 1 << 20


class RetentionFloors(msgspec.Struct, tag="retention-floors", frozen=True):
    """Ask for the journaled mark-delete positions that limit retention in the bundle. Reply: Floors."""


OwnerRequest = (
    CreateProducer
    | FindProducer
    | FindSequence
    | TouchProducers
    | CreateConsumer
    | FindConsumer
    | Attach
    | Detach
    | Sync
    | Credit
    | Acks
    | Nack
    | FindTopic
    | ListSubscriptions
    | Unsubscribe
    | CreateSubscription
    | ResetSubscription
    | SetFailurePolicy
    | GetFailurePolicy
    | SetDispatchConfig
    | GetDispatchConfig
    | TellLosses
    | DescribeTopic
    | FindBounds
    | ReadTopic
    | RetentionFloors
)


class ProducerFound(msgspec.Struct, tag="producer", frozen=True):
    """The producer that was created or found."""

    producer_id: int
    producer_name: str
    topic: str
    topic_id: int


class SequenceFound(msgspec.Struct, tag="sequence", frozen=True):
    """The sequence of the producer's last stored message; 0 without one."""

    last: int


class ConsumerFound(msgspec.Struct, tag="consumer", frozen=True):
    """The consumer that was created or found; ``attached``: whether it has a stream.

    ``generation`` is the subscription's; acknowledgements of what the stream delivers carry it. ``prefetch``
    bounds the unacknowledged messages of each of its consumers that asks for no bound; 0 is none.
    """

    consumer_id: int
    consumer_name: str
    topic: str
    subscription: str
    reliable: bool
    attached: bool
    generation: int = 0
    prefetch: int = 0


class UnknownIds(msgspec.Struct, tag="unknown-ids", frozen=True):
    """The ids of a request that do not exist."""

    ids: list[int]


class Synced(msgspec.Struct, tag="synced", frozen=True):
    """How the sessions of a gateway stand.

    Attributes:
        unknown: ids of consumers to attach again.
        sent: the number of the last delivery by consumer id.
        standby: ids of consumers that get nothing as long as another one is active.
        caught_up: ids of consumers whose subscription has nothing that it has not sent.
        losses: what subscriptions lost and what of it their consumers were told (`LossTotals`), by consumer
            id; only where the two differ.
    """

    unknown: list[int]
    sent: dict[int, int]
    standby: list[int] = []
    caught_up: list[int] = []
    losses: dict[int, tuple[int, int]] = {}


class Acked(msgspec.Struct, tag="acked", frozen=True):
    """``unknown``: (topic, subscription) pairs that do not exist."""

    unknown: list[tuple[str, str]]


class SubscriptionInfo(msgspec.Struct, frozen=True):
    """A subscription and its connected consumers."""

    name: str
    subscription_type: SubscriptionType
    consumers: list[str]


class Subscriptions(msgspec.Struct, tag="subscriptions", frozen=True):
    """The subscriptions of a topic."""

    subscriptions: list[SubscriptionInfo]


class SubscriptionFound(msgspec.Struct, tag="subscription", frozen=True):
    """``created``: whether it is new; ``mark_delete``: positions up to it are acknowledged or skipped."""

    subscription: str
    created: bool
    mark_delete: int


class FailurePolicyFound(msgspec.Struct, tag="failure-policy", frozen=True):
    """The failure policy of a subscription, and its type."""

    policy: FailurePolicy
    subscription_type: SubscriptionType


class DispatchConfigFound(msgspec.Struct, tag="dispatch-config", frozen=True):
    """What was set for a subscription; 0 is the owner's bound."""

    max_unacked_messages: int


class LossTotals(msgspec.Struct, tag="loss-totals", frozen=True):
    """Messages that a subscription lost, and how many were told of.

    They count over its life (a lower bound) or, for a non-reliable topic, since its present owner serves it.
    """

    lost: int
    told: int


class SubscriptionDetail(msgspec.Struct, frozen=True):
    """One subscription of a `TopicDescription`.

    Attributes:
        consumers: names of the consumers that have a stream.
        mark_delete: all positions up to this one are acknowledged; 0 if none is.
        backlog: messages that are not acknowledged, delivered or not.
        backlog_exact: whether ``backlog`` is exact; otherwise it is a lower bound.
        unacked: messages delivered and not acknowledged; part of ``backlog``.
        lost: lower bound of the messages that expired before they were acknowledged, over its life.
        blocked: why messages wait (a segment in quarantine, storage that does not answer, poison), or empty.
        failed: messages that wait to be delivered again, or are poison; part of ``backlog``.
        key_filters: of the consumers that have a stream and filters of keys, by consumer name.
        holes: stretches of unacknowledged messages before acknowledged ones.
        acked_ahead: messages acknowledged beyond ``mark_delete``.
    """

    name: str
    subscription_type: SubscriptionType
    consumers: list[str]
    mark_delete: int
    backlog: int
    backlog_exact: bool
    unacked: int
    lost: int = 0
    blocked: str = ""
    prefetch: int = 0
    failed: int = 0
    key_filters: dict[str, tuple[str, ...]] = {}
    holes: int = 0
    acked_ahead: int = 0


class TopicDescription(msgspec.Struct, tag="topic-description", frozen=True):
    """A topic as its owner knows it.

    Attributes:
        producers: names of the producers that were active lately.
        log_first_sequence: the oldest sequence in the bundle's log.
        log_last_sequence: the newest sequence in the log; below the oldest if the log is empty.
        archived_through: the last sequence of the bundle that is archived in segments; 0 if none is.
    """

    topic: str
    topic_id: int
    bundle: str
    epoch: int
    producers: list[str]
    subscriptions: list[SubscriptionDetail]
    log_first_sequence: int
    log_last_sequence: int
    archived_through: int


class BoundsFound(msgspec.Struct, tag="bounds", frozen=True):
    """What a topic holds and who consumes it.

    Attributes:
        earliest: no retained message is below this position; 0 for a non-reliable topic.
        end: every stored message is below this position; 0 for a non-reliable topic.
        consumers: how many consumers have a stream, of all subscriptions together.
        subscriptions: how many there are.
    """

    earliest: int
    end: int
    consumers: int
    subscriptions: int


class TopicRead(msgspec.Struct, tag="topic-read", frozen=True):
    """Messages of a topic in order.

    Attributes:
        runs: of each run the position and the offset of its first message, the number of messages, and a
            table of where messages end (as in the section of a frame) with the messages behind it.
        position: the next one to read.
        end: the position behind everything that the log has now; ``position`` may be above.
        missing: messages before ``position`` that are retained no more, or damaged: a lower bound.
    """

    runs: list[tuple[int, int, int, bytes]]
    position: int
    end: int
    missing: int = 0


class Floors(msgspec.Struct, tag="floors", frozen=True):
    """What the owner's journal says that the log need not keep.

    Attributes:
        floors: the lowest mark-delete of each topic's subscriptions, by topic id; absent without any.
        sequences_through: up to which log sequence it has what idempotent producers stored.
    """

    floors: dict[int, int]
    sequences_through: int = 0


OwnerReply = (
    ProducerFound
    | SequenceFound
    | ConsumerFound
    | UnknownIds
    | Synced
    | Acked
    | Subscriptions
    | SubscriptionFound
    | FailurePolicyFound
    | DispatchConfigFound
    | LossTotals
    | TopicDescription
    | BoundsFound
    | TopicRead
    | Floors
    | Done
)

MAX_UNACKED_MESSAGES = 10_000
"""The largest bound of unacknowledged messages that can be set for a subscription."""
SYNC_INTERVAL_S = 1.0
GATEWAY_SILENCE_S = 3.0

OWNER: Protocol[OwnerRequest, OwnerReply] = Protocol("an owner", OwnerRequest, OwnerReply)


class SessionEnded(msgspec.Struct, tag="session-ended", frozen=True):
    """Owner to gateway: end the stream, because the topic is gone or a newer stream took over.

    ``taken_over``: the client is told ``reason`` as an error; otherwise its stream ends without one.
    """

    epoch: int
    consumer_id: int
    session: int
    reason: str
    taken_over: bool = False


def taken_over(consumer_name: str) -> str:
    """Return what a client is told from which another one has taken over."""
    return f"another client took over as consumer {consumer_name!r}: each consumer needs a name of its own"


def encode_notice(notice: SessionEnded) -> bytes:
    """Encode a notice."""
    return OWNER.encode(notice)


_NOTICES: msgspec.msgpack.Decoder[SessionEnded] = msgspec.msgpack.Decoder(SessionEnded)


def decode_notice(data: bytes) -> SessionEnded:
    """Decode a notice; raises CorruptData. A delivery on the same subject starts with its magic byte."""
    try:
        return _NOTICES.decode(data)
    except UNDECODABLE as error:
        raise CorruptData(f"not a notice: {error}") from None
