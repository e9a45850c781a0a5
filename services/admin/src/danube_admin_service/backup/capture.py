"""Reads a backup while the platform runs.

The order makes the parts of each bundle fit: the journals first, so that no cursor is beyond the log that is
copied after it; then each file bundle's log, with the manifest that belongs to it; then all other metadata.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Final

import msgspec

from danube_admin_service.backup.plan import PER_BUNDLE, fits, is_kept, settled, with_floor_of
from danube_admin_service.backup.segment_check import SegmentCheck
from danube_common.archive.records import BundleArchive, ManifestEntry, SegmentRecord
from danube_common.bus.port import Bus
from danube_common.cluster import keys
from danube_common.cluster.records import Layout, decode_record, encode_record, read_record, read_records
from danube_common.errors import CorruptData, DanubeError, NotFound, Refused, Unavailable
from danube_common.journal.jetstream import STREAM_NAME as JOURNAL
from danube_common.log.jetstream import stream_name
from danube_common.metadata.port import Entry, MetadataStore
from danube_common.model.bundle import Bundle, Family
from danube_common.model.strategy import StorageBackend
from danube_common.nats.snapshot import Snapshot, StreamSnapshots
from danube_common.wire.repair import FETCH_BYTES_MAX, REPAIR, FetchSegment, repair_subject
from danube_proto import danube_operations_pb2 as wire

ATTEMPTS_MAX: Final = 8
"""How often the copy of one log is tried whose archiver is faster."""
METADATA_PART_BYTES: Final = 256 << 10
FETCH_TIMEOUT_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class _Archive:
    """The manifest of a bundle, oldest entry first, and what is kept of removed entries."""

    entries: tuple[ManifestEntry, ...]
    state: Entry | None

    @property
    def through(self) -> int:
        return self.entries[-1].last_sequence if self.entries else 0


class Capture:
    """One backup.

    Args:
        store: the metadata of the cluster.
        snapshots: of the streams of its NATS servers.
    """

    def __init__(self, store: MetadataStore, snapshots: StreamSnapshots) -> None:
        self._store = store
        self._snapshots = snapshots
        self._log_ends: dict[str, int] = {}
        self._records: list[tuple[str, bytes]] = []
        self._segments: list[tuple[ManifestEntry, SegmentRecord]] = []

    async def parts(self) -> AsyncIterator[wire.BackupPart]:
        """Yield all parts but the bytes of segments.

        Raises:
            Refused: the cluster has no layout yet, or its layout was changed meanwhile.
            Unavailable: the metadata store or NATS does not answer, or a bundle is archived too fast.
        """
        layout = await self._layout()
        journals = await self._snapshots.open(JOURNAL)
        if journals is not None:
            async for part in _stream_parts(JOURNAL, journals):
                yield part
        for bundle in layout.bundles():
            if bundle.family is Family.FILE:
                async for part in self._bundle(bundle):
                    yield part
        for part in _metadata_parts([*self._records, *await self._other_records()]):
            yield part
        if await self._layout() != layout:
            raise Refused("bundles were added while the backup was made: make it again")
        for entry, record in self._segments:
            named = wire.Segment(
                bundle=entry.bundle,
                first_sequence=entry.first_sequence,
                backend=record.backend,
                size_bytes=record.size_bytes,
            )
            yield wire.BackupPart(kind=wire.BackupPart.SEGMENT, name=record.key, segment=named, last=True)
        archive = await self._store.get(keys.ARCHIVE_ID)
        yield wire.BackupPart(
            kind=wire.BackupPart.END, archive=archive.value.decode() if archive else "", last=True
        )

    async def _layout(self) -> Layout:
        layout = await read_record(self._store, keys.LAYOUT, Layout)
        if layout is None:
            raise Refused("the cluster has no layout yet: there is nothing to back up")
        return layout

    async def _bundle(self, bundle: Bundle) -> AsyncIterator[wire.BackupPart]:
        """Yield the log of a bundle, more than once if its archiver was faster; the last one counts."""
        name = stream_name(bundle)
        for _ in range(ATTEMPTS_MAX):
            snapshot = await self._snapshots.open(name)
            archive = await self._archive(bundle)
            if snapshot is None:
                if archive.through:
                    raise Unavailable(f"the log of bundle {bundle} is missing")
                return
            try:
                first, last = max(snapshot.state.first_seq, 1), snapshot.state.last_seq
                if not fits(archive.through, first, last):
                    continue
                async for part in _stream_parts(name, snapshot):
                    yield part
            finally:
                await snapshot.close()
            # What was purged while it was sent may be missing in the copy. A manifest that has it fits if the
            # log was copied beyond it.
            purged = await self._snapshots.state(name)
            if purged is None or purged.first_seq > archive.through + 1:
                archive = await self._archive(bundle)
                if archive.through > last:
                    continue
            self._take(bundle, archive, last)
            return
        raise _too_fast(bundle)

    async def _archive(self, bundle: Bundle) -> _Archive:
        for _ in range(ATTEMPTS_MAX):
            entries = tuple(await read_records(self._store, keys.manifest_prefix(bundle), ManifestEntry))
            # Read after the manifest: it tells of entries that are removed before they are.
            state = await self._store.get(keys.archive_key(bundle))
            archive = _Archive(entries, state)
            if state is None or decode_record(BundleArchive, state.value).offsets_through <= archive.through:
                return archive
        raise _too_fast(bundle)

    def _take(self, bundle: Bundle, archive: _Archive, log_end: int) -> None:
        self._log_ends[str(bundle)] = log_end
        for found in archive.entries:
            entry = settled(found)
            self._records.append((keys.manifest_key(bundle, entry.first_sequence), encode_record(entry)))
            self._segments += [(entry, record) for record in entry.segments]
        if archive.state is not None:
            self._records.append((archive.state.key, archive.state.value))

    async def _other_records(self) -> list[tuple[str, bytes]]:
        listing = await self._store.list("/")
        return [
            (entry.key, self._adjusted(entry))
            for entry in listing.entries
            if is_kept(entry.key) and not (entry.key.startswith(PER_BUNDLE) and self._is_taken(entry.key))
        ]

    def _is_taken(self, key: str) -> bool:
        """Whether the record was read with its bundle; those of memory bundles are not."""
        return key.split("/")[3] in self._log_ends

    def _adjusted(self, entry: Entry) -> bytes:
        if not (entry.key.startswith(keys.TOPICS) and entry.key.endswith("/definition")):
            return entry.value
        return with_floor_of(entry.value, self._log_ends)


def _too_fast(bundle: Bundle) -> Unavailable:
    return Unavailable(
        f"the archive of bundle {bundle} moves faster than its log can be copied: try again when less is "
        "published, or let storage seal less often (--seal-age-s, --cut-bytes-max)"
    )


async def _stream_parts(name: str, snapshot: Snapshot) -> AsyncIterator[wire.BackupPart]:
    try:
        yield wire.BackupPart(kind=wire.BackupPart.STREAM, name=name, head=snapshot.head)
        async for data in snapshot.chunks():
            yield wire.BackupPart(kind=wire.BackupPart.STREAM, name=name, data=data)
        yield wire.BackupPart(kind=wire.BackupPart.STREAM, name=name, last=True)
    finally:
        await snapshot.close()


def _metadata_parts(records: Iterable[tuple[str, bytes]]) -> Iterable[wire.BackupPart]:
    data = b""
    for key, value in sorted(records):
        try:
            data += msgspec.json.encode({"key": key, "value": value.decode()}) + b"\n"
        except UnicodeDecodeError:
            raise CorruptData(f"the record {key} is not text") from None
        if len(data) >= METADATA_PART_BYTES:
            yield wire.BackupPart(kind=wire.BackupPart.METADATA, data=data)
            data = b""
    yield wire.BackupPart(kind=wire.BackupPart.METADATA, data=data, last=True)


async def read_segment(
    store: MetadataStore, bus: Bus, request: wire.ReadSegmentRequest
) -> AsyncIterator[wire.SegmentPart]:
    """Read a segment from the disk of one of its holders, and check it; from the next one if it is damaged.

    Raises:
        InvalidInput: the bundle is none.
        NotFound: the segment is not on a disk.
        Unavailable: no holder has an intact copy and answers.
    """
    record = await _retained(store, request)
    if record is None:
        yield wire.SegmentPart(gone=True)
        return
    if record.backend is not StorageBackend.DISK:
        raise NotFound(f"segment {request.key} is in S3 and not on a disk")
    reasons = []
    for holder in sorted(record.holders, key=lambda one: one in record.quarantined):
        check, offset = SegmentCheck(record), 0
        try:
            while offset < record.size_bytes:
                fetch = FetchSegment(record.key, offset, FETCH_BYTES_MAX)
                got = await REPAIR.ask(bus, repair_subject(holder), fetch, timeout_s=FETCH_TIMEOUT_S)
                if not got.data:
                    break
                check.feed(got.data)
                yield wire.SegmentPart(data=got.data, anew=not offset)
                offset += len(got.data)
            check.finish()
        except DanubeError as error:
            reasons.append(f"storage instance {holder}: {error}")
            continue
        return
    if await _retained(store, request) is None:  # deleted while it was read
        yield wire.SegmentPart(gone=True)
        return
    raise Unavailable(f"segment {request.key} cannot be read: {'; '.join(reasons) or 'it has no holder'}")


async def _retained(store: MetadataStore, request: wire.ReadSegmentRequest) -> SegmentRecord | None:
    """Return the record of a segment; None if retention took it. Raises InvalidInput."""
    key = keys.manifest_key(Bundle.parse(request.bundle), request.first_sequence)
    entry = await read_record(store, key, ManifestEntry)
    record = next((one for one in entry.segments if one.key == request.key), None) if entry else None
    return record if record is not None and record.retained else None
