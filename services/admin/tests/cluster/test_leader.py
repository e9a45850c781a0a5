from __future__ import annotations

from contextlib import AsyncExitStack

import pytest
from services.admin.tests.cluster.members import PATIENCE_S, Member, World, until_leading

from danube_admin_service.cluster.leader import LEADER_TTL_S, Phase
from danube_admin_service.cluster.view import LeaderRecord
from danube_common.cluster import keys
from danube_common.cluster.records import encode_record


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
