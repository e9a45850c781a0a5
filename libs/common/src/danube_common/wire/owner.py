"""The owner protocol: what gateways, storage and the admin service ask topic-owners.

Requests go to `owner_subject` of the bundle and its owner's epoch, so an owner that was replaced
hears nothing. Requests are absolute (a set, a total, a position), never increments: repeating one
changes nothing.
"""

from __future__ import annotations

import msgspec

from danube_common.errors import UNDECODABLE, CorruptData
from danube_common.model.bundle import Bundle
from danube_common.model.producer import AccessMode
from danube_common.model.subscription import StartPosition, SubscriptionType
from danube_common.wire.envelope import Done, Protocol

ACKS_PER_BATCH_MAX = 10_000
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
    """Reply.

    ProducerFound. Errors: AlreadyExists (an exclusive producer exists), LimitExceeded, NotFound (topic).
    """

    topic: str
    producer_name: str
    access_mode: AccessMode


class FindProducer(msgspec.Struct, tag="find-producer", frozen=True):
    """Reply: ProducerFound. Errors: NotFound."""

    producer_id: int


class TouchProducers(msgspec.Struct, tag="touch-producers", frozen=True):
    """These producers are alive at a gateway. Reply: UnknownIds with those that do not exist."""

    producer_ids: list[int]


class CreateConsumer(msgspec.Struct, tag="create-consumer", frozen=True):
    """Reply: ConsumerFound. Errors: Refused (other type, or exclusive), LimitExceeded, NotFound (topic)."""

    topic: str
    subscription: str
    subscription_type: SubscriptionType
    consumer_name: str


class FindConsumer(msgspec.Struct, tag="find-consumer", frozen=True):
    """Reply: ConsumerFound. Errors: NotFound."""

    consumer_id: int


class Attach(msgspec.Struct, tag="attach", frozen=True):
    """A client opened its stream, or a gateway lost messages and asks for them again. Reply: ConsumerFound.

    Attributes:
        consumer_id: whose stream.
        gateway: the gateway process; deliveries go to its `gateway_subject`.
        session: greater for every stream of this consumer, so that the newest one wins; a resumed
            attach gives a new session and names the one it continues.
        messages_total: the credit, counted from the session's start.
        bytes_total: likewise in bytes.
        resumes: the session whose deliveries up to ``received`` did arrive; 0 for a new stream.
        received: see ``resumes``.
    """

    consumer_id: int
    gateway: str
    session: int
    messages_total: int
    bytes_total: int
    resumes: int = 0
    received: int = 0


