from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import pytest_asyncio

from danube_admin_service.cluster.assigner import Assigner
from danube_admin_service.cluster.leader import LEADER_TTL_S, Election, Phase
from danube_admin_service.cluster.view import Cluster, LeaderRecord
from danube_common.cluster import keys
from danube_common.cluster.records import Assignment, Claim, Instance, Layout, decode_record, encode_record
from danube_common.metadata.memory import MemoryMetadata
from danube_common.metadata.mirror import Mirror
from danube_common.model.bundle import Bundle, Family
from danube_common.model.policies import Policies

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


@pytest_asyncio.fixture
async def world() -> AsyncIterator[World]:
    clock = Clock()
    store = MemoryMetadata(clock)
    seen = await Mirror.open(store, keys.CLUSTER)
    yield World(store, clock, seen)
    await seen.close()


async def until_leading(world: World, *members: Member) -> Member:
    await world.until(lambda: any(m.election.leading for m in members))
    (leader,) = [m for m in members if m.election.leading]
    return leader


async def test_of_several_instances_exactly_one_leads(world: World) -> None:
    async with Member.joined(world, "1") as a, Member.joined(world, "2") as b, Member.joined(world, "3") as c:
        leader = await until_leading(world, a, b, c)
        assert [m.election.phase for m in (a, b, c)].count(Phase.LEADING) == 1
        await leader.cluster.until_settled(PATIENCE_S)
        assert leader.cluster.leader in {"1", "2", "3"}


async def test_a_leader_that_goes_gives_way_without_waiting_for_its_ttl(world: World) -> None:
    async with AsyncExitStack() as stack:
        async with Member.joined(world, "1") as first:
            await until_leading(world, first)
            heir = await stack.enter_async_context(Member.joined(world, "2"))
            assert not heir.election.leading
        assert await until_leading(world, heir) is heir


async def test_a_leader_that_cannot_renew_stops_by_its_own_clock_before_another_begins(world: World) -> None:
    async with Member.joined(world, "1") as first:
        await until_leading(world, first)
        async with Member.joined(world, "2") as second:
            first.store.reachable = False
            world.clock.now += LEADER_TTL_S * 0.95
            assert not first.election.leading
            assert not second.election.leading
            world.pass_time(LEADER_TTL_S)
            await world.until(lambda: second.election.leading)
            assert not first.election.leading


async def test_a_restarted_leader_leads_again_without_waiting_for_its_former_ttl(world: World) -> None:
    former = encode_record(LeaderRecord("1", "former process"))
    await world.store.put(keys.LEADER, former, ttl_s=LEADER_TTL_S)
    async with Member.joined(world, "1") as again:
        await until_leading(world, again)
        entry = await world.store.get(keys.LEADER)
        assert entry is not None
        assert entry.value != former


async def test_a_leaders_key_is_not_taken_by_another(world: World) -> None:
    theirs = encode_record(LeaderRecord("9", "alive"))
    revision = await world.store.put(keys.LEADER, theirs)
    async with Member.joined(world, "1") as member:
        await world.owner("71")
        await member.cluster.catch_up(world.store.state.revision)
        with pytest.raises(TimeoutError):
            await world.seen.wait_for(lambda _: member.election.leading, 0.3)
    entry = await world.store.get(keys.LEADER)
    assert entry is not None
    assert entry.revision == revision
    assert world.assigned() == {}


async def test_a_leader_whose_key_was_taken_away_stops_and_stands_again(world: World) -> None:
    async with Member.joined(world, "1") as only:
        await until_leading(world, only)
        term = world.seen.get(keys.LEADER)
        assert term is not None
        await world.store.delete(keys.LEADER)
        world.clock.now += LEADER_TTL_S
        await world.until(
            lambda: (new := world.seen.get(keys.LEADER)) is not None and new.value != term.value
        )


async def test_the_leader_writes_the_layout_and_the_policies_it_is_configured_with(world: World) -> None:
    policies = Policies(max_publish_rate=11)
    async with Member.joined(world, "1", policies=policies):
        await world.until(lambda: world.seen.get(keys.BROKER_POLICIES) is not None)
        layout, written = world.seen.get(keys.LAYOUT), world.seen.get(keys.BROKER_POLICIES)
        assert layout is not None
        assert written is not None
        assert decode_record(Layout, layout.value) == LAYOUT
        assert decode_record(Policies, written.value) == policies


async def test_the_layout_grows_and_never_shrinks(world: World) -> None:
    await world.store.put(keys.LAYOUT, encode_record(Layout(file_bundles=2, memory_bundles=9)))
    async with Member.joined(world, "1"):
        await world.until(
            lambda: (
                (e := world.seen.get(keys.LAYOUT)) is not None
                and decode_record(Layout, e.value) == Layout(file_bundles=4, memory_bundles=9)
            )
        )


