"""Acknowledgements and negative ones, as ranges of positions."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from danube_common.errors import CorruptData
from danube_common.wire.envelope import Done, Request

ACKS_PER_BATCH_MAX = 10_000
"""Acknowledgements in one request: each a position or a range of adjacent ones."""
ACKED_POSITIONS_MAX = 1_000_000
"""Positions that the ranges of one request have in all, for one subscription."""


class TopicAcks(msgspec.Struct, frozen=True, array_like=True):
    """Acknowledged positions of one subscription, of messages that were delivered in its ``generation``.

    ``ranges`` holds the first position and the number of positions of each range in turn (`ack_ranges`).
    """

    topic: str
    subscription: str
    ranges: list[int]
    generation: int = 0

    def spans(self) -> list[tuple[int, int]]:
        """Return the first and last position of each range. Raises CorruptData."""
        firsts, counts = self.ranges[::2], self.ranges[1::2]
        if len(firsts) != len(counts) or min(counts, default=1) < 1 or sum(counts) > ACKED_POSITIONS_MAX:
            raise CorruptData(f"not at most {ACKED_POSITIONS_MAX} acknowledgements: {self.ranges[:4]}")
        return [(first, first + count - 1) for first, count in zip(firsts, counts, strict=True)]


def ack_ranges(positions: Iterable[int]) -> list[int]:
    """Return the ranges of positions in any order: first and count of one range after the other.

    Positions of one section of a frame are consecutive: what is acknowledged in order is few ranges.
    """
    ranges: list[int] = []
    after = -1
    for position in sorted(set(positions)):
        if position == after:
            ranges[-1] += 1
        else:
            ranges += (position, 1)
        after = position + 1
    return ranges


def span_ranges(spans: Iterable[tuple[int, int]]) -> list[int]:
    """Return the same of spans of positions (first and last) in any order, which may overlap."""
    ranges: list[int] = []
    after = -1
    for first, last in sorted(spans):
        if first > after or not ranges:
            ranges += (first, last - first + 1)
        elif last >= after:
            ranges[-1] += last - after + 1
        after = max(after, last + 1)
    return ranges


class Acked(msgspec.Struct, tag="acked", frozen=True):
    """``unknown``: (topic, subscription) pairs that do not exist."""

    unknown: list[tuple[str, str]]


class Acks(Request[Acked], tag="acks", frozen=True):
    """Acknowledge messages. Reply: Acked. Positions of messages that are not in flight are ignored."""

    batches: list[TopicAcks]


class Nack(Request[Done], tag="nack", frozen=True):
    """Acknowledge messages negatively: they come again, or are poison. Reply: Done.

    Errors: NotFound (no such topic or subscription). Positions of messages that are not in flight are
    ignored, and so is a generation that is over. A request that is repeated after one of the messages was
    delivered again counts a second failure of it.

    Attributes:
        first: the lowest position.
        last: the highest position.
        delay_ms: wait at least so long, as far as the failure policy allows.
        reason: why, for people and for the dead letter.
    """

    topic: str
    subscription: str
    first: int
    last: int
    generation: int = 0
    delay_ms: int = 0
    reason: str = ""
