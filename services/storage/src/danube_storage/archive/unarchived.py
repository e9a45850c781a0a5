"""Bytes that wait in a bundle's log to be archived, counted by topic."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from danube_storage.archive.log_range import SECTIONS_MAX, LogRange, RangeSection
from danube_storage.archive.segment_plan import TopicRule


class HoldBudget:
    """Memory for counted log ranges, shared by all bundles of the process."""

    def __init__(self, bytes_max: int) -> None:
        self.bytes_free = bytes_max


class UnarchivedBytes:
    """Counts each log range once, and holds the counted sections for sealing while the budget allows.

    Attributes:
        through: the last log sequence that was counted or archived.
    """

    def __init__(self, budget: HoldBudget) -> None:
        self.through = 0
        self._archived_through = 0
        self._budget = budget
        self._entry_bytes: Counter[int] = Counter()
        self._held: list[RangeSection] = []
        self._held_bytes = 0
        self._holds_all = True

    @property
    def log_range(self) -> LogRange | None:
        """Everything that was counted; None if it is not held."""
        if not self._holds_all or self.through <= self._archived_through:
            return None
        return LogRange(self._archived_through + 1, self.through, list(self._held), 0)

    def archived(self, through: int) -> None:
        """The log is archived through this sequence: drop those counts, keep what is held behind it."""
        if through == self._archived_through:
            return
        rest = [section for section in self._held if section.sequence > through]
        counted_through = self.through if self._holds_all else through
        self.release()
        self._archived_through = through
        self.through = max(through, counted_through)
        self._entry_bytes.clear()
        self._holds_all = True
        self._add(rest)

    def count(self, log_range: LogRange) -> None:
        """Count a range that begins behind ``through``."""
        self.through = log_range.last_sequence
        self._holds_all = self._holds_all and not log_range.missing
        self._add(log_range.sections)

    def skip(self, sequence: int) -> None:
        """Pass over a frame that cannot be decoded."""
        self.through = sequence
        self._holds_all = False
        self.release()

    def full_topic(self, rules: Mapping[int, TopicRule]) -> int | None:
        """Return the id of a topic whose bytes fill a segment by its rule; None if there is none."""
        for topic_id, entry_bytes in self._entry_bytes.items():
            if topic_id in rules and entry_bytes >= rules[topic_id].segment_bytes_max:
                return topic_id
        return None

    def release(self) -> None:
        """Return the held memory to the budget. Counts stay."""
        self._budget.bytes_free += self._held_bytes
        self._held, self._held_bytes = [], 0

    def _add(self, sections: Sequence[RangeSection]) -> None:
        added_bytes = 0
        for section in sections:
            self._entry_bytes[section.raw.topic_id] += section.entry_bytes
            added_bytes += section.entry_bytes
        fits = added_bytes <= self._budget.bytes_free and len(self._held) + len(sections) <= SECTIONS_MAX
        if self._holds_all and fits:
            self._held += sections
            self._held_bytes += added_bytes
            self._budget.bytes_free -= added_bytes
        else:
            self._holds_all = False
            self.release()
