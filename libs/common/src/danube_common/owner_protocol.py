"""What gateways and the admin service say to topic-owners over the bus, and what they answer.

Requests go to `owner_subject` of the bundle and its owner's epoch, so an owner that was replaced
hears nothing. Requests are absolute (a set, a total, a position), never increments: repeating one
changes nothing (architecture D5).
"""

from __future__ import annotations

from enum import IntEnum, StrEnum

import msgspec

from danube_common.bundle import Bundle
from danube_common.errors import (
    UNDECODABLE,
    AlreadyExists,
    CorruptData,
    DanubeError,
    InvalidInput,
    LimitExceeded,
    NotFound,
    Refused,
    Unavailable,
)

ACKS_PER_BATCH_MAX = 10_000
SESSIONS_PER_SYNC_MAX = 10_000
TOUCHED_PRODUCERS_MAX = 10_000


def owner_subject(bundle: Bundle, epoch: int) -> str:
    """Requests to the owner of ``bundle`` in ``epoch``."""
    return f"danube.owner.{bundle}.{epoch}"


def fast_subject(bundle: Bundle) -> str:
    """Frames of non-reliable messages, gateway to owner, at most once."""
    return f"danube.fast.{bundle}"


def gateway_subject(instance_id: str) -> str:
    """Deliveries and notices from owners to one gateway process."""
    return f"danube.gateway.{instance_id}"


class SubscriptionType(IntEnum):
    """Numbers as on the wire."""

    EXCLUSIVE = 0
    SHARED = 1
    FAILOVER = 2


class AccessMode(IntEnum):
    """Numbers as on the wire."""

    SHARED = 0
    EXCLUSIVE = 1


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


class Done(msgspec.Struct, tag="done", frozen=True):
    pass


class Reason(StrEnum):
    """Which DanubeError a refusal stands for."""

    NOT_FOUND = "not-found"
    ALREADY_EXISTS = "already-exists"
    REFUSED = "refused"
    LIMIT = "limit"
    INVALID = "invalid"
    UNAVAILABLE = "unavailable"


class Refusal(msgspec.Struct, tag="refusal", frozen=True):
    reason: Reason
    message: str
    limit: str = ""


OwnerReply = ProducerFound | ConsumerFound | UnknownIds | Synced | Acked | Subscriptions | Done | Refusal

SYNC_INTERVAL_S = 1.0
GATEWAY_SILENCE_S = 3.0

_ENCODER = msgspec.msgpack.Encoder()
_REQUESTS: msgspec.msgpack.Decoder[OwnerRequest] = msgspec.msgpack.Decoder(OwnerRequest)
_REPLIES: msgspec.msgpack.Decoder[OwnerReply] = msgspec.msgpack.Decoder(OwnerReply)

_REASONS: tuple[tuple[type[DanubeError], Reason], ...] = (
    (NotFound, Reason.NOT_FOUND),
    (AlreadyExists, Reason.ALREADY_EXISTS),
    (Refused, Reason.REFUSED),
    (InvalidInput, Reason.INVALID),
    (Unavailable, Reason.UNAVAILABLE),
)
_ERRORS: dict[Reason, type[DanubeError]] = {reason: error for error, reason in _REASONS}


def encode(message: OwnerRequest | OwnerReply) -> bytes:
    return _ENCODER.encode(message)


def decode_request(data: bytes) -> OwnerRequest:
    """Raises CorruptData."""
    try:
        return _REQUESTS.decode(data)
    except UNDECODABLE as error:
        raise CorruptData(f"not a request to an owner: {error}") from None


def decode_reply(data: bytes) -> OwnerReply:
    """Raises CorruptData."""
    try:
        return _REPLIES.decode(data)
    except UNDECODABLE as error:
        raise CorruptData(f"not an owner's reply: {error}") from None


def refusal_of(error: DanubeError) -> Refusal:
    """An error as it travels."""
    if isinstance(error, LimitExceeded):
        return Refusal(Reason.LIMIT, str(error), error.limit)
    for kind, reason in _REASONS:
        if isinstance(error, kind):
            return Refusal(reason, str(error))
    raise error


def error_of(refusal: Refusal) -> DanubeError:
    """The error a refusal stands for."""
    if refusal.reason is Reason.LIMIT:
        return LimitExceeded(refusal.limit, refusal.message)
    return _ERRORS[refusal.reason](refusal.message)


class SessionEnded(msgspec.Struct, tag="session-ended", frozen=True):
    """Owner to gateway: end the stream (the topic is gone, or another stream of the consumer took over)."""

    epoch: int
    consumer_id: int
    session: int
    reason: str


def encode_notice(notice: SessionEnded) -> bytes:
    return _ENCODER.encode(notice)


_NOTICES: msgspec.msgpack.Decoder[SessionEnded] = msgspec.msgpack.Decoder(SessionEnded)


def decode_notice(data: bytes) -> SessionEnded:
    """Raises CorruptData. Notices and deliveries share a subject; a delivery starts with its magic byte."""
    try:
        return _NOTICES.decode(data)
    except UNDECODABLE as error:
        raise CorruptData(f"not a notice: {error}") from None
