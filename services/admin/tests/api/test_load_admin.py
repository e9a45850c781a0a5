from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

import pytest
from google.protobuf.message import Message
from services.admin.tests.loads import report

from danube_admin_service.api.methods import admin_methods
from danube_admin_service.cluster.assigner import Assigner
from danube_admin_service.cluster.leader import Election
from danube_admin_service.cluster.load_manager import LoadManager, RebalanceRules
from danube_admin_service.cluster.ranking import LoadStrategy
from danube_admin_service.cluster.rebalance import Aggressiveness
from danube_admin_service.cluster.view import Cluster
from danube_admin_service.service import OWNER_TIMEOUT_S
from danube_common.cluster import keys
from danube_common.cluster.load import BundleLoad
from danube_common.cluster.namespaces import Namespaces
from danube_common.cluster.owner_client import OwnerClient
from danube_common.cluster.records import Assignment, Claim, Instance, Layout, decode_record, encode_record
from danube_common.cluster.topics import Topics
from danube_common.metadata.mirror import Mirror
from danube_common.metadata.port import Change
from danube_common.model.bundle import Bundle
from danube_common.model.names import TopicName
from danube_common.model.policies import Policies
from danube_common.model.schema import Schema, SchemaKind
from danube_common.model.strategy import ReliableOptions, Strategy
from danube_common.rpc.port import Call, Methods, RpcError, StatusCode, answered
from danube_harness.memory.bus import MemoryBus, MemoryHub
from danube_harness.memory.log import MemoryLog
from danube_harness.memory.metadata import MemoryMetadata
from danube_proto import danube_admin_pb2 as pb
from danube_proto import danube_platform_pb2 as platform_pb

LAYOUT = Layout(file_bundles=4, memory_bundles=4)
BROKER = "/danube_admin.BrokerAdmin"
UNLOAD_TOPIC = "/danube_admin.TopicAdmin/UnloadTopic"
PATIENCE_S = 20.0

A = TypeVar("A", bound=Message)


