"""Fills an empty cluster from a backup, before any of its services runs."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from danube_admin_service.backup.plan import held_by, is_kept, without
from danube_admin_service.backup.segment_check import SegmentCheck
from danube_common.archive.records import ManifestEntry, SegmentRecord
from danube_common.cluster import keys
from danube_common.cluster.records import Layout, decode_record, encode_record
from danube_common.errors import UNDECODABLE, CorruptData, InvalidInput, LimitExceeded, Refused
from danube_common.journal.jetstream import STREAM_NAME as JOURNAL
from danube_common.journal.jetstream import journal_subject
from danube_common.metadata.port import MetadataStore
from danube_common.model.strategy import StorageBackend
from danube_common.nats.connection import Connection
from danube_common.nats.snapshot import StreamRestore, StreamSnapshots
from danube_common.nats.stream import Stream
from danube_proto import danube_operations_pb2 as wire

METADATA_BYTES_MAX: Final = 256 << 20
"""All records are held in memory: none is written before everything else is in its place."""
WRITES_AT_ONCE: Final = 32
PUBLISH_TIMEOUT_S: Final = 10.0
STREAM_PREFIX: Final = "DANUBE_"

_PART_OF_KEY: Final = re.compile(r"[A-Za-z0-9_=-][A-Za-z0-9._=-]*")


class _Claimed(msgspec.Struct, tag="claimed", frozen=True):
    """The journal's event of an ownership. Epochs begin anew in a restored cluster."""

    epoch: int
    instance_id: str


