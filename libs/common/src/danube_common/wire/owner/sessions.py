"""Consumers, and the sessions of their streams between a gateway and the owner."""

from __future__ import annotations

import msgspec

from danube_common.model.subscription import SubscriptionType
from danube_common.wire.envelope import Done, Request

SESSIONS_PER_SYNC_MAX = 10_000
SYNC_INTERVAL_S = 1.0
GATEWAY_SILENCE_S = 3.0


class ConsumerFound(msgspec.Struct, tag="consumer", frozen=True):
    """The consumer that was created or found; ``attached``: whether it has a stream.

    ``generation`` is the subscription's; acknowledgements of what the stream delivers carry it. ``prefetch``
    bounds the unacknowledged messages of each of its consumers that asks for no bound; 0 is none. ``session``
    is the number of its session; 0 if it has none.
    """

    consumer_id: int
    consumer_name: str
    topic: str
    subscription: str
    reliable: bool
    attached: bool
    generation: int = 0
    prefetch: int = 0
    session: int = 0


class CreateConsumer(Request[ConsumerFound], tag="create-consumer", frozen=True):
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


class FindConsumer(Request[ConsumerFound], tag="find-consumer", frozen=True):
    """Find a consumer by id. Reply: ConsumerFound. Errors: NotFound."""

    consumer_id: int


class Attach(Request[ConsumerFound], tag="attach", frozen=True):
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


class Detach(Request[Done], tag="detach", frozen=True):
    """End a session. Reply: Done, also if the session is unknown."""

    consumer_id: int
    session: int


class SessionState(msgspec.Struct, frozen=True, array_like=True):
    """The absolute state of one session at its gateway; credit counts from the session's start."""

    consumer_id: int
    session: int
    messages_total: int
    bytes_total: int


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


class Sync(Request[Synced], tag="sync", frozen=True):
    """All sessions of a gateway in the bundle, sent at least every SYNC_INTERVAL_S. Reply: Synced.

    The owner ends sessions that are not listed and were begun before, and all sessions of a gateway that sent
    no Sync for GATEWAY_SILENCE_S.

    Attributes:
        newest: the greatest number of a session that the gateway had begun when it listed them. An Attach
            that was sent later may arrive earlier: its session has a greater number and is not ended. 0 is of
            a gateway that tells none (of an earlier version): each session that is not listed is ended.
    """

    gateway: str
    sessions: list[SessionState]
    newest: int = 0


class Credit(Request[Done], tag="credit", frozen=True):
    """Renew credit after a client read from its stream. Nobody waits for the reply: Sync repairs a loss."""

    sessions: list[SessionState]