class World:
    """An admin instance that leads, and owners that serve whatever is assigned to them.

    Attributes:
        slow: owners that do not hand over.
        handovers: how often each bundle was claimed.
    """

    def __init__(self) -> None:
        self.store = MemoryMetadata()
        self.log = MemoryLog()
        self.slow: set[str] = set()
        self.handovers: Counter[str] = Counter()
        self.now_ms = 1_700_000_000_000
        self.methods: Methods
        self.cluster: Cluster
        self._claims: asyncio.Queue[Change] = asyncio.Queue()

    @classmethod
    @asynccontextmanager
    async def open(cls, strategy: LoadStrategy) -> AsyncIterator[World]:
        world = cls()
        store = world.store
        await Namespaces(store).ensure("default")
        world.cluster = await Cluster.open(store)
        bus = MemoryBus(MemoryHub())
        election = Election(store, world.cluster, "1", on_leading=world.cluster.changed.set)
        assigner = Assigner(
            store,
            world.cluster,
            election,
            layout=LAYOUT,
            policies=Policies(),
            strategy=strategy,
            now_ms=lambda: world.now_ms,
        )
        rules = RebalanceRules(aggressiveness=Aggressiveness.AGGRESSIVE, rest_s=60)
        manager = LoadManager(store, world.cluster, strategy, rules, now_ms=lambda: world.now_ms)
        owners = OwnerClient(bus, world.cluster, timeout_s=OWNER_TIMEOUT_S)
        world.methods = admin_methods(store, world.log, owners, world.cluster, manager)
        followed = await Mirror.open(store, keys.ASSIGNMENTS, world._claims.put_nowait)
        work = (election.run(), assigner.run(), world._serve())
        tasks = [asyncio.create_task(one) for one in work]
        try:
            yield world
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await followed.close()
            await world.cluster.close()
            await bus.close()

    async def _serve(self) -> None:
        while True:
            change = await self._claims.get()
            bundle = change.key.removeprefix(keys.ASSIGNMENTS)
            owner = decode_record(Assignment, change.value or b"").instance_id
            present = self.cluster.claimed.get(Bundle.parse(bundle))
            if owner != present and present not in self.slow:
                self.handovers[bundle] += 1
                await self.store.put(keys.owner_key(Bundle.parse(bundle)), encode_record(Claim(owner, "n")))

    async def owner(self, instance_id: str) -> None:
        record = Instance(instance_id, "topic-owner", f"http://127.0.0.1:{instance_id}")
        await self.store.put(keys.instance_key(instance_id), encode_record(record))

    async def tell(self, instance_id: str, topics: int, *, cpu: float = 0) -> None:
        """A report in which every bundle of the owner has as many topics."""
        held = [bundle for bundle, owner in self.cluster.claimed.items() if owner == instance_id]
        told = report(instance_id, {bundle: BundleLoad(topics=topics) for bundle in held}, cpu=cpu, memory=1)
        await self.store.put(keys.load_key(instance_id), encode_record(told))

    def shares(self) -> dict[str, int]:
        claimed, assigned = self.cluster.claimed, self.cluster.assigned
        return dict(Counter(claimed.values())) if claimed == assigned else {}

    async def until(self, shares: dict[str, int]) -> None:
        assert await self.cluster.until(lambda: self.shares() == shares, PATIENCE_S), self.shares()

    async def topic(self, name: str) -> Bundle:
        topics = Topics(self.store, self.log, now_ms=lambda: 1)
        strategy = Strategy(ReliableOptions())
        return (await topics.create(TopicName.parse(name), Schema("s", SchemaKind.BYTES), strategy)).home

    async def attempt(self, method: str, request: Message) -> bytes | RpcError:
        try:
            return await answered(self.methods.unary[method], Call(method, request.SerializeToString()))
        except Exception as error:
            status = error if isinstance(error, RpcError) else self.methods.on_error(error)
            if status is None:
                raise
            return status

    async def call(self, method: str, request: Message, answer: type[A]) -> A:
        outcome = await self.attempt(method, request)
        assert isinstance(outcome, bytes), outcome
        return answer.FromString(outcome)

    async def refused(self, method: str, request: Message) -> RpcError:
        outcome = await self.attempt(method, request)
        assert isinstance(outcome, RpcError), method
        return outcome

    async def unload(
        self, broker_id: str, timeout_s: int = 20, *, dry_run: bool = False
    ) -> pb.UnloadBrokerResponse:
        request = pb.UnloadBrokerRequest(broker_id=broker_id, timeout_seconds=timeout_s, dry_run=dry_run)
        return await self.call(f"{BROKER}/UnloadBroker", request, pb.UnloadBrokerResponse)

    async def states(self) -> dict[str, str]:
        answer = await self.call(f"{BROKER}/ListBrokers", pb.Empty(), pb.BrokerListResponse)
        return {broker.broker_id: broker.broker_status for broker in answer.brokers}


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with World.open(LoadStrategy.FAIR) as world:
        yield world


async def test_an_unloaded_broker_hands_everything_over_and_gets_nothing_until_it_is_activated(
    world: World,
) -> None:
    await world.owner("71")
    await world.owner("72")
    await world.until({"71": 4, "72": 4})
    counted = await world.unload("71")
    assert (counted.started, counted.total, counted.succeeded, counted.pending) == (True, 4, 4, 0)
    assert await world.states() == {"71": "drained", "72": "active"}
    await world.owner("73")
    await world.until({"72": 4, "73": 4})
    activated = await world.call(
        f"{BROKER}/ActivateBroker", pb.ActivateBrokerRequest(broker_id="71"), pb.ActivateBrokerResponse
    )
    assert activated.success
    assert await world.cluster.until(lambda: world.shares().get("71", 0) >= 2, PATIENCE_S)
    assert (await world.states())["71"] == "active"


async def test_the_state_of_a_drain_is_in_the_store_for_whoever_leads_next(world: World) -> None:
    await world.owner("71")
    await world.owner("72")
    await world.until({"71": 4, "72": 4})
    await world.unload("71")
    other = await Cluster.open(world.store)
    assert set(other.drains) == {"71"}
    assert other.eligible_owners == {"72"}
    await other.close()


