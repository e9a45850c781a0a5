"""Latencies in HdrHistograms: three digits exact, from 1 µs to 10 minutes, in bounded memory."""

from __future__ import annotations

from typing import Final, Self

from hdrh.histogram import HdrHistogram

LOWEST_US: Final = 1
HIGHEST_US: Final = 600_000_000
DIGITS: Final = 3
PERCENTILES: Final = (50.0, 90.0, 99.0, 99.9, 99.99)
CURVE: Final = (0.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.5, 99.9, 99.95, 99.99, 99.999, 100.0)
"""Percentiles of a plotted curve."""


class Latencies:
    """The latencies of one kind of operation, in microseconds; above ten minutes they count as ten."""

    def __init__(self) -> None:
        self._total = HdrHistogram(LOWEST_US, HIGHEST_US, DIGITS)
        self._interval = HdrHistogram(LOWEST_US, HIGHEST_US, DIGITS)

    def note(self, nanoseconds: int) -> None:
        """Take one latency."""
        self._interval.record_value(min(max(nanoseconds // 1000, LOWEST_US), HIGHEST_US))

    def interval(self) -> bytes:
        """Return the latencies since the last time, encoded for `add`."""
        encoded: bytes = self._interval.encode()
        self._total.add(self._interval)
        self._interval.reset()
        return encoded

    def add(self, encoded: bytes) -> None:
        """Take latencies in that `interval` of another process returned."""
        self._total.decode_and_add(encoded)

    @classmethod
    def of(cls, *encoded: bytes) -> Self:
        """Return the latencies that `interval` returned."""
        latencies = cls()
        for one in encoded:
            latencies.add(one)
        return latencies

    @property
    def count(self) -> int:
        """How many there are, those of the open interval left out."""
        return int(self._total.total_count)

    def at(self, percentile: float) -> int:
        """Return the microseconds of a percentile; 0 without latencies."""
        return int(self._total.get_value_at_percentile(percentile)) if self.count else 0

    def summary(self) -> dict[str, float]:
        """Return count, mean, percentiles and maximum, in microseconds."""
        if not self.count:
            return {"count": 0}
        found = {f"p{percentile:g}": float(self.at(percentile)) for percentile in PERCENTILES}
        mean = round(self._total.get_mean_value(), 1)
        return {"count": self.count, "mean": mean, **found, "max": float(self._total.get_max_value())}

    def curve(self) -> list[tuple[float, int]]:
        """Return percentiles with their microseconds, for a plot."""
        return [(percentile, self.at(percentile)) for percentile in CURVE]
