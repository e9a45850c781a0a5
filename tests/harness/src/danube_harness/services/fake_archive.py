"""An archive for an owner under test: the test seals and deletes entries, a fake storage instance serves."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import msgspec

from danube_common.archive.manifest import Manifest
from danube_common.archive.records import DeletedSegment, ManifestEntry, SegmentRecord
from danube_common.cluster import keys
from danube_common.cluster.records import Instance, encode_record
from danube_harness.memory.segments import MemoryStore
from danube_harness.services.fake_storage import FakeStorage, archive
from danube_harness.services.owner_harness import OwnerHarness

HOLDER = "storage-1"


class FakeArchive:
    """Does what an archiver and retention do to the bundle of a harness, one step a call."""

    def __init__(self, harness: OwnerHarness, manifest: Manifest) -> None:
        self.manifest = manifest
        self.store = MemoryStore()
        self.storage = FakeStorage(harness.bus, HOLDER, self.store)
        self._harness = harness
        self._offsets: dict[int, int] = {}

    async def seal(self, *, through: int = 0, shared: tuple[int, ...] = ()) -> ManifestEntry | None:
        """Archive the log behind the last manifest entry; None if there is nothing to archive."""
        harness = self._harness
        first = self.manifest.archived_through + 1
        last = through or (await harness.log.bounds(harness.bundle)).last_sequence
        entries = []
        while first <= last:
            found = await harness.log.read(harness.bundle, first, frames_max=64, bytes_max=1 << 20)
            entries += [entry for entry in found if entry.sequence <= last]
            first = found[-1].sequence + 1
        if not entries:
            return None
        return await archive(
            self.manifest, self.store, entries, holders=(HOLDER,), shared=shared, offsets=self._offsets
        )

    async def purge(self) -> None:
        """Purge the log of all that is archived."""
        await self._harness.log.purge(self._harness.bundle, self.manifest.archived_through)

    async def mark_for_deletion(
        self, entry: ManifestEntry, which: Callable[[SegmentRecord], bool] = lambda _: True
    ) -> None:
        """Mark segments of an entry for deletion."""
        await self.manifest.change(
            entry,
            lambda present: msgspec.structs.replace(
                present,
                segments=tuple(
                    msgspec.structs.replace(record, delete_after_ms=1) if which(record) else record
                    for record in present.segments
                ),
            ),
        )

    async def delete(self, entry: ManifestEntry) -> None:
        """Delete the segments of an entry that are marked for deletion."""

        def deleted(present: ManifestEntry) -> ManifestEntry:
            gone = [record for record in present.segments if not record.retained]
            rows = tuple(
                DeletedSegment(r.topic_id, r.first_position, r.last_position, r.messages, r.size_bytes)
                for r in gone
            )
            kept = tuple(record for record in present.segments if record.retained)
            return msgspec.structs.replace(present, segments=kept, deleted=(*present.deleted, *rows))

        for record in (self.manifest.covering(entry.first_sequence) or entry).segments:
            if not record.retained:
                await self.store.delete(record.key)
        await self.manifest.change(entry, deleted)


@asynccontextmanager
async def open_fake_archive(harness: OwnerHarness) -> AsyncIterator[FakeArchive]:
    """Open an archive of the harness\'s bundle, with a running storage instance."""
    await harness.log.open(harness.bundle)
    await harness.store.put(keys.instance_key(HOLDER), encode_record(Instance(HOLDER, "storage", "")))
    manifest = await Manifest.open(harness.store, harness.bundle)
    fake_archive = FakeArchive(harness, manifest)
    await fake_archive.storage.start()
    try:
        yield fake_archive
    finally:
        await fake_archive.storage.stop()
        await manifest.close()
