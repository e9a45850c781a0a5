from __future__ import annotations

import asyncio

from services.admin.tests.cluster.members import LAYOUT, PATIENCE_S, Member, World, until_leading

from danube_admin_service.cluster.leader import LEADER_TTL_S
from danube_common.cluster import keys
from danube_common.cluster.records import Assignment, Claim, Layout, decode_record, encode_record
from danube_common.model.bundle import Bundle, Family
from danube_common.model.policies import Policies


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
