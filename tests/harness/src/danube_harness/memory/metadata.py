"""The metadata store in memory: used by tests, also as the model that other adapters are compared with."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Final

from danube_common.errors import Conflict, MetadataUnavailable
from danube_common.metadata.key import (
    require_key,
    require_prefix,
    require_revision,
    require_write,
)
from danube_common.metadata.port import Change, Entry, Listing, WatchLost

HISTORY_CHANGES_MAX: Final = 100_000
"""Changes kept for watches that start in the past; older ones are compacted."""


@dataclass(slots=True)
class _Stored:
    value: bytes
    revision: int
    expires_at: float | None


class MemoryState:
    """The state that the handles of one store share. It lives in one event loop."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.revision = 0
        self.compacted_to = 0
        self._stored: dict[str, _Stored] = {}
        self._history: deque[Change] = deque()
        self._waiters: set[asyncio.Future[None]] = set()

    def get(self, key: str) -> Entry | None:
        """Return a live entry, or None."""
        self.expire_due()
        stored = self._stored.get(key)
        return None if stored is None else Entry(key, stored.value, stored.revision)

    def listing(self, prefix: str) -> Listing:
        """Return the live entries under a prefix."""
        self.expire_due()
        entries = (Entry(k, s.value, s.revision) for k, s in self._stored.items() if k.startswith(prefix))
        return Listing(tuple(sorted(entries, key=lambda entry: entry.key)), self.revision)

    def put(self, key: str, value: bytes, expected_revision: int | None, ttl_s: int | None) -> int:
        """Write an entry; return its revision."""
        self._require(key, expected_revision)
        change = self._record(key, value)
        expires_at = None if ttl_s is None else self.clock() + ttl_s
        self._stored[key] = _Stored(value, change.revision, expires_at)
        self.wake()
        return change.revision

    def delete(self, key: str, expected_revision: int | None) -> bool:
        """Delete an entry; return False if there was none."""
        self._require(key, expected_revision)
        if self._stored.pop(key, None) is None:
            return False
        self._record(key, None)
        self.wake()
        return True

    def compact(self, revision: int) -> None:
        """Forget the history up to and including ``revision``."""
        while self._history and self._history[0].revision <= revision:
            self._history.popleft()
        self.compacted_to = max(self.compacted_to, revision)
        self.wake()

    def expire_due(self) -> None:
        """Delete entries that have outlived their lifetime. Every call does so first."""
        now = self.clock()
        due = [
            (s.expires_at, k)
            for k, s in self._stored.items()
            if s.expires_at is not None and s.expires_at <= now
        ]
        for _, key in sorted(due):
            del self._stored[key]
            self._record(key, None)
        if due:
            self.wake()

    def changes_after(self, revision: int, prefix: str) -> list[Change]:
        """Return the changes under ``prefix`` after ``revision``; raises WatchLost if some are forgotten."""
        self.expire_due()
        if revision < self.compacted_to and revision < self.revision:
            raise WatchLost(f"changes up to {self.compacted_to} are compacted, asked after {revision}")
        newer: list[Change] = []
        for change in reversed(self._history):
            if change.revision <= revision:
                break
            if change.key.startswith(prefix):
                newer.append(change)
        newer.reverse()
        return newer

    async def wait(self) -> None:
        """Wait for a change, or for the end of the next lifetime."""
        lifetimes = [s.expires_at for s in self._stored.values() if s.expires_at is not None]
        timeout_s = max(0.0, min(lifetimes) - self.clock()) if lifetimes else None
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            await asyncio.wait([waiter], timeout=timeout_s)
        finally:
            self._waiters.discard(waiter)

    def wake(self) -> None:
        """Wake all who wait for a change."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _require(self, key: str, expected_revision: int | None) -> None:
        self.expire_due()
        if expected_revision is None:
            return
        stored = self._stored.get(key)
        revision = 0 if stored is None else stored.revision
        if revision != expected_revision:
            raise Conflict(f"{key} is at revision {revision}, expected {expected_revision}")

    def _record(self, key: str, value: bytes | None) -> Change:
        self.revision += 1
        change = Change(key, value, self.revision)
        self._history.append(change)
        if len(self._history) > HISTORY_CHANGES_MAX:
            self.compacted_to = self._history.popleft().revision
        return change


class MemoryMetadata:
    """A handle on a store in memory. Handles share their state; each can be made unreachable by itself.

    Attributes:
        state: what the handles share.
        reachable: set to False, every call of this handle raises MetadataUnavailable and its watches
            pause, as in a network partition; set to True, they continue without a gap.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, *, state: MemoryState | None = None
    ) -> None:
        self.state = MemoryState(clock) if state is None else state
        self._reachable = True
        self._closed = False

    def handle(self) -> MemoryMetadata:
        """Return another handle on the same store."""
        return MemoryMetadata(state=self.state)

    @property
    def reachable(self) -> bool:
        return self._reachable

    @reachable.setter
    def reachable(self, reachable: bool) -> None:
        self._reachable = reachable
        self.state.wake()

    @property
    def connected(self) -> bool:
        return self._reachable and not self._closed

    async def get(self, key: str) -> Entry | None:
        """See the port."""
        require_key(key)
        await self._exchange()
        return self.state.get(key)

    async def list(self, prefix: str) -> Listing:
        """See the port."""
        require_prefix(prefix)
        await self._exchange()
        return self.state.listing(prefix)

    async def put(
        self, key: str, value: bytes, *, expected_revision: int | None = None, ttl_s: float | None = None
    ) -> int:
        """See the port."""
        lifetime_s = require_write(key, value, expected_revision, ttl_s)
        await self._exchange()
        return self.state.put(key, bytes(value), expected_revision, lifetime_s)

    async def delete(self, key: str, *, expected_revision: int | None = None) -> bool:
        """See the port."""
        require_key(key)
        require_revision(expected_revision)
        await self._exchange()
        return self.state.delete(key, expected_revision)

    async def watch(self, prefix: str, *, after_revision: int) -> AsyncGenerator[Change, None]:
        """See the port."""
        require_prefix(prefix)
        seen = after_revision
        while not self._closed:
            upto = self.state.revision if self._reachable else seen
            changes = self.state.changes_after(seen, prefix) if self._reachable else []
            for change in changes:
                if self._closed or not self._reachable:
                    break
                seen = change.revision
                yield change
            else:
                seen = max(seen, upto)
            if not changes:
                await self.state.wait()

    async def close(self) -> None:
        """See the port."""
        self._closed = True
        self.state.wake()

    async def _exchange(self) -> None:
        # A real store answers after other tasks ran; the memory store must interleave with them as well.
        await asyncio.sleep(0)
        if not self.connected:
            raise MetadataUnavailable("the store in memory is closed or out of reach")
