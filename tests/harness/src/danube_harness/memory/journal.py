"""State journals inside one process: for tests, with the behaviour of `jetstream`."""

from __future__ import annotations

from danube_common.errors import JournalFenced
from danube_common.journal.port import JournalRecord
from danube_common.model.bundle import Bundle


class MemoryJournal:
    """A `StateJournal` for one process: every user holds the same object."""

    def __init__(self) -> None:
        self._records: dict[Bundle, list[JournalRecord]] = {}
        self._last_sequence = 0

    async def open(self) -> None:
        """Nothing to make."""

    async def append(self, bundle: Bundle, data: bytes, *, expected_sequence: int) -> int:
        """See the port."""
        records = self._records.setdefault(bundle, [])
        last = records[-1].sequence if records else 0
        if last != expected_sequence:
            raise JournalFenced(
                f"bundle {bundle}: the last record is not {expected_sequence} any more, but {last}"
            )
        # One numbering for all bundles, as in one stream: sequences within a bundle have gaps.
        self._last_sequence += 1
        records.append(JournalRecord(self._last_sequence, bytes(data)))
        return self._last_sequence

    async def replay(self, bundle: Bundle) -> list[JournalRecord]:
        """See the port."""
        return list(self._records.get(bundle, ()))

    async def discard(self, bundle: Bundle, before_sequence: int) -> None:
        """See the port. The last record always stays, because it carries the fence."""
        records = self._records.get(bundle)
        if records:
            kept = [record for record in records if record.sequence >= before_sequence]
            self._records[bundle] = kept or records[-1:]
