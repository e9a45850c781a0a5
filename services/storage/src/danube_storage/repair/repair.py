"""The task that keeps one bundle's disk segments in as many intact copies as configured."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from functools import partial

import structlog

from danube_common.archive.records import ManifestEntry
from danube_common.errors import DanubeError, NotFound, Refused, Unavailable
from danube_common.model.bundle import Family
from danube_storage.archive.session import ArchiveSession
from danube_storage.repair.copy_client import until_copied
from danube_storage.repair.metrics import RepairMetrics
from danube_storage.repair.plan import (
    Absences,
    Copy,
    Instances,
    copies,
    plan_repairs,
    retargeted,
    with_copy,
)

TASK = "copies"
INTERVAL_S_MAX = 10.0
PAUSE_S = 0.1
"""Between passes while there is something to do."""
COPIES_AT_ONCE_MAX = 4
COPIES_PER_PASS_MAX = 512
AVOIDED_S = 20.0
"""How long an instance that failed to make a copy is asked last."""
REPORTED_MAX = 3

_log = structlog.get_logger(__name__)


class Repair:
    """Has copies made of segments whose holders are gone for long or have damaged copies.

    The holder of a bundle's archive lease decides; the targets copy.

    Args:
        metrics: of this package.
        replicas: the number of instances that keep each disk segment.
        absent_s: how long an instance may be away until its copies are made anew elsewhere.
    """

    def __init__(self, metrics: RepairMetrics, *, replicas: int, absent_s: float) -> None:
        self._metrics = metrics
        self._replicas = replicas
        self._absent_s = absent_s
        self._interval_s = min(INTERVAL_S_MAX, absent_s / 4)
        self._slots = asyncio.Semaphore(COPIES_AT_ONCE_MAX)
        self._avoided_until: dict[str, float] = {}

    async def repair(self, session: ArchiveSession) -> None:
        """Repair one bundle until cancelled. A bundle task."""
        if session.bundle.family is not Family.FILE:
            return
        bundle = str(session.bundle)
        absences = Absences(self._absent_s)
        more = False
        try:
            while True:
                pause_s = PAUSE_S if more else self._interval_s
                await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
                try:
                    more = await self._run_pass(session, absences)
                except Exception as error:  # noqa: BLE001 - no fault in one bundle may stop the others
                    more = False
                    self._metrics.failures.labels(type(error).__name__).inc()
                    session.report(TASK, error)
        finally:
            # Another instance counts them now.
            self._metrics.short.labels(bundle).set(0)
            self._metrics.lost.labels(bundle).set(0)

    async def _run_pass(self, session: ArchiveSession, absences: Absences) -> bool:
        """Return whether copies were made, so that more may be due."""
        live = frozenset(session.ports.live_instances())
        if session.ports.instance_id not in live or not session.lease.held:
            return False  # what this instance sees of the others is old
        now = time.monotonic()
        entries = session.manifest.all()
        holders = {holder for entry in entries for record in entry.segments for holder in record.holders}
        instances = Instances(live, absences.note(holders, live, now), self._avoided(now))
        # A large manifest takes a while, which the event loop does not wait for.
        todo = await asyncio.to_thread(plan_repairs, entries, instances, self._replicas)
        self._metrics.short.labels(str(session.bundle)).set(todo.short)
        self._metrics.lost.labels(str(session.bundle)).set(len(todo.lost))
        self._tell_lost(session, [record.key for record in todo.lost])
        retarget = partial(retargeted, instances=instances, replicas=self._replicas)
        for entry in todo.changes:
            await _change(session, entry, retarget)
        return await self._make(session, session.manifest.all(), instances)

    async def _make(
        self, session: ArchiveSession, entries: Sequence[ManifestEntry], instances: Instances
    ) -> bool:
        due = [each for each in copies(entries, instances) if each.target not in instances.avoided]
        made = await asyncio.gather(*(self._copy(session, each) for each in due[:COPIES_PER_PASS_MAX]))
        return any(made)

    async def _copy(self, session: ArchiveSession, copy: Copy) -> bool:
        async with self._slots:
            if copy.target in self._avoided(time.monotonic()):
                return False
            try:
                locator = copy.entry.locator(copy.segment)
                if not await until_copied(session, locator, copy.target, copy.sources):
                    return False
            except (NotFound, Refused):
                return False  # the segment is being deleted, or the target knows a newer manifest
            except (DanubeError, TimeoutError) as error:
                self._avoided_until[copy.target] = time.monotonic() + AVOIDED_S
                self._metrics.failures.labels(type(error).__name__).inc()
                _log.warning(
                    "segment_not_copied", key=copy.segment.key, target=copy.target, reason=str(error)
                )
                return False
        await _change(session, copy.entry, partial(with_copy, key=copy.segment.key, target=copy.target))
        return True

    def _avoided(self, now: float) -> set[str]:
        self._avoided_until = {one: until for one, until in self._avoided_until.items() if until > now}
        return set(self._avoided_until)

    def _tell_lost(self, session: ArchiveSession, lost: Sequence[str]) -> None:
        if not lost:
            session.problems.pop(TASK, None)
            return
        more = f" and {len(lost) - REPORTED_MAX} more" if len(lost) > REPORTED_MAX else ""
        session.report(
            TASK,
            Unavailable(f"segments without a usable copy: {', '.join(lost[:REPORTED_MAX])}{more}"),
        )


async def _change(
    session: ArchiveSession, entry: ManifestEntry, change: Callable[[ManifestEntry], ManifestEntry]
) -> None:
    if session.lease.held:
        await session.manifest.change(entry, change)
