"""Moves bundles between living owners: on request, or to level their loads.

Any admin instance may do this: every write expects the assignment that the decision was based on, and the
leader keeps the assignments it finds as long as the owners' numbers of bundles do not differ too much.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Final

import structlog

from danube_admin_service.cluster.ranking import LoadModel, LoadStrategy, spread_allowed
from danube_admin_service.cluster.rebalance import Aggressiveness, Move, propose, relocation
from danube_admin_service.cluster.view import Cluster
from danube_common.cluster import keys
from danube_common.cluster.records import Assignment, Drain, encode_record
from danube_common.errors import Conflict, MetadataUnavailable, NotFound, Refused, Unavailable
from danube_common.metadata.port import MetadataStore
from danube_common.model.bundle import Bundle

MOVE_TIMEOUT_S: Final = 15.0
"""How long a call waits until the new owner serves a moved bundle: longer than a takeover."""
WRITE_ATTEMPTS_MAX: Final = 5
PARALLEL_MAX: Final = 64

_log: structlog.stdlib.BoundLogger = structlog.get_logger("danube.admin")


@dataclass(frozen=True, slots=True)
class RebalanceRules:
    """Bounds of rebalancing.

    Attributes:
        interval_s: seconds between two checks by the leader; 0: only on request.
        aggressiveness: how far loads may differ before bundles move.
        moves_max: bundles that move after one check by the leader.
        rest_s: seconds that a bundle stays after a move.
    """

    interval_s: float = 0.0
    aggressiveness: Aggressiveness = Aggressiveness.BALANCED
    moves_max: int = 1
    rest_s: float = 60.0


@dataclass(frozen=True, slots=True)
class DrainProgress:
    """The progress of a drain, in bundles."""

    total: int
    remaining: int


class LoadManager:
    """Drains, activates and rebalances owners. Methods raise MetadataUnavailable and Conflict."""

    def __init__(
        self,
        store: MetadataStore,
        cluster: Cluster,
        strategy: LoadStrategy,
        rules: RebalanceRules,
        *,
        leading: Callable[[], bool] = lambda: False,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._store = store
        self._cluster = cluster
        self._rules = rules
        self._leading = leading
        self._now_ms = now_ms
        self.strategy = strategy

    # Draining

    def state(self, instance_id: str) -> str:
        """Return ``active``, ``draining`` or ``drained``."""
        if instance_id not in self._cluster.drains:
            return "active"
        return "draining" if self.bundles_of(instance_id) else "drained"

    def bundles_of(self, instance_id: str) -> set[Bundle]:
        """Return the bundles that an owner is assigned or still serves."""
        held = (self._cluster.assigned, self._cluster.claimed)
        return {bundle for record in held for bundle, owner in record.items() if owner == instance_id}

    async def drain(self, instance_id: str, parallel: int) -> None:
        """Move all bundles off an owner, ``parallel`` at a time. Repeating it changes nothing.

        Raises:
            NotFound: no such owner.
            Refused: no other active owner could take its bundles.
        """
        self.require_owner(instance_id)
        if instance_id in self._cluster.drains:
            return
        if not self._cluster.owners - self._cluster.drains.keys() - {instance_id}:
            raise Refused(f"broker {instance_id} is the only active one: nobody could take its topics")
        drain = Drain(
            instance_id,
            len(self.bundles_of(instance_id)),
            min(max(parallel, 1), PARALLEL_MAX),
            self._now_ms(),
        )
        key = keys.drain_key(instance_id)
        try:
            revision = await self._store.put(key, encode_record(drain), expected_revision=0)
        except Conflict:  # another request drains the same owner
            return
        _log.info("drain_begun", owner=instance_id, bundles=drain.bundles, parallel=drain.parallel)
        await self._cluster.catch_up(revision)

    async def drained(self, instance_id: str, timeout_s: float) -> DrainProgress:
        """Wait until a drain is complete, at most ``timeout_s``, and return its progress."""
        await self._cluster.until(lambda: not self.bundles_of(instance_id), timeout_s)
        return self.progress(instance_id)

    def progress(self, instance_id: str) -> DrainProgress:
        """Return the progress of a drain; without a drain, all bundles remain."""
        remaining = len(self.bundles_of(instance_id))
        drain = self._cluster.drains.get(instance_id)
        return DrainProgress(max(drain.bundles if drain else 0, remaining), remaining)

    async def activate(self, instance_id: str) -> None:
        """Let a drained owner have bundles again.

        Raises NotFound when there is neither the owner nor a drain of it.
        """
        if instance_id not in self._cluster.drains:
            self.require_owner(instance_id)
        await self._store.delete(keys.drain_key(instance_id))
        _log.info("owner_activated", owner=instance_id)

    # One bundle

    async def unload(self, bundle: Bundle) -> str:
        """Move a bundle to another owner; return that owner's id when it serves the bundle.

        Raises:
            Refused: there is no other active owner.
            Unavailable: the bundle is assigned to the other owner, which does not serve it yet.
        """
        for _attempt in range(WRITE_ATTEMPTS_MAX):
            assigned, eligible_owners = self._cluster.assigned, self._cluster.eligible_owners
            changes = relocation(
                self.load_model(),
                bundle,
                assigned,
                eligible_owners,
                spread_max=spread_allowed(self.strategy, len(assigned), len(eligible_owners)),
            )
            if not changes:
                raise Refused("there is no other active broker that could take the topic")
            try:
                await self._assign(changes)
            except Conflict:
                continue
            target = changes[bundle]
            if not await self._served(changes):
                raise Unavailable(f"bundle {bundle} is assigned to {target}, which does not serve it yet")
            return target
        raise Conflict(f"the assignment of bundle {bundle} keeps changing")

    # Levelling

    def load_model(self) -> LoadModel:
        """Return the load model of all active owners."""
        cluster = self._cluster
        return LoadModel(self.strategy, cluster.eligible_owners, cluster.loads, cluster.assigned)

    def propose(self, moves_max: int) -> list[Move]:
        """Return the moves that rebalancing would make now.

        Raises Unavailable while the load report of an owner that has bundles is missing.
        """
        cluster = self._cluster
        assigned, eligible_owners = cluster.assigned, cluster.eligible_owners
        if silent := sorted(eligible_owners & set(assigned.values()) - cluster.loads.keys()):
            raise Unavailable(f"broker {silent[0]} has not told what it carries yet")
        moved_since_ms = self._now_ms() - self._rules.rest_s * 1000
        return propose(
            self.load_model(),
            assigned,
            eligible_owners,
            moves_max=moves_max,
            threshold_percent=self._rules.aggressiveness.threshold_percent,
            spread_max=spread_allowed(self.strategy, len(assigned), len(eligible_owners)),
            resting={b for b, record in cluster.assignments.items() if record.since_ms > moved_since_ms},
        )

    async def execute(self, moves: Collection[Move]) -> None:
        """Make the moves and wait until they are served. Raises Conflict when a bundle moved meanwhile."""
        changes = {move.bundle: move.target for move in moves}
        await self._assign(changes)
        for move in moves:
            _log.info(
                "bundle_moved",
                bundle=str(move.bundle),
                source=move.source,
                target=move.target,
                reason=move.reason,
            )
        await self._served(changes)

    async def run(self) -> None:
        """Rebalance periodically while this instance leads, until cancelled."""
        while self._rules.interval_s:
            await asyncio.sleep(self._rules.interval_s)
            if not self._leading():
                continue
            try:
                if moves := self.propose(self._rules.moves_max):
                    await self.execute(moves)
            except (Conflict, MetadataUnavailable, Unavailable) as error:
                _log.info("rebalance_put_off", reason=str(error))

    def require_owner(self, instance_id: str) -> None:
        """Raise NotFound unless there is such a topic-owner."""
        if instance_id in self._cluster.owners:
            return
        kind = self._cluster.kind(instance_id)
        if kind is None:
            raise NotFound(f"there is no broker {instance_id!r}")
        raise NotFound(f"{instance_id} is a process of kind {kind}, and only topic-owners carry topics")

    async def _assign(self, changes: Mapping[Bundle, str]) -> None:
        seen = {bundle: self._cluster.revision(keys.assignment_key(bundle)) for bundle in changes}
        revision = 0
        for bundle, owner in changes.items():
            record = Assignment(owner, self._now_ms())
            revision = await self._store.put(
                keys.assignment_key(bundle), encode_record(record), expected_revision=seen[bundle]
            )
        if revision:
            await self._cluster.catch_up(revision)

    async def _served(self, changes: Mapping[Bundle, str]) -> bool:
        def served() -> bool:
            claimed, assigned = self._cluster.claimed, self._cluster.assigned
            return all(
                claimed.get(bundle) == owner or assigned.get(bundle) != owner
                for bundle, owner in changes.items()
            )

        return await self._cluster.until(served, MOVE_TIMEOUT_S)
