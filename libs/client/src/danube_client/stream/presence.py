"""Whether a producer or consumer is connected: tells when it is away and when it is back."""

from __future__ import annotations

import logging
from collections.abc import Callable

from danube_client.errors import ClientError
from danube_client.events import Disconnected, Event, OnEvent, Reconnected

logger = logging.getLogger("danube_client")
logger.addHandler(logging.NullHandler())


class Presence:
    """Remembers since when somebody is away, and says so in the log and to the user's callback."""

    def __init__(self, who: str, topic: str, on_event: OnEvent, clock: Callable[[], float]) -> None:
        self._who = who
        self._topic = topic
        self._on_event = on_event
        self._clock = clock
        self._away_since_s: float | None = None

    def away_s(self) -> float:
        """Return for how many seconds it has been away; 0 if it is connected."""
        return 0.0 if self._away_since_s is None else self._clock() - self._away_since_s

    def away(self, error: ClientError) -> None:
        """The connection is lost, or could not be made again."""
        if self._away_since_s is None:
            self._away_since_s = self._clock()
            logger.warning("%s is away from %s and goes on trying: %s", self._who, self._topic, error)
            self._on_event(Disconnected(self._topic, error))

    def back(self) -> None:
        """The connection is there."""
        if self._away_since_s is not None:
            away_s, self._away_since_s = self.away_s(), None
            logger.warning("%s is back at %s after %.1f s", self._who, self._topic, away_s)
            self._on_event(Reconnected(self._topic, away_s))

    def tell(self, event: Event) -> None:
        """Tell another event."""
        self._on_event(event)
