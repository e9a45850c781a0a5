"""Where a new subscription begins to read."""

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
    """Numbered as on the wire."""

    EARLIEST = 0
    LATEST = 1
    POSITION = 2
    LAST = 3
    TIME = 4


@dataclass(frozen=True, slots=True)
class Start:
    """A place in a topic. What is retained no longer is passed over: the start is then the oldest message.

    Attributes:
        kind: what ``value`` means.
        value: a position, a number of messages, or ms since the epoch; 0 where the kind takes none.
    """

    kind: StartKind = StartKind.EARLIEST
    value: int = 0

    def __post_init__(self) -> None:
        """Raises ValueError for a value that the kind does not take."""
        low = {StartKind.POSITION: 1, StartKind.LAST: 1, StartKind.TIME: 0}.get(self.kind)
        if low is None and self.value:
            raise ValueError(f"a start at {self.kind.name} takes no value")
        if low is not None and not low <= self.value <= VALUE_MAX:
            raise ValueError(f"a start by {self.kind.name} takes {low} to {VALUE_MAX}, not {self.value}")

    @classmethod
    def earliest(cls) -> Self:
        """The oldest message that is retained."""
        return cls(StartKind.EARLIEST)

    @classmethod
    def latest(cls) -> Self:
        """What is sent from now on."""
        return cls(StartKind.LATEST)

    @classmethod
    def at(cls, position: int) -> Self:
        """The first message at or after a position, which belongs to one topic or partition."""
        return cls(StartKind.POSITION, position)

    @classmethod
    def last(cls, count: int) -> Self:
        """The newest ``count`` messages, of each partition."""
        return cls(StartKind.LAST, count)

    @classmethod
    def since(cls, moment: datetime) -> Self:
        """The first message that was stored at or after a moment; one without a time zone is UTC."""
        aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return cls(StartKind.TIME, round(aware.timestamp() * 1000))

    @classmethod
    def parse(cls, text: str, *, now_ms: int | None = None) -> Self:
        """Reads one of FORMS; raises ValueError."""
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
        return SubscriptionStart(kind=SubscriptionStart.Kind.Name(int(self.kind)), value=self.value)