async def test_a_lone_owner_gets_every_bundle(world: World) -> None:
    async with Member.joined(world, "1"):
        await world.owner("71")
        await world.until(lambda: world.shares() == {"71": 8})


async def test_only_topic_owners_get_bundles(world: World) -> None:
    await world.owner("60", kind="gateway")
    await world.owner("61", kind="storage")
    await world.owner("71")
    async with Member.joined(world, "1"):
        await world.until(lambda: world.shares() == {"71": 8})


async def test_a_second_owner_gets_half_and_a_dead_ones_bundles_move(world: World) -> None:
    async with Member.joined(world, "1"):
        await world.owner("71")
        await world.until(lambda: world.shares() == {"71": 8})
        await world.owner("72")
        await world.until(lambda: world.shares() == {"71": 4, "72": 4})
        await world.owner_dies("71")
        await world.until(lambda: world.shares() == {"72": 8})


async def test_new_bundles_are_spread_when_the_layout_grows(world: World) -> None:
    await world.owner("71")
    await world.owner("72")
    async with Member.joined(world, "1", layout=Layout(file_bundles=1, memory_bundles=1)):
        await world.until(lambda: world.shares() == {"71": 1, "72": 1})
    async with Member.joined(world, "2"):
        await world.until(lambda: world.shares() == {"71": 4, "72": 4})


async def test_when_the_leader_is_lost_another_assigns(world: World) -> None:
    await world.owner("71")
    async with Member.joined(world, "1") as first:
        await world.until(lambda: world.shares() == {"71": 8})
        async with Member.joined(world, "2") as second:
            first.store.reachable = False
            world.pass_time(LEADER_TTL_S + 1)
            await world.owner("72")
            await world.until(lambda: world.shares() == {"71": 4, "72": 4})
            assert second.election.leading


async def test_a_follower_assigns_nothing(world: World) -> None:
    async with Member.joined(world, "1") as first:
        await until_leading(world, first)
        async with Member.joined(world, "2") as second:
            second.cluster.changed.clear()
            first.store.reachable = False  # the leader cannot write, so what is written is the follower's
            await world.owner("71")
            await asyncio.wait_for(second.cluster.changed.wait(), PATIENCE_S)
            await second.assigner.settle()
            assert world.assigned() == {}


async def test_a_value_that_cannot_be_read_does_not_stop_the_rest(world: World) -> None:
    await world.store.put(keys.instance_key("70"), b"garbage")
    await world.store.put(keys.assignment_key(Bundle(Family.FILE, 0)), b"garbage")
    await world.store.put(f"{keys.ASSIGNMENTS}nonsense", encode_record(Assignment("71")))
    await world.store.put(keys.owner_key(Bundle(Family.FILE, 1)), encode_record(Claim("71", "n")))
    await world.owner("71")
    async with Member.joined(world, "1") as member:
        bundles = LAYOUT.bundles()
        await member.cluster.catch_up(world.store.state.revision)
        await world.until(lambda: len(world.seen.entries(keys.ASSIGNMENTS)) == len(bundles) + 1)
        written = [world.seen.get(keys.assignment_key(bundle)) for bundle in bundles]
        assert {decode_record(Assignment, e.value).instance_id for e in written if e} == {"71"}


async def test_an_assigner_at_rest_writes_nothing(world: World) -> None:
    await world.owner("71")
    async with Member.joined(world, "1") as member:
        await world.until(lambda: world.shares() == {"71": 8})
        before = world.store.state.revision
        await member.cluster.catch_up(before)
        await member.assigner.settle()
        assert world.store.state.revision == before


async def test_while_owners_may_still_return_their_bundles_stay_theirs(world: World) -> None:
    async with Member.joined(world, "1") as member:
        await world.owner("71")
        await world.owner("72")
        await world.until(lambda: world.shares() == {"71": 4, "72": 4})
        world.returns_awaited = True
        before = world.assigned()
        await world.owner_dies("71")
        await world.owner_dies("72")
        await world.owner("72")
        await member.cluster.catch_up(world.store.state.revision)
        await member.assigner.settle()
        assert world.assigned() == before
        world.returns_awaited = False
        member.assigner.wake()
        await world.until(lambda: world.shares() == {"72": 8})


async def test_what_nobody_had_is_given_away_also_while_returns_are_awaited(world: World) -> None:
    world.returns_awaited = True
    async with Member.joined(world, "1"):
        await world.owner("71")
        await world.until(lambda: world.shares() == {"71": 8})
