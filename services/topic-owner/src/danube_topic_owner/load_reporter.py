"""Tells the cluster what this owner carries (`danube_common.cluster.load`)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import structlog

from danube_common.cluster import keys
from danube_common.cluster.catalogue import Catalogue
from danube_common.cluster.load import REPORT_INTERVAL_S, REPORT_TTL_S, BundleLoad, LoadReport
from danube_common.cluster.records import encode_record
from danube_common.errors import MetadataUnavailable
from danube_common.metadata.port import MetadataStore
from danube_common.model.bundle import Bundle
from danube_topic_owner import process_usage
from danube_topic_owner.bundle_owner import BundleOwner
from danube_topic_owner.delivery.subscription import LogSubscription

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Counts:
    """What a bundle's owner has moved since it began."""

    epoch: int
    in_messages: int
    in_bytes: int
    out_messages: int
    out_bytes: int


class LoadReporter:
    """One small record every `REPORT_INTERVAL_S`.

    The last one outlives its owner for a while: whoever gets its bundles is chosen by what they carried.
    """

    def __init__(
        self,
        instance_id: str,
        store: MetadataStore,
        catalogue: Catalogue,
        owners: Callable[[], Mapping[Bundle, BundleOwner]],
        *,
        clock: Callable[[], float] = time.monotonic,
        cpu_s: Callable[[], float] = process_usage.cpu_s,
    ) -> None:
        self._instance_id = instance_id
        self._store = store
        self._catalogue = catalogue
        self._owners = owners
        self._clock = clock
        self._cpu_s = cpu_s
        self._memory_bytes_max = process_usage.memory_bytes_max()
        self._before: dict[Bundle, _Counts] = {}
        self._measured_at = clock()
        self._cpu_before = cpu_s()

    async def run(self) -> None:
        """Report until cancelled."""
        while True:
            await asyncio.sleep(REPORT_INTERVAL_S)
            await self.publish()

    async def publish(self) -> None:
        """One report; one that the store does not take is left out."""
        value = encode_record(self.measure())
        try:
            await self._store.put(keys.load_key(self._instance_id), value, ttl_s=REPORT_TTL_S)
        except MetadataUnavailable as error:
            _log.debug("load_not_reported", reason=str(error))

    def measure(self) -> LoadReport:
        """What happened since the last call."""
        now, cpu_s = self._clock(), self._cpu_s()
        interval_s = max(now - self._measured_at, 1e-3)
        cpu_percent = 100 * (cpu_s - self._cpu_before) / interval_s
        self._measured_at, self._cpu_before = now, cpu_s
        memory_bytes = process_usage.memory_bytes()
        owners = self._owners()
        report = LoadReport(
            self._instance_id,
            time.time_ns() // 1_000_000,
            round(interval_s, 3),
            round(cpu_percent, 2),
            memory_bytes,
            round(100 * memory_bytes / self._memory_bytes_max, 3),
            {str(bundle): self._of_bundle(owner, interval_s) for bundle, owner in sorted(owners.items())},
        )
        self._before = {bundle: counts_of(owner) for bundle, owner in owners.items()}
        return report

    def _of_bundle(self, owner: BundleOwner, interval_s: float) -> BundleLoad:
        counts, before = counts_of(owner), self._before.get(owner.context.bundle)
        if before is None or before.epoch != counts.epoch:
            before = _Counts(counts.epoch, 0, 0, 0, 0)
        found = [each for by_name in owner.context.subscriptions.values() for each in by_name.values()]
        from_log = [each for each in found if isinstance(each, LogSubscription)]
        return BundleLoad(
            topics=self._catalogue.topic_count(owner.context.bundle),
            subscriptions=len(found),
            consumers=sum(len(each.dispatch.attached) for each in found),
            in_messages_per_s=round((counts.in_messages - before.in_messages) / interval_s, 1),
            in_bytes_per_s=round((counts.in_bytes - before.in_bytes) / interval_s, 1),
            out_messages_per_s=round((counts.out_messages - before.out_messages) / interval_s, 1),
            out_bytes_per_s=round((counts.out_bytes - before.out_bytes) / interval_s, 1),
            behind=sum(not each.at_tail for each in from_log),
            unacked=sum(each.dispatch.unacked for each in from_log),
        )


def counts_of(owner: BundleOwner) -> _Counts:
    outbox = owner.context.outbox
    return _Counts(
        owner.context.epoch, owner.messages_in, owner.bytes_in, outbox.messages_sent, outbox.bytes_sent
    )
