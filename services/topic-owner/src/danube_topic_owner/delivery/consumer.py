"""A consumer of a subscription: its session, its credit and its unacknowledged messages."""

from __future__ import annotations

from dataclasses import dataclass, field

from danube_common.errors import Refused
from danube_common.wire.owner.notices import taken_over
from danube_topic_owner.delivery.ack_progress import AckProgress

PREFETCH_MAX = 10_000
"""Unacknowledged messages that a consumer may ask for, or as many as its window has."""
DISPLACED_MAX = 100
"""Connections remembered per consumer whose stream was taken over; beyond it the oldest is forgotten."""


@dataclass(frozen=True, slots=True)
class Window:
    """Bounds of the unacknowledged messages of one consumer.

    ``prefetch`` is the bound of a consumer that asks for none of its own; 0 is ``messages``.
    """

    messages: int = 1000
    bytes: int = 64 * 1024 * 1024
    prefetch: int = 0


@dataclass(slots=True)
class Session:
    """One open stream of a consumer.

    Attributes:
        gateway: the gateway process that holds the stream.
        session: the session's id; a later stream of the same consumer has a greater one.
        messages_total: the credit in messages, counted from the session's start.
        bytes_total: likewise in bytes.
        prefetch: unacknowledged messages that the consumer takes at once; 0 is as many as the window allows.
        messages_sent: messages sent in this session.
        bytes_sent: likewise in bytes.
        number: the number of the last delivery.
        client: the client's connection (`danube_common.wire.owner.sessions.Attach`).
    """

    gateway: str
    session: int
    messages_total: int
    bytes_total: int
    prefetch: int = 0
    messages_sent: int = 0
    bytes_sent: int = 0
    number: int = 0
    client: str = ""


@dataclass(slots=True)
class Consumer:
    """A consumer with or without a stream.

    A new connection may take the stream over, because the client of the old one may have lost it and come
    back. While the stream that took over is open, the displaced connection cannot take it back: two clients
    of one name would do so for ever.

    Attributes:
        expected_until: the time (monotonic seconds) until which a consumer without a stream counts as
            present, because its client has just subscribed.
        unacked: messages that were delivered to it and are not acknowledged.
        unacked_bytes: likewise in bytes.
        progress: how far it has come with what was delivered in the present session.
        key_filters: globs of the keys that it takes, of a key-shared subscription; empty for all keys.
        displaced: connections whose stream was taken over, while the stream that took over is open.
    """

    consumer_id: int
    name: str
    expected_until: float = 0.0
    session: Session | None = None
    displaced: dict[str, None] = field(default_factory=dict)
    unacked: int = 0
    unacked_bytes: int = 0
    key_filters: tuple[str, ...] = ()
    progress: AckProgress = field(default_factory=AckProgress)

    def check_client(self, client: str) -> None:
        """Raise Refused if another client took over from this connection and its stream is open."""
        if self.session is not None and client in self.displaced:
            raise Refused(taken_over(self.name))

    def open(self, session: Session) -> Session | None:
        """Start a session of a client that `check_client` lets pass; return the session that it replaces."""
        before, self.session = self.session, session
        self.expected_until = 0.0
        self.progress = AckProgress()
        if before is not None and before.client and before.client != session.client:
            if len(self.displaced) >= DISPLACED_MAX:
                del self.displaced[next(iter(self.displaced))]
            self.displaced[before.client] = None
        return before

    def close(self) -> None:
        """End the session: whoever comes next may have the stream."""
        self.session = None
        self.expected_until = 0.0
        self.displaced.clear()

    def present(self, now: float) -> bool:
        """Return whether the consumer has a stream, or subscribed lately and its stream may still come."""
        return self.session is not None or now < self.expected_until

    def room(self, window: Window) -> tuple[int, int]:
        """Return for how many messages and bytes credit and window leave room; none if either is 0 or less.

        The last message may exceed the bounds in bytes, so that a message larger than the bound still passes.
        """
        session = self.session
        if session is None:
            return 0, 0
        messages = session.prefetch or window.prefetch or window.messages
        messages = min(messages, max(window.messages, PREFETCH_MAX)) - self.unacked
        credit = session.messages_total - session.messages_sent
        size = window.bytes - self.unacked_bytes
        credit_bytes = session.bytes_total - session.bytes_sent
        return (
            min(credit, messages),
            min(credit_bytes, size),
        )

    def has_room(self, window: Window) -> bool:
        """Return whether credit and window allow one more message."""
        messages, size = self.room(window)
        return messages > 0 and size > 0
