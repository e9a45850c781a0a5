"""What stands in each payload: which run, producer and number it is of, and when it was meant to be sent."""

from __future__ import annotations

import struct
import time
from typing import Final, NamedTuple

_STAMP: Final = struct.Struct(">4sQIQQ")
MARK: Final = b"DPF1"
SIZE_BYTES_MIN: Final = _STAMP.size
"""A smaller payload cannot tell what it is."""
_FILLING: Final = bytes(range(256))


class Stamp(NamedTuple):
    """The head of a payload.

    Attributes:
        run: tells the messages of one run from those of others.
        producer: its number within the run, from 0.
        number: the message's number within the producer, from 0.
        sent_ns: when it was to be sent, in nanoseconds since the epoch.
    """

    run: int
    producer: int
    number: int
    sent_ns: int


def filling(size_bytes: int) -> bytes:
    """Return what follows the stamp in a payload of so many bytes."""
    rest = size_bytes - SIZE_BYTES_MIN
    if rest < 0:
        raise ValueError(f"a payload has at least {SIZE_BYTES_MIN} bytes")
    return (_FILLING * (rest // len(_FILLING) + 1))[:rest]


def stamped(run: int, producer: int, number: int, sent_ns: int, rest: bytes) -> bytes:
    """Return a payload; ``rest`` is of `filling`."""
    return _STAMP.pack(MARK, run, producer, number, sent_ns) + rest


def stamp_of(payload: bytes) -> Stamp | None:
    """Return the stamp of a payload; None if this tool did not make it."""
    if len(payload) < SIZE_BYTES_MIN:
        return None
    mark, run, producer, number, sent_ns = _STAMP.unpack_from(payload)
    return Stamp(run, producer, number, sent_ns) if mark == MARK else None


class Clock:
    """The time since the epoch, without jumps: the wall clock at first, the monotonic clock from there."""

    def __init__(self) -> None:
        self._offset_ns = time.time_ns() - time.monotonic_ns()

    def now_ns(self) -> int:
        """Return nanoseconds since the epoch."""
        return time.monotonic_ns() + self._offset_ns
