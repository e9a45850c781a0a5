"""How many messages each topic had in the frames that went by: what a purged volatile log held. Pure."""

from __future__ import annotations

from collections import deque

from danube_common.model.position import BEFORE_ALL

ROWS_MAX = 50_000
"""Sections that are remembered, of all topics of a bundle; older ones are not counted any more."""


class SectionCounts:
    """Sections are noted in log order."""

    def __init__(self, rows_max: int = ROWS_MAX) -> None:
        self._rows_max = rows_max
        self._by_topic: dict[int, deque[tuple[int, int]]] = {}
        self._order: deque[tuple[int, int]] = deque()
        self._known_after = BEFORE_ALL

    def start(self, after: int) -> None:
        """Forget everything: what is noted from now on is all there is behind position ``after``."""
        self._by_topic.clear()
        self._order.clear()
        self._known_after = after

    def note(self, topic_id: int, first_position: int, messages: int) -> None:
        self._by_topic.setdefault(topic_id, deque()).append((first_position, messages))
        self._order.append((first_position, topic_id))
        if len(self._order) > self._rows_max:
            self._forget_oldest()

    def forget(self, through: int) -> None:
        """What is at or below position ``through`` is asked for no more."""
        while self._order and self._order[0][0] <= through:
            self._forget_oldest()

    def count(self, topic_id: int, after: int, through: int) -> int | None:
        """The topic's messages behind ``after``, in sections up to ``through``; None if not known."""
        if after < self._known_after:
            return None
        return sum(
            first + messages - 1 - max(after, first - 1)
            for first, messages in self._by_topic.get(topic_id, ())
            if first <= through and first + messages - 1 > after
        )

    def _forget_oldest(self) -> None:
        first, topic_id = self._order.popleft()
        rows = self._by_topic[topic_id]
        _, messages = rows.popleft()
        if not rows:
            del self._by_topic[topic_id]
        self._known_after = max(self._known_after, first + messages - 1)
