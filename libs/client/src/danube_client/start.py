"""Start positions: where a new subscription begins."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from typing import Self

from danube_proto.danube_platform_pb2 import SubscriptionStart

FORMS = (
    "earliest, latest, -N (the last N messages), a position, a time such as 2026-11-23T10:00:00Z"
    " (UTC if it does not say) or how long ago: 90s, 15m, 2h, 7d"
)
VALUE_MAX = (1 << 63) - 1

_AGO = re.compile(r"(\d{1,9})([smhd])(?: ago)?", re.ASCII)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_NUMBER = re.compile(r"-?\d{1,19}", re.ASCII)


class StartKind(IntEnum):
    """How a start position is given. The numbers are those of the wire."""

    EARLIEST = 0
    LATEST = 1
    POSITION = 2
    LAST = 3
    TIME = 4


@dataclass(frozen=True, slots=True)
class Start:
    """A start position. If its message is no longer retained, the oldest retained message is the start.

    Attributes:
        kind: the meaning of ``value``.
        value: a position, a number of messages, or milliseconds since the epoch; 0 if the kind needs none.
    """

    kind: StartKind = StartKind.EARLIEST
    value: int = 0

    def __post_init__(self) -> None:
        """Raise ValueError if the kind does not allow the value."""
        low = {StartKind.POSITION: 1, StartKind.LAST: 1, StartKind.TIME: 0}.get(self.kind)
        if low is None and self.value:
            raise ValueError(f"a start at {self.kind.name} takes no value")
        if low is not None and not low <= self.value <= VALUE_MAX:
            raise ValueError(f"a start by {self.kind.name} takes {low} to {VALUE_MAX}, not {self.value}")

    @classmethod
    def earliest(cls) -> Self:
        """Begin at the oldest retained message."""
        return cls(StartKind.EARLIEST)

    @classmethod
    def latest(cls) -> Self:
        """Begin at the next message that is sent."""
        return cls(StartKind.LATEST)

    @classmethod
    def at(cls, position: int) -> Self:
        """Begin at the first message at or after a position. A position belongs to one topic or partition."""
        return cls(StartKind.POSITION, position)

    @classmethod
    def last(cls, count: int) -> Self:
        """Begin at the newest ``count`` messages of each partition."""
        return cls(StartKind.LAST, count)

    @classmethod
    def since(cls, moment: datetime) -> Self:
        """Begin at the first message stored at or after a time, which is UTC if it has no time zone."""
        aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return cls(StartKind.TIME, round(aware.timestamp() * 1000))

    @classmethod
    def parse(cls, text: str, *, now_ms: int | None = None) -> Self:
        """Parse one of FORMS; raises ValueError."""
        word = text.strip().lower()
        if word in ("earliest", "latest"):
            return cls(StartKind[word.upper()])
        if ago := _AGO.fullmatch(word):
            now_ms = time.time_ns() // 1_000_000 if now_ms is None else now_ms
            return cls(StartKind.TIME, max(now_ms - int(ago[1]) * _SECONDS[ago[2]] * 1000, 0))
        try:
            # Bare digits are dates to `fromisoformat`, too.
            if _NUMBER.fullmatch(word):
                number = int(word)
                return cls.last(-number) if number < 0 else cls.at(number)
            return cls.since(datetime.fromisoformat(text.strip()))
        except (ValueError, OverflowError):
            raise ValueError(f"{text!r} is none of: {FORMS}") from None

    def to_wire(self) -> SubscriptionStart:
        """Return the protobuf message of the start position."""
        return SubscriptionStart(kind=SubscriptionStart.Kind.Name(int(self.kind)), value=self.value)
