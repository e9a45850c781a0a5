"""A consumer of a subscription: its session, its credit and its unacknowledged messages."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Window:
    """Bounds of the unacknowledged messages of one consumer."""

    messages: int = 1000
    bytes: int = 64 * 1024 * 1024


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
    """

    gateway: str
    session: int
    messages_total: int
    bytes_total: int
    prefetch: int = 0
    messages_sent: int = 0
    bytes_sent: int = 0
    number: int = 0


@dataclass(slots=True)
class InFlight:
    """A message that was delivered and is not acknowledged.

    ``number`` is the number of its delivery in the present session, or 0 if an earlier session delivered it.
    """

    data: bytes
    number: int


@dataclass(slots=True)
class Consumer:
    """A consumer with or without a stream.

    ``expected_until`` is the time (monotonic seconds) until which a consumer without a stream counts as
    present, because its client has just subscribed.
    """

    consumer_id: int
    name: str
    expected_until: float = 0.0
    session: Session | None = None
    unacked: dict[int, InFlight] = field(default_factory=dict)
    unacked_bytes: int = 0

    def present(self, now: float) -> bool:
        """Return whether the consumer has a stream, or subscribed lately and its stream may still come."""
        return self.session is not None or now < self.expected_until

    def has_room(self, window: Window) -> bool:
        """Return whether credit and window allow one more message.

        A message may exceed the bounds in bytes once, so that a message larger than the bound still passes.
        """
        session = self.session
        return (
            session is not None
            and session.messages_sent < session.messages_total
            and session.bytes_sent < session.bytes_total
            and len(self.unacked) < min(session.prefetch or window.messages, window.messages)
            and self.unacked_bytes < window.bytes
        )

    def hold(self, position: int, data: bytes, number: int) -> None:
        """Note that a message was sent to this consumer in delivery ``number``."""
        self.unacked[position] = InFlight(data, number)
        self.unacked_bytes += len(data)

    def release(self, position: int) -> InFlight:
        """Remove a message from the unacknowledged ones and return it."""
        message = self.unacked.pop(position)
        self.unacked_bytes -= len(message.data)
        return message
