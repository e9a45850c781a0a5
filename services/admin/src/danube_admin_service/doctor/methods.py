"""``danube_operations.Doctor`` and ``danube_operations.Events``: what is wrong, and what happens."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import Final

from danube_admin_service.api.errors import failure
from danube_admin_service.api.unary import precise
from danube_admin_service.doctor.events import Event, event_of, fault_events
from danube_admin_service.doctor.look import Look
from danube_admin_service.doctor.rules import CHECKS, Finding, examine
from danube_common.cluster import keys
from danube_common.errors import CorruptData, Unavailable
from danube_common.metadata.port import MetadataStore, WatchLost
from danube_common.rpc.port import OPENED, Call, Methods, Opened, StatusCode
from danube_common.rpc.protobuf_strict import parse_strict
from danube_proto import danube_operations_pb2 as wire

DOCTOR: Final = "/danube_operations.Doctor"
EVENTS: Final = "/danube_operations.Events"
FAULTS_INTERVAL_S: Final = 30.0
EVENTS_WAITING_MAX: Final = 10_000
RETRY_S: Final = 1.0


class DoctorMethods:
    """Looks and judges on each call, and tells what happens while somebody listens."""

    def __init__(
        self, store: MetadataStore, look: Look, *, faults_interval_s: float = FAULTS_INTERVAL_S
    ) -> None:
        self._store = store
        self._look = look
        self._faults_interval_s = faults_interval_s

    def register(self, methods: Methods) -> None:
        """Add the methods."""
        methods.unary[f"{DOCTOR}/Examine"] = precise(wire.ExamineRequest, self._examine)
        methods.stream[f"{EVENTS}/Watch"] = self._watch

    async def _examine(self, _request: wire.ExamineRequest) -> wire.ExamineResponse:
        facts = await self._look.facts()
        findings = [_shown(one) for one in examine(facts)]
        return wire.ExamineResponse(now_ms=facts.now_ms, findings=findings, checks=list(CHECKS))

    async def _watch(self, call: Call) -> AsyncIterator[bytes | Opened]:
        try:
            parse_strict(wire.WatchRequest, call.request)
        except CorruptData as error:
            raise failure(str(error), code=StatusCode.INVALID_ARGUMENT) from None
        events: asyncio.Queue[Event] = asyncio.Queue(EVENTS_WAITING_MAX)
        listing = await self._store.list(keys.CLUSTER)
        known = {entry.key: entry.value for entry in listing.entries}
        events.put_nowait(Event("following", "cluster", "what happens from now on is told"))
        tasks = (
            asyncio.create_task(self._follow(known, listing.revision, events)),
            asyncio.create_task(self._look_for_faults(events)),
        )
        yield OPENED
        try:
            while True:
                event = await events.get()
                told = wire.ClusterEvent(
                    at_ms=time.time_ns() // 1_000_000,
                    kind=event.kind,
                    subject=event.subject,
                    text=event.text,
                )
                yield told.SerializeToString()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(self, known: dict[str, bytes], revision: int, events: asyncio.Queue[Event]) -> None:
        while True:
            try:
                async for change in self._store.watch(keys.CLUSTER, after_revision=revision):
                    revision = change.revision
                    before = known.pop(change.key, None)
                    if change.value is not None:
                        known[change.key] = change.value
                    if (event := event_of(change.key, before, change.value)) is not None:
                        await events.put(event)
            except WatchLost:
                await events.put(
                    Event("missed", "metadata", "the metadata store was away: events are missing")
                )
                known, revision = await self._listed()

    async def _listed(self) -> tuple[dict[str, bytes], int]:
        while True:
            try:
                listing = await self._store.list(keys.CLUSTER)
            except Unavailable:
                await asyncio.sleep(RETRY_S)
                continue
            return {entry.key: entry.value for entry in listing.entries}, listing.revision

    async def _look_for_faults(self, events: asyncio.Queue[Event]) -> None:
        before: Sequence[Finding] = ()
        while True:
            try:
                now = examine(await self._look.facts())
            except Unavailable as error:
                await events.put(Event("fault", "metadata", f"the metadata store does not answer: {error}"))
            else:
                for event in fault_events(before, now):
                    await events.put(event)
                before = now
            await asyncio.sleep(self._faults_interval_s)


def _shown(one: Finding) -> wire.Finding:
    return wire.Finding(
        severity=wire.Finding.Severity.Name(one.severity),
        check=one.check,
        subject=one.subject,
        problem=one.problem,
        advice=one.advice,
    )