class Restore:
    """One restore. Parts are taken in the order in which `Capture` gives them, with the bytes of segments.

    Args:
        store: the metadata of the empty cluster.
        connection: to its NATS servers, as a user who may restore streams and write journals.
        segments_dir: the ``data_dir`` of the storage instance that gets all segments on disk; None: none may
            come.
        holder: the instance id of that storage instance.
    """

    def __init__(
        self, store: MetadataStore, connection: Connection, *, segments_dir: Path | None, holder: str
    ) -> None:
        self._store = store
        self._connection = connection
        self._snapshots = StreamSnapshots(connection)
        self._segments_dir = segments_dir
        self._holder = holder
        self._stream: tuple[str, StreamRestore] | None = None
        self._metadata = bytearray()
        self._records: dict[str, bytes] = {}
        self._segments: dict[str, SegmentRecord] = {}
        self._gone: dict[str, set[str]] = {}
        self._writing: _SegmentFile | None = None
        self._written: set[str] = set()
        self._archive = ""

    async def begin(self) -> None:
        """Raises Refused unless the cluster is empty and nothing but this process runs."""
        entries = (await self._store.list("/")).entries
        if any(is_kept(entry.key) for entry in entries):
            raise Refused(
                "the cluster is not empty: its metadata store has records. A backup is restored into empty "
                "stores of NATS and of metadata only"
            )
        streams = [name for name in await self._snapshots.names() if name.startswith(STREAM_PREFIX)]
        if streams:
            raise Refused(
                f"the cluster is not empty: NATS has the stream {streams[0]}. If an earlier restore broke "
                "off, empty the stores and restore again"
            )
        if entries:
            raise Refused("other services run: a backup is restored before they are started")

    async def take(self, part: wire.BackupPart) -> int:
        """Take one part. Returns how many records were written, which is 0 before the end.

        Raises:
            InvalidInput: the part is none of a backup, or its bytes are not what the backup says of them.
            Refused: segments on disk come, and no directory was given.
            Unavailable: NATS or the metadata store does not answer.
        """
        match part.kind:
            case wire.BackupPart.STREAM:
                await self._take_stream(part)
            case wire.BackupPart.METADATA:
                self._take_metadata(part)
            case wire.BackupPart.SEGMENT:
                await self._take_segment(part)
            case wire.BackupPart.END:
                return await self._finish()
            case _:
                raise InvalidInput("a part of a backup has a kind that this version does not know")
        return 0

    def close(self) -> None:
        """Remove what is half written."""
        if self._writing is not None:
            self._writing.remove()

    async def _take_stream(self, part: wire.BackupPart) -> None:
        if part.head:
            if not part.name.startswith(STREAM_PREFIX):
                raise InvalidInput(f"{part.name[:80]!r} is no stream of the platform")
            self._stream = part.name, await self._snapshots.restore(part.name, part.head)
        if self._stream is None or self._stream[0] != part.name:
            raise InvalidInput(f"a part of stream {part.name[:80]!r} comes without its beginning")
        stream = self._stream[1]
        if part.data:
            await stream.write(part.data)
        if part.last:
            await stream.finish()
            self._stream = None

    def _take_metadata(self, part: wire.BackupPart) -> None:
        self._metadata += part.data
        if len(self._metadata) > METADATA_BYTES_MAX:
            raise LimitExceeded(
                "metadata", f"the backup has more than {METADATA_BYTES_MAX} bytes of metadata"
            )
        if not part.last:
            return
        try:
            for line in self._metadata.splitlines():
                record = msgspec.json.decode(line, type=dict[str, str])
                self._records[record["key"]] = record["value"].encode()
        except (*UNDECODABLE, LookupError):
            raise InvalidInput("the backup's metadata cannot be read") from None
        for key, value in self._records.items():
            if key.startswith(keys.MANIFESTS):
                for segment in decode_record(ManifestEntry, value).segments:
                    self._segments[segment.key] = segment
        archive = self._records.get(keys.ARCHIVE_ID, b"").decode()
        if archive and not _PART_OF_KEY.fullmatch(archive):
            raise InvalidInput("the name of the backup's archive is none")
        self._archive = archive
        if self._segments_dir is None and any(_is_on_disk(one) for one in self._segments.values()):
            raise Refused(
                "the backup has segments on disk: start this admin instance with --restore-segments-dir, the "
                "data_dir of a storage instance, and --restore-holder, its instance_id"
            )

    async def _take_segment(self, part: wire.BackupPart) -> None:
        record = self._segments.get(part.name)
        if record is None:
            raise InvalidInput(f"no manifest entry of the backup names the segment {part.name[:80]!r}")
        if part.segment.gone:
            key = keys.MANIFESTS + f"{part.segment.bundle}/{part.segment.first_sequence:016x}"
            self._gone.setdefault(key, set()).add(part.name)
            self._written.add(part.name)
            return
        if not _is_on_disk(record):
            return
        if self._writing is None:
            self._writing = await asyncio.to_thread(_SegmentFile, self._path(part.name), record)
        await asyncio.to_thread(self._writing.write, part.data)
        if part.last:
            await asyncio.to_thread(self._writing.finish, part.name)
            self._writing = None
            self._written.add(part.name)

    def _path(self, key: str) -> Path:
        if self._segments_dir is None or not self._archive:
            raise InvalidInput("a segment comes before the metadata that names it")
        if not all(_PART_OF_KEY.fullmatch(part) for part in key.split("/")):
            raise InvalidInput(f"{key[:80]!r} is no key of a segment")
        return self._segments_dir / self._archive / self._holder / key

    async def _finish(self) -> int:
        missing = [
            key for key, one in self._segments.items() if _is_on_disk(one) and key not in self._written
        ]
        if missing:
            raise InvalidInput(f"the backup lacks {len(missing)} segments, {missing[0]} among them")
        if keys.LAYOUT not in self._records:
            raise InvalidInput("the backup has no layout of bundles")
        await self._begin_epochs()
        waiting = iter(self._final_records().items())

        async def write() -> None:
            for key, value in waiting:
                await self._store.put(key, value, expected_revision=0)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(WRITES_AT_ONCE):
                    group.create_task(write())
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from failures
        return len(self._records)

    def _final_records(self) -> Mapping[str, bytes]:
        found = {}
        for key, value in self._records.items():
            if key.startswith(keys.MANIFESTS):
                entry = without(decode_record(ManifestEntry, value), self._gone.get(key, ()))
                found[key] = encode_record(held_by(entry, self._holder))
            else:
                found[key] = value
        return found

    async def _begin_epochs(self) -> None:
        """Write one record behind each journal, as an owner of epoch 0.

        Revisions of a new store, and with them epochs, begin low: no owner could claim a journal that has the
        epochs of the lost cluster. An owner of that cluster that still runs is fenced by the record, too.
        """
        if await self._snapshots.state(JOURNAL) is None:
            return
        journals = Stream(self._connection, JOURNAL)
        record = msgspec.msgpack.encode([_Claimed(0, "restored")])
        for bundle in decode_record(Layout, self._records[keys.LAYOUT]).bundles():
            if await journals.last(journal_subject(bundle)) is not None:
                await journals.publish(journal_subject(bundle), record, {}, timeout_s=PUBLISH_TIMEOUT_S)


def _is_on_disk(record: SegmentRecord) -> bool:
    return record.backend is StorageBackend.DISK


class _SegmentFile:
    """A segment that is being written beside its place, under a name that no segment has."""

    def __init__(self, path: Path, record: SegmentRecord) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._check = SegmentCheck(record)
        self._unfinished = path.with_name(f".new-{path.name}")
        self._file = self._unfinished.open("wb")

    def write(self, data: bytes) -> None:
        self._check.feed(data)
        self._file.write(data)

    def finish(self, key: str) -> None:
        """Make it durable in its place. Raises InvalidInput if it is damaged, or none of its record."""
        try:
            self._check.finish()
        except CorruptData as error:
            self.remove()
            raise InvalidInput(f"segment {key} of the backup is damaged: {error}") from None
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._unfinished.replace(self._path)
        directory = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def remove(self) -> None:
        self._file.close()
        self._unfinished.unlink(missing_ok=True)