async def test_a_drain_under_way_tells_how_far_it_is_and_goes_on_when_asked_again(world: World) -> None:
    await world.owner("71")
    await world.owner("72")
    await world.until({"71": 4, "72": 4})
    world.slow.add("71")
    counted = await world.unload("71", timeout_s=0)
    assert (counted.total, counted.succeeded, counted.pending) == (4, 0, 4)
    assert (await world.states())["71"] == "draining"


async def test_a_dry_run_only_counts(world: World) -> None:
    await world.owner("71")
    await world.owner("72")
    await world.until({"71": 4, "72": 4})
    before = world.store.state.revision
    counted = await world.unload("71", dry_run=True)
    assert (counted.started, counted.total, counted.pending) == (False, 4, 4)
    assert world.store.state.revision == before
    assert await world.states() == {"71": "active", "72": "active"}


async def test_the_only_broker_cannot_be_unloaded_nor_its_topics(world: World) -> None:
    await world.owner("71")
    await world.until({"71": 8})
    await world.topic("/default/t")
    status = await world.refused(f"{BROKER}/UnloadBroker", pb.UnloadBrokerRequest(broker_id="71"))
    assert (status.code, status.message) == (
        StatusCode.FAILED_PRECONDITION,
        "broker 71 is the only active one: nobody could take its topics",
    )
    status = await world.refused(UNLOAD_TOPIC, pb.TopicRequest(name="/default/t"))
    assert (status.code, status.message) == (
        StatusCode.FAILED_PRECONDITION,
        "there is no other active broker that could take the topic",
    )


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (pb.UnloadBrokerRequest(broker_id="9"), StatusCode.NOT_FOUND),
        (pb.UnloadBrokerRequest(broker_id="9", dry_run=True), StatusCode.NOT_FOUND),
        (
            pb.UnloadBrokerRequest(broker_id="71", namespaces_include=["default"]),
            StatusCode.INVALID_ARGUMENT,
        ),
    ],
)
async def test_what_cannot_be_unloaded_is_refused(
    world: World, request_: pb.UnloadBrokerRequest, code: StatusCode
) -> None:
    await world.owner("71")
    await world.until({"71": 8})
    assert (await world.refused(f"{BROKER}/UnloadBroker", request_)).code is code


@pytest.mark.parametrize(
    ("broker_id", "said"),
    [
        ("9", "there is no broker '9'"),
        ("", "there is no broker ''"),
        ("../x", "there is no broker '../x'"),
        ("61", "61 is a process of kind gateway, and only topic-owners carry topics"),
    ],
)
async def test_what_is_no_topic_owner_is_neither_unloaded_nor_activated(
    world: World, broker_id: str, said: str
) -> None:
    await world.owner("71")
    await world.store.put(keys.instance_key("61"), encode_record(Instance("61", "gateway", "http://h:1")))
    await world.until({"71": 8})
    await world.cluster.until(lambda: world.cluster.kind("61") is not None, PATIENCE_S)
    for method, request in (
        ("UnloadBroker", pb.UnloadBrokerRequest(broker_id=broker_id)),
        ("UnloadBroker", pb.UnloadBrokerRequest(broker_id=broker_id, dry_run=True)),
        ("ActivateBroker", pb.ActivateBrokerRequest(broker_id=broker_id)),
    ):
        status = await world.refused(f"{BROKER}/{method}", request)
        assert (status.code, status.message) == (StatusCode.NOT_FOUND, said)


async def test_an_unloaded_topic_is_served_by_another_broker_and_stays_there(world: World) -> None:
    await world.owner("71")
    await world.owner("72")
    await world.until({"71": 4, "72": 4})
    bundle = await world.topic("/default/t")
    before = world.cluster.claimed[bundle]
    assert (await world.call(UNLOAD_TOPIC, pb.TopicRequest(name="/default/t"), pb.TopicResponse)).success
    after = world.cluster.claimed[bundle]
    assert {before, after} == {"71", "72"}
    world.handovers.clear()
    await world.owner("80")  # the leader looks at everything again
    await world.cluster.until(lambda: len(world.cluster.owners) == 3, PATIENCE_S)
    assert world.cluster.claimed[bundle] == after


