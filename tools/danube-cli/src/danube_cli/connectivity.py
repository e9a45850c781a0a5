"""What a command says on stderr while it is away from the platform."""

from __future__ import annotations

from dataclasses import dataclass, field

from danube_cli.outcome import complain
from danube_client import Disconnected, Event, Lost, Reconnected


@dataclass(slots=True)
class Connectivity:
    """Says on stderr when the platform is away and when it is back, and what was lost.

    Attributes:
        away: topics and partitions whose stream is lost.
        lost: messages that expired before they were read, or were dropped.
    """

    away: set[str] = field(default_factory=set)
    lost: int = 0

    def note(self, event: Event) -> None:
        """Take an event of a producer, consumer or reader."""
        match event:
            case Disconnected():
                if not self.away:
                    reason = f": {event.error}" if event.error else ""
                    complain(f"Away from {event.topic}{reason}. Trying to come back.")
                self.away.add(event.topic)
            case Reconnected():
                self.away.discard(event.topic)
                if not self.away:
                    complain(f"Back at {event.topic} after {event.away_s:.1f} s.")
            case Lost():
                self.lost += event.count
                if event.subscription:
                    complain(f"{event}.")
                else:
                    noun = "message" if event.count == 1 else "messages"
                    complain(f"{event.count} {noun} of {event.topic} expired, or cannot be read.")
