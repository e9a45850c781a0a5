"""``danube_operations.Backup``: backups on the admin port."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final, TypeVar

import structlog

from danube_admin_service.api.errors import failure, precise_statuses
from danube_admin_service.backup.capture import Capture, read_segment
from danube_admin_service.backup.restore import Restore
from danube_common.bus.port import Bus
from danube_common.errors import CorruptData
from danube_common.metadata.port import MetadataStore
from danube_common.nats.connection import Connection
from danube_common.nats.snapshot import StreamSnapshots
from danube_common.rpc.port import Call, Methods, StatusCode
from danube_common.rpc.protobuf_strict import parse_strict
from danube_proto import danube_operations_pb2 as wire

SERVICE: Final = "/danube_operations.Backup"

M = TypeVar("M", wire.CreateBackupRequest, wire.ReadSegmentRequest, wire.BackupPart)

_log = structlog.get_logger(__name__)


class BackupMethods:
    """Creates backups. One at a time: a second one would only slow down the first."""

    def __init__(self, store: MetadataStore, bus: Bus, connection: Connection) -> None:
        self._store = store
        self._bus = bus
        self._snapshots = StreamSnapshots(connection)
        self._one = asyncio.Lock()

    def register(self, methods: Methods) -> None:
        """Add the methods that a running cluster has."""
        methods.stream[f"{SERVICE}/Create"] = self._create
        methods.bidi[f"{SERVICE}/Restore"] = self._refuse_restore
        methods.stream[f"{SERVICE}/ReadSegment"] = self._read_segment

    async def _create(self, call: Call) -> AsyncIterator[bytes]:
        _parsed(wire.CreateBackupRequest, call.request)
        if self._one.locked():
            raise failure(
                "this admin instance makes a backup already: wait for its end",
                code=StatusCode.FAILED_PRECONDITION,
            )
        async with self._one, precise_statuses():
            async for part in Capture(self._store, self._snapshots).parts():
                yield part.SerializeToString()
        _log.info("backup_read")

    async def _refuse_restore(self, _call: Call, parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for _ in parts:
            raise failure(
                "this platform runs: a backup is restored into an empty one, by an admin instance that was "
                "started with --restore-enabled true (danube-standalone --restore)",
                code=StatusCode.FAILED_PRECONDITION,
            )
        yield wire.RestoreProgress().SerializeToString()

    async def _read_segment(self, call: Call) -> AsyncIterator[bytes]:
        request = _parsed(wire.ReadSegmentRequest, call.request)
        async with precise_statuses():
            async for part in read_segment(self._store, self._bus, request):
                yield part.SerializeToString()


class RestoreMethods:
    """Restores a backup, once: the only method of an admin instance that was started for that."""

    def __init__(
        self, store: MetadataStore, connection: Connection, *, segments_dir: Path | None, holder: str
    ) -> None:
        self._restore = Restore(store, connection, segments_dir=segments_dir, holder=holder)
        self._begun = False

    def register(self, methods: Methods) -> None:
        """Add the method."""
        methods.bidi[f"{SERVICE}/Restore"] = self._run

    async def _run(self, _call: Call, parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        if self._begun:
            raise failure(
                "a backup was restored here, or a restore broke off: start this admin instance again",
                code=StatusCode.FAILED_PRECONDITION,
            )
        taken, records, ended = 0, 0, False
        try:
            async with precise_statuses():
                await self._restore.begin()
                self._begun = True
                async for data in parts:
                    part = _parsed(wire.BackupPart, data)
                    records = await self._restore.take(part)
                    taken += len(part.data)
                    ended = part.kind == wire.BackupPart.END
                    if part.last:
                        progress = wire.RestoreProgress(bytes=taken, records=records, done=ended)
                        yield progress.SerializeToString()
                    if ended:
                        break
        finally:
            self._restore.close()
        if not ended:
            raise failure("the backup broke off", code=StatusCode.INVALID_ARGUMENT)
        _log.info("backup_restored", bytes=taken, records=records)


def _parsed(kind: type[M], data: bytes) -> M:
    try:
        return parse_strict(kind, data)
    except CorruptData as error:
        raise failure(str(error), code=StatusCode.INVALID_ARGUMENT) from None