async def test_a_topic_that_is_none_cannot_be_unloaded(world: World) -> None:
    unknown = await world.refused(UNLOAD_TOPIC, pb.TopicRequest(name="/default/t"))
    assert unknown.code is StatusCode.NOT_FOUND
    assert (await world.refused(UNLOAD_TOPIC, pb.TopicRequest(name="t"))).code is StatusCode.INVALID_ARGUMENT


async def test_rebalancing_moves_what_the_dry_run_says_and_lets_it_rest() -> None:
    async with World.open(LoadStrategy.BALANCED) as world:
        await world.owner("71")
        await world.owner("72")
        await world.until({"71": 4, "72": 4})
        await world.tell("71", topics=100, cpu=90)
        await world.tell("72", topics=1)
        await world.cluster.until(lambda: len(world.cluster.loads) == 2, PATIENCE_S)

        async def rebalance(*, dry_run: bool = False) -> pb.RebalanceResponse:
            request = pb.RebalanceRequest(dry_run=dry_run, max_moves=1)
            return await world.call(f"{BROKER}/TriggerRebalance", request, pb.RebalanceResponse)

        assert not (await rebalance(dry_run=True)).proposed_moves, "what was just assigned rests"
        world.now_ms += 61_000
        proposed = await rebalance(dry_run=True)
        assert proposed.success
        assert [(move.from_broker, move.to_broker) for move in proposed.proposed_moves] == [(71, 72)]
        assert world.shares() == {"71": 4, "72": 4}
        done = await rebalance()
        assert (done.moves_executed, list(done.proposed_moves)) == (1, list(proposed.proposed_moves))
        assert world.shares() == {"71": 3, "72": 5}


async def test_nothing_is_rebalanced_before_every_broker_has_told_what_it_carries(world: World) -> None:
    await world.owner("71")
    await world.owner("72")
    await world.until({"71": 4, "72": 4})
    await world.tell("71", topics=1)
    await world.cluster.until(lambda: len(world.cluster.loads) == 1, PATIENCE_S)
    status = await world.refused(f"{BROKER}/TriggerRebalance", pb.RebalanceRequest())
    assert (status.code, status.message) == (
        StatusCode.UNAVAILABLE,
        "broker 72 has not told what it carries yet",
    )


async def test_the_balance_has_the_figures_of_every_active_broker(world: World) -> None:
    await world.owner("71")
    await world.owner("72")
    await world.until({"71": 4, "72": 4})
    await world.tell("71", topics=30)
    await world.tell("72", topics=10)
    await world.cluster.until(lambda: len(world.cluster.loads) == 2, PATIENCE_S)
    balance = await world.call(
        f"{BROKER}/GetClusterBalance", pb.ClusterBalanceRequest(), pb.ClusterBalanceResponse
    )
    assert (balance.broker_count, balance.assignment_strategy) == (2, "fair")
    assert (balance.mean_load, balance.max_load, balance.min_load) == (0.5, 0.75, 0.25)
    assert (balance.coefficient_of_variation, balance.std_deviation) == (50, 0.25)
    assert [(b.broker_id, b.topic_count, b.is_overloaded, b.is_underloaded) for b in balance.brokers] == [
        (71, 120, True, False),
        (72, 40, False, True),
    ]


async def test_loads_are_those_of_living_brokers(world: World) -> None:
    await world.owner("71")
    await world.until({"71": 8})
    await world.tell("71", topics=2, cpu=12.5)
    await world.tell("gone", topics=1)
    await world.cluster.until(lambda: len(world.cluster.loads) == 2, PATIENCE_S)
    (load,) = (
        await world.call(
            "/danube_platform.LoadAdmin/ListBrokerLoads",
            platform_pb.BrokerLoadsRequest(),
            platform_pb.BrokerLoadsResponse,
        )
    ).brokers
    assert (load.broker_id, load.cpu_percent, load.total.topics) == ("71", 12.5, 16)
    assert set(load.bundles) == {str(bundle) for bundle in LAYOUT.bundles()}
