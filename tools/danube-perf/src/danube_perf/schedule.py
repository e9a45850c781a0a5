"""When each message is to be sent: at a fixed rate whatever the answers do, or as soon as may be. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Schedule:
    """The times of one producer's messages.

    Under a rate, the n-th message is due at a fixed time. A producer that is held up sends the late ones as
    soon as it may, and their latency counts from when they were due: a pause of the platform is not left out
    of the figures (no coordinated omission).

    Attributes:
        begin_ns: when the first message is due.
        rate: messages per second; None sends as soon as there is room.
        behind_ns: the most that a message was sent after it was due.
    """

    begin_ns: int
    rate: float | None
    sent: int = 0
    behind_ns: int = 0

    def due_ns(self) -> int:
        """Return when the next message is due; flat out, the beginning."""
        return self.begin_ns + (int(self.sent * 1e9 / self.rate) if self.rate is not None else 0)

    def take(self, now_ns: int) -> int | None:
        """Return the time that the next message counts from, and go on to the next; None if it is not due."""
        due_ns = self.due_ns()
        if due_ns > now_ns:
            return None
        if self.rate is None:
            due_ns = now_ns
        elif now_ns - due_ns > self.behind_ns:
            self.behind_ns = now_ns - due_ns
        self.sent += 1
        return due_ns
