"""When a process that ended is started again. Pure: takes durations in, gives durations out."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """Exponential back-off between restarts of a process.

    Attributes:
        first_s: the wait before the first restart.
        factor: the ratio of each further wait to the one before.
        wait_s_max: the longest wait.
        settled_s: after a run of this length the wait is ``first_s`` again.
    """

    first_s: float = 0.1
    factor: float = 2.0
    wait_s_max: float = 5.0
    settled_s: float = 30.0


class Restarts:
    """The back-off of one process."""

    def __init__(self, policy: RestartPolicy) -> None:
        self._policy = policy
        self._wait_s = policy.first_s

    def ended(self, ran_s: float) -> float:
        """Return the seconds to wait before a restart of the process, which ran for ``ran_s`` seconds."""
        if ran_s >= self._policy.settled_s:
            self._wait_s = self._policy.first_s
        wait_s = self._wait_s
        self._wait_s = min(wait_s * self._policy.factor, self._policy.wait_s_max)
        return wait_s
