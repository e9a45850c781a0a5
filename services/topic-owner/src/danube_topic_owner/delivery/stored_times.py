"""When the frames of a log were stored, from samples of the live feed. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque

SAMPLE_MS = 1000
SAMPLES_MAX = 3600
"""The age of what was stored before the oldest sample is told as a lower bound."""


class StoredTimes:
    """One sample a second at most: a log sequence and when its frame was stored (ms since the epoch)."""

    def __init__(self) -> None:
        self._samples: deque[tuple[int, int]] = deque(maxlen=SAMPLES_MAX)

    def add(self, sequence: int, stored_ms: int) -> None:
        """Note when the next frame of the log was stored."""
        if not self._samples or stored_ms >= self._samples[-1][1] + SAMPLE_MS:
            self._samples.append((sequence, stored_ms))

    def clear(self) -> None:
        """Forget all samples: the log began anew."""
        self._samples.clear()

    def age_s(self, sequence: int, now_ms: int) -> float:
        """Return a lower bound of the age of a frame, exact to SAMPLE_MS unless it is before all samples."""
        at = bisect_left(self._samples, sequence, key=lambda sample: sample[0])
        if at == len(self._samples):
            return 0.0
        return max((now_ms - self._samples[at][1]) / 1000, 0.0)
