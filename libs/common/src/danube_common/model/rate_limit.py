"""A token bucket: how many messages may pass now, and when the next one may."""

from __future__ import annotations

BURST_S = 1.0
"""A bucket that was idle lets this many seconds' worth through at once."""


class TokenBucket:
    """``rate`` messages per second; times are monotonic seconds. Rate 0 sets no limit."""

    def __init__(self, rate: float, now: float) -> None:
        self.rate = rate
        self._tokens = rate * BURST_S
        self._at = now

    def set_rate(self, rate: float, now: float) -> None:
        """Change the rate; saved tokens are kept up to the new burst."""
        if rate != self.rate:
            self._refill(now)
            self._tokens = min(self._tokens, rate * BURST_S) if self.rate else rate * BURST_S
            self.rate = rate

    def available(self, now: float) -> float:
        """Return how many messages may pass now, with fractions; infinite without a rate."""
        if not self.rate:
            return float("inf")
        self._refill(now)
        return self._tokens

    def take(self, count: float) -> None:
        """Use ``count`` tokens; a debt is allowed and delays later messages."""
        if self.rate:
            self._tokens -= count

    def debt_s(self, now: float) -> float:
        """Return the seconds until a debt is paid back; 0 without a debt."""
        available = self.available(now)
        return -available / self.rate if self.rate and available < 0 else 0.0

    def wait_s(self, now: float) -> float:
        """Return the seconds until one whole message may pass; 0 if one may now."""
        missing = 1.0 - self.available(now)
        return max(missing / self.rate, 0.0) if self.rate else 0.0

    def _refill(self, now: float) -> None:
        burst = max(self.rate * BURST_S, 1.0)
        self._tokens = min(self._tokens + (now - self._at) * self.rate, burst)
        self._at = now
