"""A consumer as dispatch sees it: its session, its credit, what it has not acknowledged."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Session:
    """One open stream. Totals count from the session's start; ``number`` is the last delivery's."""

    gateway: str
    session: int
    messages_total: int
    bytes_total: int
    messages_sent: int = 0
    bytes_sent: int = 0
    number: int = 0


@dataclass(slots=True)
class InFlight:
    """A delivered, unacknowledged message; ``number`` is its delivery's in the present session."""

    data: bytes
    number: int


@dataclass(slots=True)
class Consumer:
    """``expected_until``: until then (monotonic seconds) its stream is awaited and its place is kept."""

    consumer_id: int
    name: str
    expected_until: float = 0.0
    session: Session | None = None
    unacked: dict[int, InFlight] = field(default_factory=dict)
    unacked_bytes: int = 0

    def present(self, now: float) -> bool:
        """Connected, or created so lately that its stream may still come."""
        return self.session is not None or now < self.expected_until

    def room(self, window_messages: int, window_bytes: int) -> bool:
        """Whether one more message may be sent to it.

        A message may overshoot the byte bounds once, so that one larger than them still passes.
        """
        session = self.session
        return (
            session is not None
            and session.messages_sent < session.messages_total
            and session.bytes_sent < session.bytes_total
            and len(self.unacked) < window_messages
            and self.unacked_bytes < window_bytes
        )

    def hold(self, position: int, data: bytes, number: int) -> None:
        """The message is now in flight to this consumer."""
        self.unacked[position] = InFlight(data, number)
        self.unacked_bytes += len(data)

    def release(self, position: int) -> InFlight:
        """It is no longer in flight."""
        message = self.unacked.pop(position)
        self.unacked_bytes -= len(message.data)
        return message
