"""A run over time: at most so many points, however long it takes. Pure."""

from __future__ import annotations

from typing import Final

import msgspec

POINTS_MAX: Final = 600


class Point(msgspec.Struct):
    """What happened in an interval of the measured time, of which ``begin_s`` is the start."""

    begin_s: float
    seconds: float
    produced: int
    received: int
    p50_us: int
    p99_us: int


class Timeline:
    """The intervals in order; when there are too many, each two become one."""

    def __init__(self, points_max: int = POINTS_MAX) -> None:
        self._points_max = points_max
        self._merged = 1
        self._open: list[Point] = []
        self.points: list[Point] = []

    def add(self, point: Point) -> None:
        """Take the next interval."""
        self._open.append(point)
        if len(self._open) < self._merged:
            return
        self.points.append(_merged(self._open))
        self._open = []
        if len(self.points) > self._points_max:
            pairs = [self.points[at : at + 2] for at in range(0, len(self.points), 2)]
            self.points = [_merged(pair) for pair in pairs]
            self._merged *= 2


def _merged(points: list[Point]) -> Point:
    """Return one point for several; its latencies are the worst ones."""
    return Point(
        begin_s=points[0].begin_s,
        seconds=sum(point.seconds for point in points),
        produced=sum(point.produced for point in points),
        received=sum(point.received for point in points),
        p50_us=max(point.p50_us for point in points),
        p99_us=max(point.p99_us for point in points),
    )
