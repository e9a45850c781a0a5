"""What gateways and the admin service say to topic-owners over the bus, and what they answer.

Requests go to `owner_subject` of the bundle and its owner's epoch, so an owner that was replaced
hears nothing. Requests are absolute (a set, a total, a position), never increments: repeating one
changes nothing (architecture D5).
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
    """Requests to the owner of ``bundle`` in ``epoch``."""
    return f"danube.owner.{bundle}.{epoch}"


def non_reliable_subject(bundle: Bundle) -> str:
    """Frames of non-reliable messages, gateway to owner, at most once."""
    return f"danube.fast.{bundle}"


def gateway_subject(instance_id: str) -> str:
    """Deliveries and notices from owners to one gateway process."""
    return f"danube.gateway.{instance_id}"


class CreateProducer(msgspec.Struct, tag="create-producer", frozen=True):
    """→ ProducerFound. Refused: AlreadyExists (exclusive place taken), LimitExceeded, NotFound (topic)."""

    topic: str
    producer_name: str
    access_mode: AccessMode


class FindProducer(msgspec.Struct, tag="find-producer", frozen=True):
    """→ ProducerFound. Refused: NotFound."""

    producer_id: int


class TouchProducers(msgspec.Struct, tag="touch-producers", frozen=True):
    """These producers showed life at a gateway. → UnknownIds with those that are no more."""

    producer_ids: list[int]


class CreateConsumer(msgspec.Struct, tag="create-consumer", frozen=True):
    """→ ConsumerFound. Refused: Refused (type differs, place taken), LimitExceeded, NotFound (topic)."""

    topic: str
    subscription: str
    subscription_type: SubscriptionType
    consumer_name: str


class FindConsumer(msgspec.Struct, tag="find-consumer", frozen=True):
    """→ ConsumerFound. Refused: NotFound."""

    consumer_id: int


class Attach(msgspec.Struct, tag="attach", frozen=True):
    """A client opened its stream, or a gateway lost messages and asks for them again. → ConsumerFound.

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
    """The stream of this session ended. → Done, also for a session that is no more."""

    consumer_id: int
    session: int


class SessionState(msgspec.Struct, frozen=True, array_like=True):
    """Absolute state of one session at its gateway; credit counts from the session's start."""

    consumer_id: int
    session: int
    messages_total: int
    bytes_total: int


class Sync(msgspec.Struct, tag="sync", frozen=True):
    """All sessions a gateway has in the bundle, sent at least every SYNC_INTERVAL_S. → Synced.

    An owner ends its sessions of a gateway it has not heard for GATEWAY_SILENCE_S.
    """

    gateway: str
    sessions: list[SessionState]


class Credit(msgspec.Struct, tag="credit", frozen=True):
    """Sent without asking for an answer as the client drains its stream; a lost one is made good by Sync."""

    sessions: list[SessionState]


class TopicAcks(msgspec.Struct, frozen=True, array_like=True):
    topic: str
    subscription: str
    positions: list[int]


class Acks(msgspec.Struct, tag="acks", frozen=True):
    """→ Acked. Positions that are no message in flight are passed over."""

    batches: list[TopicAcks]


class ListSubscriptions(msgspec.Struct, tag="list-subscriptions", frozen=True):
    """→ Subscriptions. Refused: NotFound (topic)."""

    topic: str


class Unsubscribe(msgspec.Struct, tag="unsubscribe", frozen=True):
    """Delete a subscription and its cursor. → Done. Refused: NotFound, Refused (a consumer is connected)."""

    topic: str
    subscription: str


class CreateSubscription(msgspec.Struct, tag="create-subscription", frozen=True):
    """A subscription without a consumer. → SubscriptionFound, also for one that is there; its cursor stays.

    Refused: AlreadyExists (it is of another type), InvalidInput (a start that is none, or another than
    earliest or latest of a topic that keeps nothing), LimitExceeded, NotFound (topic), Unavailable.
    """

    topic: str
    subscription: str
    subscription_type: SubscriptionType
    start: StartPosition = StartPosition()


class ResetSubscription(msgspec.Struct, tag="reset-subscription", frozen=True):
    """Move a cursor, forward or back. → SubscriptionFound. What was acknowledged beyond it comes again.

    Its consumers' streams are ended; they go on from there when they subscribe again.
    Refused: InvalidInput (a start that is none), NotFound, Refused (the topic keeps nothing), Unavailable.
    """

    topic: str
    subscription: str
    start: StartPosition


class DescribeTopic(msgspec.Struct, tag="describe-topic", frozen=True):
    """→ TopicDescription. Refused: NotFound (topic)."""

    topic: str


class RetentionFloors(msgspec.Struct, tag="retention-floors", frozen=True):
    """What of the bundle every subscription has acknowledged, by the journal. → Floors."""


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
    | ListSubscriptions
    | Unsubscribe
    | CreateSubscription
    | ResetSubscription
    | DescribeTopic
    | RetentionFloors
)


class ProducerFound(msgspec.Struct, tag="producer", frozen=True):
    producer_id: int
    producer_name: str
    topic: str
    topic_id: int


class ConsumerFound(msgspec.Struct, tag="consumer", frozen=True):
    consumer_id: int
    consumer_name: str
    topic: str
    subscription: str
    reliable: bool
    attached: bool


class UnknownIds(msgspec.Struct, tag="unknown-ids", frozen=True):
    ids: list[int]


class Synced(msgspec.Struct, tag="synced", frozen=True):
    """``unknown``: sessions to attach again; ``sent``: last delivery number per consumer id."""

    unknown: list[int]
    sent: dict[int, int]


class Acked(msgspec.Struct, tag="acked", frozen=True):
    """``unknown``: (topic, subscription) pairs that do not exist."""

    unknown: list[tuple[str, str]]


class SubscriptionInfo(msgspec.Struct, frozen=True):
    name: str
    subscription_type: SubscriptionType
    consumers: list[str]


class Subscriptions(msgspec.Struct, tag="subscriptions", frozen=True):
    subscriptions: list[SubscriptionInfo]


class SubscriptionFound(msgspec.Struct, tag="subscription", frozen=True):
    """``created``: it was not there before. All at or below ``mark_delete`` is acknowledged or was passed."""

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
        lost: messages that expired before they were acknowledged, over the life of the subscription.
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
    """By topic id the least mark-delete of its subscriptions; topics without one are absent."""

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
    """Owner to gateway: end the stream (the topic is gone, or another stream of the consumer took over)."""

    epoch: int
    consumer_id: int
    session: int
    reason: str


def encode_notice(notice: SessionEnded) -> bytes:
    """Encode a notice."""
    return OWNER.encode(notice)


_NOTICES: msgspec.msgpack.Decoder[SessionEnded] = msgspec.msgpack.Decoder(SessionEnded)


def decode_notice(data: bytes) -> SessionEnded:
    """Raises CorruptData. Notices and deliveries share a subject; a delivery starts with its magic byte."""
    try:
        return _NOTICES.decode(data)
    except UNDECODABLE as error:
        raise CorruptData(f"not a notice: {error}") from None
