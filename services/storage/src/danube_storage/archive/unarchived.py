"""What waits in a bundle's log, by topic: one may fill a segment long before the largest does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from danube_storage.archive.log_range import LogRange
from danube_storage.archive.segment_plan import TopicRule


class UnarchivedBytes:
    """Counts each log_range of the log once; what a cut has taken is forgotten."""

    def __init__(self) -> None:
        self.through = 0
        """The last sequence that was counted, or cut."""
        self._cut_through = 0
        self._entry_bytes: Counter[int] = Counter()

    def cut(self, through: int) -> None:
        """The log is cut up to ``through``; what was counted behind it is counted again."""
        if through != self._cut_through:
            self._cut_through = self.through = through
            self._entry_bytes.clear()

    def count(self, log_range: LogRange) -> None:
        """``log_range`` begins behind ``through``."""
        for section in log_range.sections:
            self._entry_bytes[section.raw.topic_id] += section.entry_bytes
        self.through = log_range.last_sequence

    def skip(self, sequence: int) -> None:
        """The frame there cannot be counted."""
        self.through = sequence

    def full(self, rules: Mapping[int, TopicRule]) -> int | None:
        """A topic that has a segment's worth by its rule."""
        return next(
            (
                topic_id
                for topic_id, entry_bytes in self._entry_bytes.items()
                if topic_id in rules and entry_bytes >= rules[topic_id].segment_bytes_max
            ),
            None,
        )
