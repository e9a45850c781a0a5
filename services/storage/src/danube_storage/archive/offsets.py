"""The running offset of each topic of a bundle: how many messages it had before."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Self

from danube_common.archive.records import (
    SHARED,
    BundleArchive,
    ManifestEntry,
    pack_offsets,
    unpack_offsets,
)
from danube_storage.archive.log_range import RangeSection


class Offsets:
    """Next offsets by topic id.

    Attributes:
        through: the log sequence up to which messages were counted.
    """

    def __init__(self, through: int = 0, next_offsets: Mapping[int, int] | None = None) -> None:
        self.through = through
        self._next = dict(next_offsets or {})

    @classmethod
    def saved(cls, archive: BundleArchive) -> Self:
        """As they were written last. Raises CorruptData."""
        return cls(archive.offsets_through, unpack_offsets(archive.offsets))

    @property
    def packed(self) -> bytes:
        return pack_offsets(self._next)

    def of(self, topic_id: int) -> int:
        """The offset of the topic's next message."""
        return self._next.get(topic_id, 0)

    def copy(self) -> Offsets:
        return Offsets(self.through, self._next)

    def count(self, sections: Iterable[RangeSection], through: int) -> None:
        """Count what follows, up to the sequence ``through``."""
        for section in sections:
            topic_id = section.raw.topic_id
            self._next[topic_id] = self.of(topic_id) + section.raw.messages
        self.through = through

    def count_own(self, cut: ManifestEntry) -> None:
        """Count the cut that follows by its record, which says nothing of the topics of shared segments."""
        rows = [(row.topic_id, row.messages) for row in cut.segments]
        rows += [(row.topic_id, row.messages) for row in cut.deleted]
        for topic_id, messages in rows:
            if topic_id != SHARED:
                self._next[topic_id] = self.of(topic_id) + messages
        self.through = cut.last_sequence

    def retain(self, topic_ids: Iterable[int]) -> None:
        """Forget all other topics."""
        kept = set(topic_ids)
        self._next = {topic_id: offset for topic_id, offset in self._next.items() if topic_id in kept}


def has_shared(cut: ManifestEntry) -> bool:
    """Whether the cut's record does not say how many messages each topic had in it."""
    return SHARED in {*(row.topic_id for row in cut.segments), *(row.topic_id for row in cut.deleted)}
