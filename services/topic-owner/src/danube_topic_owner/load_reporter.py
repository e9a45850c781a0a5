"""Reports the load of this process and its bundles to the cluster (`danube_common.cluster.load`)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import structlog

from danube_common.cluster import keys
from danube_common.cluster.catalogue import Catalogue
from danube_common.cluster.load import REPORT_INTERVAL_S, REPORT_TTL_S, BundleLoad, LoadReport
from danube_common.cluster.records import encode_record
from danube_common.errors import MetadataUnavailable
from danube_common.metadata.port import MetadataStore
from danube_common.model.bundle import Bundle
from danube_common.model.position import sequence_of
from danube_topic_owner import process_usage
from danube_topic_owner.bundle_owner import BundleOwner
from danube_topic_owner.owner_metrics import OwnerMetrics

_log = structlog.get_logger(__name__)


class _Counts(NamedTuple):
    """Messages and bytes that a bundle's owner received and sent since it began."""

    in_messages: int
    in_bytes: int
    out_messages: int
    out_bytes: int


class LoadReporter:
    """Writes one small record to the metadata store every REPORT_INTERVAL_S.

    The last record outlives its instance for REPORT_TTL_S: the leader places orphaned bundles by it.
    """

    def __init__(
        self,
        instance_id: str,
        store: MetadataStore,
        catalogue: Catalogue,
        owners: Callable[[], Mapping[Bundle, BundleOwner]],
        metrics: OwnerMetrics,
        *,
        clock: Callable[[], float] = time.monotonic,
        cpu_s: Callable[[], float] = process_usage.cpu_s,
    ) -> None:
        self._instance_id = instance_id
        self._store = store
        self._catalogue = catalogue
        self._owners = owners
        self._metrics = metrics
        self._shown: set[tuple[str, str]] = set()
        """Topic and subscription of all series that may be there."""
        self._shown_topics: set[str] = set()
        """Likewise of those of topics, which may have producers only."""
        self._lagged: set[tuple[str, str]] = set()
        """Topic and subscription of the series that are not 0."""
        self._failed: set[tuple[str, str]] = set()
        """Likewise of messages that failed."""
        self._clock = clock
        self._cpu_s = cpu_s
        self._memory_bytes_max = process_usage.memory_bytes_max()
        self._before: dict[Bundle, tuple[int, _Counts]] = {}
        """Epoch and counts of each bundle's owner at the last report."""
        self._measured_at = clock()
        self._cpu_before = cpu_s()

    async def run(self) -> None:
        """Report until cancelled."""
        while True:
            await asyncio.sleep(REPORT_INTERVAL_S)
            self.measure_lags()
            await self.publish()

    def measure_lags(self) -> None:
        """Set what each subscription has not acknowledged, the age of the oldest of it, and what failed."""
        now_ms = time.time_ns() // 1_000_000
        self._forget_gone()
        lags: dict[tuple[str, str], tuple[int, float]] = {}
        failed: dict[tuple[str, str], tuple[int, int]] = {}
        for owner in self._owners().values():
            for each in owner.context.log_subscriptions():
                if (oldest := each.oldest_open) is not None:
                    age_s = owner.context.stored_times.age_s(sequence_of(oldest), now_ms)
                    lags[each.topic, each.state.name] = (each.lag(owner.context.offsets), age_s)
                if (retries := each.dispatch.retries).held:
                    failed[each.topic, each.state.name] = (retries.waiting, retries.blocked)
        for key in self._lagged | lags.keys():
            lag, age_s = lags.get(key, (0, 0.0))
            self._metrics.lag.labels(*key).set(lag)
            self._metrics.oldest_unacked_age_s.labels(*key).set(age_s)
        self._lagged = set(lags)
        for key in self._failed | failed.keys():
            waiting, blocked = failed.get(key, (0, 0))
            self._metrics.pending_redelivery.labels(*key).set(waiting)
            self._metrics.terminal_blocked.labels(*key).set(blocked)
        self._failed = set(failed)

    def _forget_gone(self) -> None:
        """Delete the gauges of what was deleted or went to another owner."""
        contexts = [owner.context for owner in self._owners().values()]
        topics = {topic.name for context in contexts for topic in context.state.topics.values()}
        present = {
            (each.topic, each.state.name)
            for context in contexts
            for subscriptions in context.subscriptions.values()
            for each in subscriptions.values()
        }
        for topic, subscription in self._shown - present:
            self._metrics.forget_subscription(topic, subscription)
        for topic in self._shown_topics - topics:
            self._metrics.forget_topic(topic)
        self._shown, self._shown_topics = present, topics
        self._lagged &= present
        self._failed &= present

    async def publish(self) -> None:
        """Write one report. A report that the metadata store does not take is left out."""
        value = encode_record(self.measure())
        try:
            await self._store.put(keys.load_key(self._instance_id), value, ttl_s=REPORT_TTL_S)
        except MetadataUnavailable as error:
            _log.debug("load_not_reported", reason=str(error))

    def measure(self) -> LoadReport:
        """Return the report of the time since the last call."""
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
        self._before = {bundle: (owner.context.epoch, _counts(owner)) for bundle, owner in owners.items()}
        return report

    def _of_bundle(self, owner: BundleOwner, interval_s: float) -> BundleLoad:
        bundle, subscriptions = owner.context.bundle, owner.context.subscriptions
        counts, (epoch, before) = _counts(owner), self._before.get(bundle, (0, _Counts(0, 0, 0, 0)))
        if epoch != owner.context.epoch:
            before = _Counts(0, 0, 0, 0)
        rates = [round((new - old) / interval_s, 1) for new, old in zip(counts, before, strict=True)]
        in_messages_per_s, in_bytes_per_s, out_messages_per_s, out_bytes_per_s = rates
        found = [each for by_name in subscriptions.values() for each in by_name.values()]
        from_log = owner.context.log_subscriptions()
        return BundleLoad(
            topics=self._catalogue.topic_count(bundle),
            subscriptions=len(found),
            consumers=sum(len(each.dispatch.attached) for each in found),
            in_messages_per_s=in_messages_per_s,
            in_bytes_per_s=in_bytes_per_s,
            out_messages_per_s=out_messages_per_s,
            out_bytes_per_s=out_bytes_per_s,
            behind=sum(not each.at_tail for each in from_log),
            unacked=sum(each.dispatch.unacked for each in from_log),
        )


def _counts(owner: BundleOwner) -> _Counts:
    outbox = owner.context.outbox
    return _Counts(owner.messages_in, owner.bytes_in, outbox.messages_sent, outbox.bytes_sent)
