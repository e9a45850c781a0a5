"""The port of the state journals. Implementations: `jetstream`, and one in memory for tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from danube_common.model.bundle import Bundle


@dataclass(frozen=True, slots=True)
class JournalRecord:
    """One record. Sequences increase within a bundle, with gaps."""

    sequence: int
    data: bytes


class StateJournal(Protocol):
    """A durable, fenced log of small records per bundle, always on disk."""

    async def open(self) -> None:
        """Create the journal's storage. Idempotent, also from several processes at once."""

    async def append(
        self, bundle: Bundle, data: bytes, *, expected_sequence: int, reserve: bool = False
    ) -> int:
        """Append a record if the bundle's last record is still ``expected_sequence`` (0: none yet).

        Returns the new record's sequence. A repeat after a lost acknowledgement that was in fact
        stored by this very call is recognised and answered with its sequence. With ``reserve`` the record may
        use the room that a full journal keeps for snapshots, which are followed by `discard`.

        Raises:
            JournalFenced: another writer has written since.
            LogFull: the journals' size bound is reached; nothing was stored.
            LogUnavailable: no answer in time; the record may or may not be stored.
        """

    def replay(self, bundle: Bundle) -> AsyncIterator[JournalRecord]:
        """Yield every kept record of the bundle, oldest first. Raises LogUnavailable."""

    async def discard(self, bundle: Bundle, before_sequence: int) -> None:
        """Delete the bundle's records below ``before_sequence`` (a snapshot). Idempotent."""
