"""Remembers when this process met which revision. Pure."""

from __future__ import annotations

from collections import deque
from typing import Final

SAMPLES_MAX: Final = 64


class RevisionsSeen:
    """Knows, for a revision, a time before every later change: how far back a watch's history must reach.

    Args:
        valid_s: samples older than this are of no use.
    """

    def __init__(self, *, valid_s: float) -> None:
        # One more than fit into valid_s, so that the oldest kept always covers it.
        self._spacing_s = valid_s / (SAMPLES_MAX - 1)
        self._samples: deque[tuple[float, int]] = deque(maxlen=SAMPLES_MAX)

    def note(self, revision: int, at: float) -> None:
        """Note that at ``at`` (monotonic seconds) no change after ``revision`` had been made."""
        if self._samples:
            last_at, last_revision = self._samples[-1]
            if at < last_at + self._spacing_s or revision < last_revision:
                return
        self._samples.append((at, revision))

    def known_at(self, revision: int) -> float | None:
        """Return the latest known time before every change after ``revision``, or None."""
        for at, noted in reversed(self._samples):
            if noted <= revision:
                return at
        return None
