"""Admin instances that elect a leader and assign bundles, over one store in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from danube_admin_service.cluster.assigner import Assigner
from danube_admin_service.cluster.leader import Election
from danube_admin_service.cluster.view import Cluster
from danube_common.cluster import keys
from danube_common.cluster.records import Assignment, Instance, Layout, decode_record, encode_record
from danube_common.metadata.mirror import Mirror
from danube_common.model.bundle import Bundle
from danube_common.model.policies import Policies
from danube_harness.memory.metadata import MemoryMetadata

LAYOUT = Layout(file_bundles=4, memory_bundles=4)
PATIENCE_S = 20.0


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Member:
    """One admin instance as far as leading goes, over its own handle of the store."""

    def __init__(
        self, store: MemoryMetadata, cluster: Cluster, election: Election, assigner: Assigner
    ) -> None:
        self.store = store
        self.cluster = cluster
        self.election = election
        self.assigner = assigner

    @classmethod
    @asynccontextmanager
    async def joined(
        cls, world: World, instance_id: str, *, layout: Layout = LAYOUT, policies: Policies | None = None
    ) -> AsyncIterator[Member]:
        store = world.store.handle()
        cluster = await Cluster.open(store)
        election = Election(store, cluster, instance_id, on_leading=cluster.changed.set, clock=world.clock)
        assigner = Assigner(
            store,
            cluster,
            election,
            layout=layout,
            policies=policies or Policies(),
            returns_awaited=lambda: world.returns_awaited,
        )
        tasks = [asyncio.create_task(election.run()), asyncio.create_task(assigner.run())]
        try:
            yield cls(store, cluster, election, assigner)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await cluster.close()


class World:
    """A store with a clock that tests move, and an eye on what is in it."""

    def __init__(self, store: MemoryMetadata, clock: Clock, seen: Mirror) -> None:
        self.store = store
        self.clock = clock
        self.seen = seen
        self.returns_awaited = False

    def pass_time(self, seconds: float) -> None:
        """Leases end only now: nothing renews while the clock stands."""
        self.clock.now += seconds
        self.store.state.expire_due()

    async def owner(self, instance_id: str, kind: str = "topic-owner") -> None:
        record = Instance(instance_id, kind, "http://127.0.0.1:1")
        await self.store.put(keys.instance_key(instance_id), encode_record(record))

    async def owner_dies(self, instance_id: str) -> None:
        await self.store.delete(keys.instance_key(instance_id))

    def assigned(self) -> dict[Bundle, str]:
        return {
            Bundle.parse(e.key.removeprefix(keys.ASSIGNMENTS)): decode_record(Assignment, e.value).instance_id
            for e in self.seen.entries(keys.ASSIGNMENTS)
        }

    def shares(self) -> dict[str, int]:
        owners = list(self.assigned().values())
        return {owner: owners.count(owner) for owner in sorted(set(owners))}

    async def until(self, condition: Callable[[], bool]) -> None:
        await self.seen.wait_for(lambda _: condition(), PATIENCE_S)


async def until_leading(world: World, *members: Member) -> Member:
    await world.until(lambda: any(m.election.leading for m in members))
    (leader,) = [m for m in members if m.election.leading]
    return leader
