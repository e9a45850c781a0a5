"""The port of the state journals. Implementations: `jetstream`, and one in memory for tests."""

from __future__ import annotations

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

    async def append(self, bundle: Bundle, data: bytes, *, expected_sequence: int) -> int:
        """Append a record if the bundle's last record is still ``expected_sequence`` (0: none yet).

        Returns the new record's sequence. A repeat after a lost acknowledgement that was in fact
        stored by this very call is recognised and answered with its sequence.

        Raises:
            JournalFenced: another writer has written since.
            LogUnavailable: no answer in time; the record may or may not be stored.
        """

    async def replay(self, bundle: Bundle) -> list[JournalRecord]:
        """Return every kept record of the bundle, oldest first. Raises LogUnavailable."""

    async def discard(self, bundle: Bundle, before_sequence: int) -> None:
        """Delete the bundle's records below ``before_sequence`` (a snapshot). Idempotent."""
