"""The manifest of one bundle's archive: a view that follows the metadata store, and the writes."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter
from typing import Self

from danube_common.archive.records import ManifestEntry
from danube_common.cluster import keys
from danube_common.cluster.records import decode_record, encode_record
from danube_common.errors import AlreadyExists, Conflict
from danube_common.metadata.mirror import Mirror
from danube_common.metadata.port import Change, MetadataStore
from danube_common.metadata.rewrite import rewrite
from danube_common.model.bundle import Bundle

CATCH_UP_TIMEOUT_S = 5.0

_FIRST = attrgetter("first_sequence")
_LAST = attrgetter("last_sequence")

EntryListener = Callable[[ManifestEntry | None, ManifestEntry | None], None]
"""Called with (before, after) for each change; ``None`` for an entry that appears or is removed."""


class Manifest:
    """The manifest entries of one bundle, oldest first, mirrored from the metadata store.

    The mirror may be behind the store, never ahead of it.
    """

    def __init__(self, store: MetadataStore, bundle: Bundle) -> None:
        self.bundle = bundle
        self._store = store
        self._on_change: EntryListener = lambda _before, _after: None
        self._entries: list[ManifestEntry] = []
        self._mirror: Mirror

    @classmethod
    async def open(cls, store: MetadataStore, bundle: Bundle) -> Self:
        """Open the view; it holds everything stored before the call. Raises MetadataUnavailable."""
        self = cls(store, bundle)
        self._mirror = await Mirror.open(store, keys.manifest_prefix(bundle), self._changed)
        return self

    def on_change(self, listener: EntryListener) -> None:
        """Call ``listener`` with each change from now on, instead of an earlier listener."""
        self._on_change = listener

    async def close(self) -> None:
        """Stop following the metadata store."""
        await self._mirror.close()

    # Look-ups

    def all(self) -> Sequence[ManifestEntry]:
        """All entries, oldest first."""
        return tuple(self._entries)

    @property
    def archived_through(self) -> int:
        """The last log sequence that is archived; 0 if none is."""
        return self._entries[-1].last_sequence if self._entries else 0

    def from_sequence(self, sequence: int) -> Iterator[ManifestEntry]:
        """The entries that hold ``sequence`` or later ones, oldest first.

        The view may change between two steps: each step looks at the view as it is then.
        """
        while (at := bisect_left(self._entries, sequence, key=_LAST)) < len(self._entries):
            entry = self._entries[at]
            yield entry
            sequence = entry.last_sequence + 1

    def covering(self, sequence: int) -> ManifestEntry | None:
        """The entry that holds ``sequence``."""
        entry = next(self.from_sequence(sequence), None)
        return entry if entry is not None and entry.first_sequence <= sequence else None

    # Changes

    async def add(self, entry: ManifestEntry) -> None:
        """Store an entry whose segments are durable, and return when the view shows it.

        The entry begins right behind the newest one.

        Raises:
            AlreadyExists: another archiver stored an entry that begins at the same sequence.
            MetadataUnavailable: the entry may or may not be stored.
        """
        try:
            revision = await self._store.put(
                keys.manifest_key(self.bundle, entry.first_sequence),
                encode_record(entry),
                expected_revision=0,
            )
        except Conflict:
            raise AlreadyExists(
                f"{self.bundle} has a manifest entry that begins at {entry.first_sequence} already"
            ) from None
        await self._mirror.catch_up(revision, CATCH_UP_TIMEOUT_S)

    async def change(self, entry: ManifestEntry, change: Callable[[ManifestEntry], ManifestEntry]) -> None:
        """Replace the stored entry that begins where ``entry`` does with what ``change`` makes of it.

        ``change`` is called again when another writer was faster. Nothing is written if ``change`` returns
        an equal entry, or if the entry was removed. Raises MetadataUnavailable.
        """

        def changed(value: bytes | None) -> bytes | None:
            if value is None:
                return None
            present = decode_record(ManifestEntry, value)
            wanted = change(present)
            return None if wanted == present else encode_record(wanted)

        revision = await rewrite(self._store, keys.manifest_key(self.bundle, entry.first_sequence), changed)
        if revision is not None:
            await self._mirror.catch_up(revision, CATCH_UP_TIMEOUT_S)

    async def forget(self, entry: ManifestEntry) -> None:
        """Remove an entry. Idempotent. Raises MetadataUnavailable."""
        await self._store.delete(keys.manifest_key(self.bundle, entry.first_sequence))

    async def refresh(self) -> None:
        """Wait until the view holds everything that is stored now. Raises MetadataUnavailable."""
        listing = await self._store.list(keys.manifest_prefix(self.bundle))
        if listing.entries:
            newest = max(entry.revision for entry in listing.entries)
            await self._mirror.catch_up(newest, CATCH_UP_TIMEOUT_S)

    def _changed(self, change: Change) -> None:
        first = int(change.key.rpartition("/")[2], 16)
        at = bisect_left(self._entries, first, key=_FIRST)
        before: ManifestEntry | None = None
        if at < len(self._entries) and self._entries[at].first_sequence == first:
            before = self._entries.pop(at)
        after = decode_record(ManifestEntry, change.value) if change.value is not None else None
        if after is not None:
            insort(self._entries, after, key=_FIRST)
        self._on_change(before, after)
