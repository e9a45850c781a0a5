"""When a delivery to a consumer counts as failed because no acknowledgement came. Pure.

Clients read ahead: what was delivered may wait in a client for long before anybody works on it. Since clients
hand messages out in the order of delivery, acknowledgements tell how far one has come
(docs/adr/0027-the-ack-timeout-counts-from-progress.md):

- What was delivered before an acknowledged message is being worked on: it is overdue when the timeout has
  passed since that acknowledgement. A message that was delivered twice tells nothing: which copy was it?
- Of the rest, the client works on the oldest one at least: that one is overdue when the timeout has passed
  without any acknowledgement.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

MARKS_MAX = 16
"""Marks within one timeout. What was overtaken is overdue at most one part of the timeout too late."""


class Overdue(NamedTuple):
    """Deliveries up to number ``through`` were overtaken; ``silent``: no acknowledgement came at all."""

    through: int
    silent: bool


class AckProgress:
    """How far one consumer has come in one session, as seen by `check` from time to time."""

    def __init__(self) -> None:
        self._acked = 0
        self._marked = 0
        self._moved = True
        self._since = 0.0
        """When the consumer moved, or a `check` later."""
        self._marks: deque[tuple[float, int]] = deque()
        """(time, greatest number of a delivery that was acknowledged in part by then), ascending."""

    def begin(self) -> None:
        """Note that the consumer has a message again, or goes on with the next one: its time begins."""
        self._moved = True

    def acked(self, number: int) -> None:
        """Note that it acknowledged, positively or negatively, a message of delivery ``number``.

        0 if the message was in several deliveries: nobody knows how far the consumer has come.
        """
        self._moved = True
        self._acked = max(self._acked, number)

    def check(self, now: float, timeout_s: float) -> Overdue:
        """Return what is overdue now (monotonic seconds)."""
        if self._moved:
            self._moved = False
            self._since = now
        marks = self._marks
        if self._acked > self._marked and (not marks or now - marks[-1][0] >= timeout_s / MARKS_MAX):
            marks.append((now, self._acked))
            self._marked = self._acked
        through = -1
        while marks and now - marks[0][0] >= timeout_s:
            through = marks.popleft()[1] - 1
        return Overdue(through, now - self._since >= timeout_s)
