"""The leader's work: the cluster layout, the broker policies, and the owner of each bundle."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

import msgspec
import structlog

from danube_admin_service.cluster.leader import Election
from danube_admin_service.cluster.placement import plan
from danube_admin_service.cluster.ranking import LoadModel, LoadStrategy, spread_allowed
from danube_admin_service.cluster.view import Cluster
from danube_common.cluster import keys
from danube_common.cluster.records import Assignment, Layout, encode_record
from danube_common.errors import Conflict, MetadataUnavailable
from danube_common.metadata.port import MetadataStore
from danube_common.model.policies import Policies

PASS_INTERVAL_S: Final = 2.0
"""The longest time between two passes, in case a change was missed or a write failed."""
PASS_PAUSE_S: Final = 0.05
"""The pause between two passes, so that several owners that start together cause one pass."""

_log: structlog.stdlib.BoundLogger = structlog.get_logger("danube.admin")


class Assigner:
    """Brings the cluster to its wanted state while this instance leads.

    Every write expects the revision of the record that the decision was based on. A leader that was replaced
    without knowing it therefore cannot overwrite a record that it has not seen.

    Args:
        store: the metadata store that holds the records.
        cluster: a view of the same store.
        election: tells whether this instance leads.
        layout: the configured number of bundles.
        policies: the configured policies of the cluster.
        returns_awaited: whether the store was away a moment ago, so that owners that are not registered may
            still serve and are about to register again. They keep their bundles that long.
        strategy: decides which owner gets a bundle that has none.
        now_ms: wall clock in milliseconds.
    """

    def __init__(
        self,
        store: MetadataStore,
        cluster: Cluster,
        election: Election,
        *,
        layout: Layout,
        policies: Policies,
        returns_awaited: Callable[[], bool] = lambda: False,
        strategy: LoadStrategy = LoadStrategy.FAIR,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._store = store
        self._cluster = cluster
        self._election = election
        self._layout = layout
        self._policies = policies
        self._returns_awaited = returns_awaited
        self._strategy = strategy
        self._now_ms = now_ms

    def wake(self) -> None:
        """Ask for a pass soon."""
        self._cluster.changed.set()

    async def run(self) -> None:
        """Make passes until cancelled."""
        while True:
            await self._awake()
            if self._election.leading:
                try:
                    await self.settle()
                except Conflict as error:
                    _log.info("assigner_overtaken", reason=str(error))
                    self.wake()
                except MetadataUnavailable as error:
                    _log.info("assigner_waits", reason=str(error))
            await asyncio.sleep(PASS_PAUSE_S)

    async def settle(self) -> None:
        """Make one pass. Raises Conflict when another writer was faster, MetadataUnavailable."""
        layout = await self._settle_layout()
        await self._write(keys.BROKER_POLICIES, self._policies)
        await self._settle_assignments(layout)

    async def _awake(self) -> None:
        try:
            async with asyncio.timeout(PASS_INTERVAL_S):
                await self._cluster.changed.wait()
        except TimeoutError:
            return
        self._cluster.changed.clear()

    async def _settle_layout(self) -> Layout:
        present, wanted = self._cluster.layout, self._layout
        if present is not None:
            # A topic stays in its bundle for life, so the numbers may only grow.
            wanted = Layout(
                max(present.file_bundles, wanted.file_bundles),
                max(present.memory_bundles, wanted.memory_bundles),
            )
        await self._write(keys.LAYOUT, wanted)
        return wanted

    async def _settle_assignments(self, layout: Layout) -> None:
        cluster = self._cluster
        bundles = layout.bundles()
        if self._returns_awaited():
            live, assigned = cluster.owners, cluster.assigned
            bundles = [bundle for bundle in bundles if bundle not in assigned or assigned[bundle] in live]
        eligible_owners = cluster.eligible_owners
        spread = spread_allowed(self._strategy, len(layout.bundles()), len(eligible_owners))
        changes = plan(
            bundles,
            cluster.assigned,
            cluster.claimed,
            cluster.owners,
            drained={owner: drain.parallel for owner, drain in cluster.drains.items()},
            load_model=LoadModel(self._strategy, eligible_owners, cluster.loads, cluster.assigned),
            level_above=spread,
            place_within=1 if self._strategy is LoadStrategy.FAIR else spread,
        )
        # Read together with the plan, because the view changes while the writes are awaited.
        seen = {bundle: cluster.revision(keys.assignment_key(bundle)) for bundle in changes}
        revision = 0
        for bundle, instance_id in changes.items():
            if not self._election.leading:
                return
            revision = await self._store.put(
                keys.assignment_key(bundle),
                encode_record(Assignment(instance_id, self._now_ms())),
                expected_revision=seen[bundle],
            )
        if revision:
            _log.info("bundles_assigned", bundles=len(changes), owners=len(cluster.owners))
            await cluster.catch_up(revision)

    async def _write(self, key: str, record: msgspec.Struct) -> None:
        """Store ``record`` if it differs from what is stored, and wait until the view shows it."""
        value = encode_record(record)
        if self._cluster.value(key) == value or not self._election.leading:
            return
        revision = await self._store.put(key, value, expected_revision=self._cluster.revision(key))
        _log.info("cluster_record_written", key=key)
        await self._cluster.catch_up(revision)
