"""When a process that ended is started again. Pure: takes durations in, gives durations out."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """Restart soon, then ever later up to a bound; forget the past once it ran well.

    Attributes:
        first_s: the wait after the first end.
        factor: each further wait is so much longer.
        wait_s_max: but never longer than this.
        settled_s: a process that ran so long counts as healthy: the next wait is the first again.
    """

    first_s: float = 0.1
    factor: float = 2.0
    wait_s_max: float = 5.0
    settled_s: float = 30.0


class Restarts:
    """The restarts of one process."""

    def __init__(self, policy: RestartPolicy) -> None:
        self._policy = policy
        self._wait_s = policy.first_s

    def ended(self, ran_s: float) -> float:
        """The process ended after ``ran_s``; how many seconds to wait before it is started again."""
        if ran_s >= self._policy.settled_s:
            self._wait_s = self._policy.first_s
        wait_s = self._wait_s
        self._wait_s = min(wait_s * self._policy.factor, self._policy.wait_s_max)
        return wait_s
