"""A bundle's archive for its owner: cuts made and deleted by the test, served by a fake storage instance."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import msgspec

from danube_common.archive.manifest import Manifest
from danube_common.archive.records import DeletedSegment, ManifestEntry, SegmentRecord
from danube_common.cluster import keys
from danube_common.cluster.records import Instance, encode_record
from danube_harness.services.fake_storage import FakeStorage, archive
from danube_harness.services.owner_harness import OwnerHarness
from danube_storage.segments.memory import MemoryStore

HOLDER = "storage-1"


class FakeArchive:
    """What an archiver and retention do to the harness's bundle, a step at a time."""

    def __init__(self, harness: OwnerHarness, cuts: Manifest) -> None:
        self.cuts = cuts
        self.store = MemoryStore()
        self.storage = FakeStorage(harness.bus, HOLDER, self.store)
        self._harness = harness
        self._offsets: dict[int, int] = {}

    async def cut(self, *, through: int = 0, shared: tuple[int, ...] = ()) -> ManifestEntry | None:
        """Archive the log from where the last cut ended; None if nothing is there."""
        harness = self._harness
        first = self.cuts.archived_through + 1
        last = through or (await harness.log.bounds(harness.bundle)).last_sequence
        entries = []
        while first <= last:
            found = await harness.log.read(harness.bundle, first, frames_max=64, bytes_max=1 << 20)
            entries += [entry for entry in found if entry.sequence <= last]
            first = found[-1].sequence + 1
        if not entries:
            return None
        return await archive(
            self.cuts, self.store, entries, holders=(HOLDER,), shared=shared, offsets=self._offsets
        )

    async def purge(self) -> None:
        """Purge the log of all that is archived."""
        await self._harness.log.purge(self._harness.bundle, self.cuts.archived_through)

    async def doom(self, cut: ManifestEntry, which: Callable[[SegmentRecord], bool] = lambda _: True) -> None:
        """Retention gives segments of a cut up."""
        await self.cuts.change(
            cut,
            lambda present: msgspec.structs.replace(
                present,
                segments=tuple(
                    msgspec.structs.replace(record, delete_after_ms=1) if which(record) else record
                    for record in present.segments
                ),
            ),
        )

    async def delete(self, cut: ManifestEntry) -> None:
        """Delete the segments of a cut that were given up."""

        def deleted(present: ManifestEntry) -> ManifestEntry:
            gone = [record for record in present.segments if not record.retained]
            rows = tuple(
                DeletedSegment(r.topic_id, r.first_position, r.last_position, r.messages, r.size_bytes)
                for r in gone
            )
            kept = tuple(record for record in present.segments if record.retained)
            return msgspec.structs.replace(present, segments=kept, deleted=(*present.deleted, *rows))

        for record in (self.cuts.covering(cut.first_sequence) or cut).segments:
            if not record.retained:
                await self.store.delete(record.key)
        await self.cuts.change(cut, deleted)


@asynccontextmanager
async def open_fake_archive(harness: OwnerHarness) -> AsyncIterator[FakeArchive]:
    await harness.log.open(harness.bundle)
    await harness.store.put(keys.instance_key(HOLDER), encode_record(Instance(HOLDER, "storage", "")))
    cuts = await Manifest.open(harness.store, harness.bundle)
    attic = FakeArchive(harness, cuts)
    await attic.storage.start()
    try:
        yield attic
    finally:
        await attic.storage.stop()
        await cuts.close()
