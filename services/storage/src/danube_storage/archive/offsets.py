"""The next offset of each topic of a bundle: an offset counts the topic's messages before a message."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Self

from danube_common.archive.records import BundleArchive, ManifestEntry, pack_offsets, unpack_offsets
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
        """Return the stored offsets. Raises CorruptData."""
        return cls(archive.offsets_through, unpack_offsets(archive.offsets))

    @property
    def packed(self) -> bytes:
        """The offsets in their stored form."""
        return pack_offsets(self._next)

    def of(self, topic_id: int) -> int:
        """Return the offset of the topic's next message."""
        return self._next.get(topic_id, 0)

    def copy(self) -> Offsets:
        """Return an independent copy."""
        return Offsets(self.through, self._next)

    def count(self, sections: Iterable[RangeSection], through: int) -> None:
        """Count the sections that follow, up to the log sequence ``through``."""
        for section in sections:
            topic_id = section.raw.topic_id
            self._next[topic_id] = self.of(topic_id) + section.raw.messages
        self.through = through

    def count_entry(self, entry: ManifestEntry) -> None:
        """Count the entry that follows by its records; they do not count the topics of shared segments."""
        for topic_id, messages in entry.own_messages():
            self._next[topic_id] = self.of(topic_id) + messages
        self.through = entry.last_sequence

    def retain(self, topic_ids: Iterable[int]) -> None:
        """Drop the offsets of all other topics."""
        kept = set(topic_ids)
        self._next = {topic_id: offset for topic_id, offset in self._next.items() if topic_id in kept}
