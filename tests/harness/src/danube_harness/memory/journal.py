"""State journals inside one process: for tests, with the behaviour of `jetstream`."""

from __future__ import annotations

from collections.abc import AsyncIterator

from danube_common.errors import JournalFenced, LogFull
from danube_common.journal.jetstream import DEFAULT_BYTES_MAX, RESERVE_PART
from danube_common.journal.port import JournalRecord
from danube_common.model.bundle import Bundle


class MemoryJournal:
    """A `StateJournal` for one process: every user holds the same object."""

    def __init__(self, *, bytes_max: int = DEFAULT_BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._records: dict[Bundle, list[JournalRecord]] = {}
        self._last_sequence = 0

    async def open(self) -> None:
        """Nothing to make."""

    async def append(
        self, bundle: Bundle, data: bytes, *, expected_sequence: int, reserve: bool = False
    ) -> int:
        """See the port."""
        records = self._records.setdefault(bundle, [])
        last = records[-1].sequence if records else 0
        if last != expected_sequence:
            raise JournalFenced(
                f"bundle {bundle}: the last record is not {expected_sequence} any more, but {last}"
            )
        stored = sum(len(record.data) for each in self._records.values() for record in each)
        bound = self._bytes_max + (self._bytes_max // RESERVE_PART if reserve else 0)
        if stored + len(data) > bound:
            raise LogFull(f"the journals have {stored} bytes")
        # One numbering for all bundles, as in one stream: sequences within a bundle have gaps.
        self._last_sequence += 1
        records.append(JournalRecord(self._last_sequence, bytes(data)))
        return self._last_sequence

    async def replay(self, bundle: Bundle) -> AsyncIterator[JournalRecord]:
        """See the port."""
        for record in list(self._records.get(bundle, ())):
            yield record

    async def discard(self, bundle: Bundle, before_sequence: int) -> None:
        """See the port. The last record always stays, because it carries the fence."""
        records = self._records.get(bundle)
        if records:
            kept = [record for record in records if record.sequence >= before_sequence]
            self._records[bundle] = kept or records[-1:]
