"""One bundle's cuts: a view that follows the catalogue, and the writes that change it."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Sequence
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

CutListener = Callable[[ManifestEntry | None, ManifestEntry | None], None]
"""Called with (before, after) for each change; one of them is None when a cut appears or goes."""


class Manifest:
    """The catalogue of one bundle, oldest cut first. It may be behind the store, never ahead of it."""

    def __init__(self, store: MetadataStore, bundle: Bundle, on_change: CutListener | None = None) -> None:
        self.bundle = bundle
        self._store = store
        self._on_change = on_change
        self._cuts: list[ManifestEntry] = []
        self._mirror: Mirror

    @classmethod
    async def open(cls, store: MetadataStore, bundle: Bundle, on_change: CutListener | None = None) -> Self:
        """Returns once everything catalogued so far is seen. Raises MetadataUnavailable."""
        self = cls(store, bundle, on_change)
        self._mirror = await Mirror.open(store, keys.cuts_prefix(bundle), self._changed)
        return self

    async def close(self) -> None:
        await self._mirror.close()

    # Look-ups

    def all(self) -> Sequence[ManifestEntry]:
        return tuple(self._cuts)

    @property
    def archived_through(self) -> int:
        """The last log sequence that is in a cut; 0 if none is."""
        return self._cuts[-1].last_sequence if self._cuts else 0

    @property
    def first_sequence(self) -> int | None:
        """Where the oldest cut begins: what came before is gone. None while there is no cut."""
        return self._cuts[0].first_sequence if self._cuts else None

    def covering(self, sequence: int) -> ManifestEntry | None:
        """The cut that holds ``sequence``."""
        found = bisect_right(self._cuts, sequence, key=_FIRST) - 1
        return self._cuts[found] if found >= 0 and sequence <= self._cuts[found].last_sequence else None

    def following(self, sequence: int) -> ManifestEntry | None:
        """The first cut that begins after ``sequence``."""
        found = bisect_right(self._cuts, sequence, key=_FIRST)
        return self._cuts[found] if found < len(self._cuts) else None

    # Changes

    async def add(self, cut: ManifestEntry) -> None:
        """Enter a cut whose segments are durable, right behind the newest; then the view shows it.

        Raises:
            AlreadyExists: another archiver was faster: what begins there is catalogued.
            MetadataUnavailable: the cut may or may not be entered.
        """
        try:
            revision = await self._store.put(
                keys.cut_key(self.bundle, cut.first_sequence), encode_record(cut), expected_revision=0
            )
        except Conflict:
            raise AlreadyExists(f"a cut of {self.bundle} begins at {cut.first_sequence} already") from None
        await self._mirror.catch_up(revision, CATCH_UP_TIMEOUT_S)

    async def change(self, cut: ManifestEntry, change: Callable[[ManifestEntry], ManifestEntry]) -> None:
        """Write what ``change`` makes of the present cut that begins where ``cut`` does.

        It is asked again when another writer was faster; nothing is written if it changes nothing or
        the cut is no more. Raises MetadataUnavailable.
        """

        def changed(value: bytes | None) -> bytes | None:
            if value is None:
                return None
            present = decode_record(ManifestEntry, value)
            wanted = change(present)
            return None if wanted == present else encode_record(wanted)

        revision = await rewrite(self._store, keys.cut_key(self.bundle, cut.first_sequence), changed)
        if revision is not None:
            await self._mirror.catch_up(revision, CATCH_UP_TIMEOUT_S)

    async def forget(self, cut: ManifestEntry) -> None:
        """Take a cut out of the catalogue. Idempotent. Raises MetadataUnavailable."""
        await self._store.delete(keys.cut_key(self.bundle, cut.first_sequence))

    async def refresh(self) -> None:
        """Until the view holds everything that is catalogued now. Raises MetadataUnavailable."""
        listing = await self._store.list(keys.cuts_prefix(self.bundle))
        if listing.entries:
            newest = max(entry.revision for entry in listing.entries)
            await self._mirror.catch_up(newest, CATCH_UP_TIMEOUT_S)

    def _changed(self, change: Change) -> None:
        first = int(change.key.rpartition("/")[2], 16)
        at = bisect_left(self._cuts, first, key=_FIRST)
        before: ManifestEntry | None = None
        if at < len(self._cuts) and self._cuts[at].first_sequence == first:
            before = self._cuts.pop(at)
        after = decode_record(ManifestEntry, change.value) if change.value is not None else None
        if after is not None:
            insort(self._cuts, after, key=_FIRST)
        if self._on_change is not None:
            self._on_change(before, after)