class Detach(msgspec.Struct, tag="detach", frozen=True):
    """The stream of this session ended. Reply: Done, also for an unknown session."""

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

    An owner ends its sessions of a gateway it has not heard for GATEWAY_SILENCE_S.
    """

    gateway: str
    sessions: list[SessionState]


class Credit(msgspec.Struct, tag="credit", frozen=True):
    """Sent without a reply as the client drains its stream. The next Sync repairs a loss."""

    sessions: list[SessionState]


class TopicAcks(msgspec.Struct, frozen=True, array_like=True):
    """Acknowledged positions of one subscription."""

    topic: str
    subscription: str
    positions: list[int]


class Acks(msgspec.Struct, tag="acks", frozen=True):
    """Reply: Acked. Positions of messages that are not in flight are ignored."""

    batches: list[TopicAcks]


class FindTopic(msgspec.Struct, tag="find-topic", frozen=True):
    """Ask whether the owner serves a topic. → Done. Refused: NotFound."""

    topic: str


class ListSubscriptions(msgspec.Struct, tag="list-subscriptions", frozen=True):
    """Reply: Subscriptions. Errors: NotFound (topic)."""

    topic: str


class Unsubscribe(msgspec.Struct, tag="unsubscribe", frozen=True):
    """Delete a subscription and its cursor.

    Reply: Done. Errors: NotFound, Refused (a consumer is connected).
    """

    topic: str
    subscription: str


class CreateSubscription(msgspec.Struct, tag="create-subscription", frozen=True):
    """Create a subscription without a consumer. Reply: SubscriptionFound; an existing one keeps its cursor.

    Refused: AlreadyExists (it is of another type), InvalidInput (a start that is none, or another than
    earliest or latest of a topic that keeps nothing), LimitExceeded, NotFound (topic), Unavailable.
    """

    topic: str
    subscription: str
    subscription_type: SubscriptionType
    start: StartPosition = StartPosition()


class ResetSubscription(msgspec.Struct, tag="reset-subscription", frozen=True):
    """Move a cursor, forward or back. Reply: SubscriptionFound. Acknowledged messages beyond it come again.

    Its consumers' streams are ended; they go on from there when they subscribe again.
    Refused: InvalidInput (a start that is none), NotFound, Refused (the topic keeps nothing), Unavailable.
    """

    topic: str
    subscription: str
    start: StartPosition


class DescribeTopic(msgspec.Struct, tag="describe-topic", frozen=True):
    """Reply: TopicDescription. Errors: NotFound (topic)."""

    topic: str


class RetentionFloors(msgspec.Struct, tag="retention-floors", frozen=True):
    """Ask what every subscription of the bundle has acknowledged, as journaled. Reply: Floors."""


OwnerRequest = (
    CreateProducer
    | FindProducer
    | TouchProducers
    | CreateConsumer
    | FindConsumer
    | Attach
    | Detach
    | Sync
    | Credit
    | Acks
    | FindTopic
    | ListSubscriptions
    | Unsubscribe
    | CreateSubscription
    | ResetSubscription
    | DescribeTopic
    | RetentionFloors
)


class ProducerFound(msgspec.Struct, tag="producer", frozen=True):
    """A producer."""

    producer_id: int
    producer_name: str
    topic: str
    topic_id: int


class ConsumerFound(msgspec.Struct, tag="consumer", frozen=True):
    """A consumer; ``attached``: whether it has a stream."""

    consumer_id: int
    consumer_name: str
    topic: str
    subscription: str
    reliable: bool
    attached: bool


class UnknownIds(msgspec.Struct, tag="unknown-ids", frozen=True):
    """Ids that do not exist."""

    ids: list[int]


class Synced(msgspec.Struct, tag="synced", frozen=True):
    """``unknown``: consumer ids to attach again; ``sent``: last delivery number by consumer id."""

    unknown: list[int]
    sent: dict[int, int]


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
    """``created``: whether it is new. All positions up to ``mark_delete`` are acknowledged or skipped."""

    subscription: str
    created: bool
    mark_delete: int


class SubscriptionDetail(msgspec.Struct, frozen=True):
    """One subscription of a `TopicDescription`.

    Attributes:
        consumers: names of those with an open stream.
        mark_delete: everything at or below this position is acknowledged; 0 if it is before all.
        backlog: messages that are not acknowledged, read or not.
        backlog_exact: whether ``backlog`` is that number, or only the least that it can be.
        unacked: messages delivered and not acknowledged; part of ``backlog``.
        lost: lower bound of the messages that expired before they were acknowledged, over its life.
        blocked: why it does not go on (a segment in quarantine, storage that does not answer), or empty.
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


class TopicDescription(msgspec.Struct, tag="topic-description", frozen=True):
    """What the owner of a topic knows of it.

    Attributes:
        producers: names of those that showed life lately.
        log_first_sequence: the oldest sequence that the bundle's log keeps, of any topic.
        log_last_sequence: the newest one; the log is empty if that is below the oldest.
        archived_through: the last sequence of the bundle that is in segments; 0 if none is.
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


class Floors(msgspec.Struct, tag="floors", frozen=True):
    """The least mark-delete of each topic's subscriptions, by topic id; topics without any are absent."""

    floors: dict[int, int]


OwnerReply = (
    ProducerFound
    | ConsumerFound
    | UnknownIds
    | Synced
    | Acked
    | Subscriptions
    | SubscriptionFound
    | TopicDescription
    | Floors
    | Done
)

SYNC_INTERVAL_S = 1.0
GATEWAY_SILENCE_S = 3.0

OWNER: Protocol[OwnerRequest, OwnerReply] = Protocol("an owner", OwnerRequest, OwnerReply)


class SessionEnded(msgspec.Struct, tag="session-ended", frozen=True):
    """Owner to gateway: end the stream, because the topic is gone or a newer stream took over."""

    epoch: int
    consumer_id: int
    session: int
    reason: str


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
