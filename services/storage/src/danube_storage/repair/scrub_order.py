"""When each segment is verified. Pure.

Time is a hand that moves over the segments once in a period: the key of a segment says where in each period
its turn is. So one number, the time through which every turn was taken, says how far the scrub has come.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from typing import TypeVar

T = TypeVar("T")


def turn_ms(key: str, through_ms: int, period_ms: int) -> int:
    """Return the time of the first turn of a segment after ``through_ms``; at most a period later."""
    phase_ms = int.from_bytes(blake2b(key.encode(), digest_size=8).digest()) % period_ms
    after_ms = through_ms + 1
    return after_ms + (phase_ms - after_ms) % period_ms


def due(
    segments: Iterable[tuple[str, T]], through_ms: int, now_ms: int, period_ms: int, count_max: int
) -> list[tuple[int, T]]:
    """Return the segments whose turn is in ``through_ms + 1..now_ms``, each with its time, earliest first.

    Args:
        segments: pairs of the segment's key and what stands for it in the result.
        through_ms: every earlier turn was taken; at most one period ago.
        now_ms: wall clock.
        period_ms: in which each segment has one turn.
        count_max: return the earliest ones only; more if several have the last turn.
    """
    turns = ((turn_ms(key, through_ms, period_ms), segment) for key, segment in segments)
    found = sorted((turn for turn in turns if turn[0] <= now_ms), key=lambda turn: turn[0])
    count = min(count_max, len(found))
    while 0 < count < len(found) and found[count][0] == found[count - 1][0]:
        count += 1
    return found[:count]
