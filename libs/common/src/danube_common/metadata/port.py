"""The port of the metadata store. Implementations: `etcd`, `jetstream`, and one in memory for tests.

Keys look like paths, ``/namespaces/default/policy``: parts of ``[A-Za-z0-9_=-]`` separated by ``/``,
a leading slash. Values are bytes. A *revision* is a positive integer that grows with every change
anywhere in the store.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Entry:
    """A key's present value and the revision of its last change."""

    key: str
    value: bytes
    revision: int


@dataclass(frozen=True, slots=True)
class Change:
    """One change seen by a watch; ``value`` is None when the key was deleted or its lease ended."""

    key: str
    value: bytes | None
    revision: int


@dataclass(frozen=True, slots=True)
class Listing:
    """Every entry under a prefix, sorted by key, as of ``revision``: watch from there to miss nothing."""

    entries: tuple[Entry, ...]
    revision: int


class MetadataStore(Protocol):
    """Linearizable per key. Every method raises MetadataUnavailable when no answer comes in time."""

    @property
    def connected(self) -> bool:
        """Whether the last exchange succeeded; readiness depends on it."""

    async def get(self, key: str) -> Entry | None:
        """Return the key's entry, never older than the last write that any process was told of."""

    async def list(self, prefix: str) -> Listing:
        """Return the entries under ``prefix``, which ends in ``/``."""

    async def put(
        self, key: str, value: bytes, *, expected_revision: int | None = None, ttl_s: float | None = None
    ) -> int:
        """Write a value; return its revision.

        Args:
            key: where.
            value: what, at most 1 MiB.
            expected_revision: 0 the key must not exist (deleted and expired keys do not);
                n it must still be at revision n; None no condition.
            ttl_s: the key disappears unless it is put again within this time (rounded up to
                whole seconds, at least 1); None it stays, also when it had a ttl before.

        Raises:
            Conflict: the condition did not hold.
        """

    async def delete(self, key: str, *, expected_revision: int | None = None) -> bool:
        """Delete a key; return False if there was none. Raises Conflict if the condition does not hold."""

    def watch(self, prefix: str, *, after_revision: int) -> AsyncIterator[Change]:
        """Yield every change under ``prefix`` after ``after_revision``, in order, without end.

        Several changes of one key before the watch began may be folded into the latest one. Survives
        reconnects without a gap. Raises WatchLost when the store no longer has the history
        (compaction): list again and watch from there.
        """

    async def close(self) -> None:
        """End watches and connections. Idempotent."""


class WatchLost(Exception):
    """The history after the asked revision is gone; list again."""
