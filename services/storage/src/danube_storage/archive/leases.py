"""Assignment of bundles to storage instances: a lease on each bundle for which this instance ranks first."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Mapping, Sequence

import structlog

from danube_common.archive.manifest import Manifest
from danube_common.archive.ranking import ranked
from danube_common.archive.records import ArchiverLease
from danube_common.cluster import keys
from danube_common.cluster.records import decode_record, encode_record
from danube_common.errors import Conflict, DanubeError, Unavailable
from danube_common.metadata.lease import Lease
from danube_common.model.bundle import Bundle
from danube_storage.archive.session import ArchivePorts, ArchiveSession, BundleTask

LEASE_TTL_S = 5.0
RECONCILE_S = 1.0

_log = structlog.get_logger(__name__)


class ArchiveLeases:
    """Holds leases on bundles, and runs the bundle tasks of each one while its lease lasts.

    Bundles are spread over the live storage instances, and move when instances start or stop.

    Args:
        ports: shared by all sessions.
        tasks: run on each bundle that this instance holds.
        lease_ttl_s: how long after an archiver's death another instance may take its bundles over.
        reconcile_s: about how often the held bundles are compared with the wanted ones.
    """

    def __init__(
        self,
        ports: ArchivePorts,
        tasks: Sequence[BundleTask],
        *,
        lease_ttl_s: float = LEASE_TTL_S,
        reconcile_s: float = RECONCILE_S,
    ) -> None:
        self._ports = ports
        self._tasks = tuple(tasks)
        self._lease_ttl_s = lease_ttl_s
        self._reconcile_s = reconcile_s
        self._nonce = secrets.token_hex(8)
        self._holders: dict[Bundle, asyncio.Task[None]] = {}
        self._sessions: dict[Bundle, ArchiveSession] = {}

    @property
    def sessions(self) -> Mapping[Bundle, ArchiveSession]:
        """The sessions of the bundles that this instance archives now."""
        return self._sessions

    def problem(self) -> str | None:
        """Return a text of all failing tasks for the readiness check; None if there is none."""
        problems = [
            f"{bundle}: {text}"
            for bundle, session in sorted(self._sessions.items())
            for _, text in sorted(session.problems.items())
        ]
        return "; ".join(problems) or None

    async def run(self) -> None:
        """Take and release leases until cancelled; then release all."""
        try:
            while True:
                self._reconcile()
                await asyncio.sleep(self._reconcile_s * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
        finally:
            for task in self._holders.values():
                task.cancel()
            await asyncio.gather(*self._holders.values(), return_exceptions=True)

    def _reconcile(self) -> None:
        wanted = self._wanted()
        for bundle, task in list(self._holders.items()):
            if task.done():
                del self._holders[bundle]
            elif bundle not in wanted:
                task.cancel()
        for bundle in wanted - self._holders.keys():
            self._holders[bundle] = asyncio.create_task(self._hold(bundle), name=f"archive {bundle}")

    def _wanted(self) -> set[Bundle]:
        catalogue = self._ports.catalogue
        layout = catalogue.layout
        live = self._ports.live_instances()
        if layout is None or self._ports.instance_id not in live:
            return set()
        return {
            bundle for bundle in layout.bundles() if ranked(str(bundle), live)[0] == self._ports.instance_id
        }

    async def _hold(self, bundle: Bundle) -> None:
        """Run a session until the lease is lost; return at once if another instance has the lease."""
        try:
            lease = await self._acquire(bundle)
            if lease is None:
                return
            try:
                manifest = await Manifest.open(self._ports.metadata, bundle)
                try:
                    await self._run_tasks(ArchiveSession(bundle, self._ports, lease, manifest))
                finally:
                    await manifest.close()
            finally:
                await lease.release()
        except Unavailable as error:
            _log.warning("bundle_not_archived", bundle=str(bundle), reason=str(error))

    async def _acquire(self, bundle: Bundle) -> Lease | None:
        key = keys.archiver_key(bundle)
        entry = await self._ports.metadata.get(key)
        if (
            entry is not None
            and decode_record(ArchiverLease, entry.value).instance_id != self._ports.instance_id
        ):
            return None
        mine = encode_record(ArchiverLease(self._ports.instance_id, self._nonce))
        try:
            return await Lease.acquire(
                self._ports.metadata,
                key,
                mine,
                self._lease_ttl_s,
                expected_revision=entry.revision if entry else 0,
            )
        except Conflict:
            return None

    async def _run_tasks(self, session: ArchiveSession) -> None:
        bundle = session.bundle
        self._sessions[bundle] = session
        self._ports.metrics.bundles.set(len(self._sessions))
        _log.info("archiving_started", bundle=str(bundle))
        lost = asyncio.create_task(session.lease.lost.wait(), name=f"lease on {bundle}")
        tasks = {asyncio.ensure_future(task(session)) for task in self._tasks}
        waiting = {lost, *tasks}
        try:
            while not lost.done():
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for task in done - {lost}:
                    task.result()
        except DanubeError as error:
            _log.error("archiving_failed", bundle=str(bundle), error=str(error))
        except Exception:  # noqa: BLE001 - no fault in one bundle may stop the others
            _log.exception("archiving_failed", bundle=str(bundle))
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            del self._sessions[bundle]
            self._ports.metrics.bundles.set(len(self._sessions))
            _log.info("archiving_stopped", bundle=str(bundle), lost=session.lease.lost.is_set())
