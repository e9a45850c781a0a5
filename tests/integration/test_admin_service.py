"""The admin process on real servers: its port as clients reach it, and who leads when one dies."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

import grpc
import grpc.aio
import pytest
import pytest_asyncio
from google.protobuf.message import Message

from danube_common.bus.nats import NatsBus
from danube_common.cluster import keys
from danube_common.cluster.membership import register
from danube_common.cluster.records import Assignment, Instance, Layout, decode_record
from danube_common.metadata.etcd import EtcdMetadata
from danube_common.metadata.jetstream import JetStreamMetadata
from danube_common.metadata.lease import Lease
from danube_common.metadata.mirror import Mirror
from danube_common.metadata.port import MetadataStore
from danube_common.model.bundle import Bundle
from danube_harness.platforms.service_process import ServiceProcess
from danube_harness.servers.etcd_server import EtcdServer
from danube_harness.servers.nats_server import NatsServer
from danube_harness.services.fake_owner import FakeOwner
from danube_proto import danube_admin_pb2 as pb
from danube_proto import danube_platform_pb2 as platform_pb
from danube_proto.danube_api_pb2 import SUBSCRIPTION_NOT_FOUND, TOPIC_NOT_FOUND, UNKNOWN_ERROR, ErrorMessage

PATIENCE_S = 30.0
LAYOUT = Layout(file_bundles=3, memory_bundles=3)
TOPIC = "/danube_admin.TopicAdmin"
NAMESPACE = "/danube_admin.NamespaceAdmin"

A = TypeVar("A", bound=Message)


class AdminProcess(ServiceProcess):
    """One ``danube-admin-service`` and a channel to it."""

    channel: grpc.aio.Channel
    exit_status: int | None = None

    @classmethod
    @asynccontextmanager
    async def run(
        cls, directory: Path, servers: tuple[str, ...], instance_id: str, *arguments: str
    ) -> AsyncIterator[AdminProcess]:
        bundles = ("--bundles-file", str(LAYOUT.file_bundles), "--bundles-memory", str(LAYOUT.memory_bundles))
        flags = (*servers, *bundles, *arguments)
        admin = cls("admin", f"admin-{instance_id}", instance_id, directory, flags)
        await admin.start()
        try:
            async with grpc.aio.insecure_channel(admin.grpc_addr) as admin.channel:
                yield admin
        finally:
            if admin.running:
                admin.exit_status = await admin.stop()

    async def call(self, method: str, request: Message | bytes, answer: type[A]) -> A:
        data = request if isinstance(request, bytes) else request.SerializeToString()
        ask = self.channel.unary_unary(
            method, request_serializer=bytes, response_deserializer=answer.FromString
        )
        return await ask(data, timeout=PATIENCE_S)

    async def refused(self, method: str, request: Message | bytes) -> tuple[grpc.StatusCode, ErrorMessage]:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.call(method, request, ErrorMessage)
        trailers: dict[str, Any] = dict(cast("Any", caught.value.trailing_metadata()))
        message = ErrorMessage.FromString(trailers["error-message-bin"])
        assert message.error_message == caught.value.details()
        return caught.value.code(), message


class World:
    """The test's own end of the servers.

    Attributes:
        flags: what an admin process needs to reach them.
    """

    def __init__(self, flags: tuple[str, ...], bus: NatsBus, store: MetadataStore, seen: Mirror) -> None:
        self.flags = flags
        self.bus = bus
        self.store = store
        self.seen = seen

    async def owner(self, instance_id: str) -> Lease:
        return await register(self.store, Instance(instance_id, "topic-owner", "http://127.0.0.1:9"))

    def shares(self) -> dict[str, int]:
        owners = [
            decode_record(Assignment, entry.value).instance_id
            for entry in self.seen.entries(keys.ASSIGNMENTS)
            if Bundle.parse(entry.key.removeprefix(keys.ASSIGNMENTS)) in LAYOUT.bundles()
        ]
        return {owner: owners.count(owner) for owner in sorted(set(owners))}

    async def until_shares_are(self, shares: dict[str, int]) -> None:
        await self.seen.wait_for(lambda _: self.shares() == shares, PATIENCE_S)


@pytest_asyncio.fixture
async def world(
    nats_server: NatsServer, tmp_path: Path, request: pytest.FixtureRequest
) -> AsyncIterator[World]:
    """Metadata lives in NATS unless a test asks for etcd."""
    flags: tuple[str, ...] = ("--nats-url", nats_server.url)
    async with AsyncExitStack() as opened:
        bus = await NatsBus.connect(nats_server.url, name="test")
        opened.push_async_callback(bus.close)
        store: MetadataStore
        if getattr(request, "param", "nats") == "etcd":
            directory = tmp_path / "etcd"
            directory.mkdir()
            etcd = await opened.enter_async_context(EtcdServer.run(directory))
            flags += ("--metadata", f"etcd://{etcd.endpoint.removeprefix('http://')}")
            store = await EtcdMetadata.connect([etcd.endpoint])
        else:
            store = await JetStreamMetadata.open(bus.connection)
        opened.push_async_callback(store.close)
        seen = await Mirror.open(store, keys.CLUSTER)
        opened.push_async_callback(seen.close)
        yield World(flags, bus, store, seen)


on_both_stores = pytest.mark.parametrize("world", ["nats", "etcd"], indirect=True)


@on_both_stores
async def test_topics_live_from_their_creation_to_their_deletion(world: World, tmp_path: Path) -> None:
    arguments = ("--bootstrap-namespaces", "shop,depot", "--policies-max-publish-rate", "9")
    async with AdminProcess.run(tmp_path, world.flags, "11", *arguments) as admin:
        owner = FakeOwner(world.store, world.bus, "71")
        await owner.claim(LAYOUT.bundles())
        lease = await world.owner("71")

        brokers = await admin.call("/danube_admin.BrokerAdmin/ListBrokers", pb.Empty(), pb.BrokerListResponse)
        leader = await admin.call("/danube_admin.BrokerAdmin/GetLeaderBroker", pb.Empty(), pb.BrokerResponse)
        names = await admin.call(
            "/danube_admin.BrokerAdmin/ListNamespaces", pb.Empty(), pb.NamespaceListResponse
        )
        assert [(b.broker_id, b.broker_role) for b in brokers.brokers] == [
            ("11", "Cluster_Leader"),
            ("71", "Cluster_Follower"),
        ]
        assert leader.leader == "11"
        assert list(names.namespaces) == ["default", "depot", "shop", "system"]

        for name in ("/shop/a", "/shop/ab"):
            request = pb.NewTopicRequest(
                name=name, schema_type="String", dispatch_strategy="reliable:storage=disk"
            )
            assert (await admin.call(f"{TOPIC}/CreateTopic", request, pb.TopicResponse)).success
        owner.subscriptions["/shop/a"] = ["left", "stays"]
        unsubscribe = pb.SubscriptionRequest(topic="/shop/a", subscription="left")
        assert (await admin.call(f"{TOPIC}/Unsubscribe", unsubscribe, pb.SubscriptionResponse)).success
        subscriptions = await admin.call(
            f"{TOPIC}/ListSubscriptions", pb.TopicRequest(name="/shop/a"), pb.SubscriptionListResponse
        )
        assert list(subscriptions.subscriptions) == ["stays"]

        await admin.call(
            "/danube_platform.PolicyAdmin/SetTopicPolicies",
            platform_pb.SetTopicPoliciesRequest(
                topic="/shop/a", policies=platform_pb.Policies(max_message_size=5)
            ),
            platform_pb.PoliciesResponse,
        )
        policies = await admin.call(
            "/danube_platform.PolicyAdmin/GetTopicPolicies",
            platform_pb.GetTopicPoliciesRequest(topic="/shop/a"),
            platform_pb.PoliciesResponse,
        )
        in_force = json.loads(policies.policies)
        assert (in_force["max_publish_rate"], in_force["max_message_size"]) == (9, 5)

        await admin.call(f"{TOPIC}/DeleteTopic", pb.TopicRequest(name="/shop/a"), pb.TopicResponse)
        left = await admin.call(f"{TOPIC}/ListTopics", pb.NamespaceRequest(name="shop"), pb.TopicListResponse)
        assert list(left.topics) == ["/shop/ab"]

        missing = grpc.StatusCode.NOT_FOUND
        code, error = await admin.refused(f"{TOPIC}/DeleteTopic", pb.TopicRequest(name="/shop/a"))
        assert (code, error.error_type) == (missing, TOPIC_NOT_FOUND)
        unsubscribe = pb.SubscriptionRequest(topic="/shop/ab", subscription="left")
        code, error = await admin.refused(f"{TOPIC}/Unsubscribe", unsubscribe)
        assert (code, error.error_type) == (missing, SUBSCRIPTION_NOT_FOUND)
        code, error = await admin.refused(f"{NAMESPACE}/DeleteNamespace", pb.NamespaceRequest(name="shop"))
        assert (code, error.error_type) == (missing, UNKNOWN_ERROR)
        code, error = await admin.refused(f"{TOPIC}/ListTopics", b"\x08\x01")
        assert (code, error.error_type) == (grpc.StatusCode.INVALID_ARGUMENT, UNKNOWN_ERROR)
        await lease.release()


async def test_two_owners_both_get_bundles_and_a_gone_ones_move(world: World, tmp_path: Path) -> None:
    async with AdminProcess.run(tmp_path, world.flags, "11"):
        first = await world.owner("71")
        await world.until_shares_are({"71": 6})
        second = await world.owner("72")
        await world.until_shares_are({"71": 3, "72": 3})
        await first.release()
        await world.until_shares_are({"72": 6})
        await second.release()


@on_both_stores
async def test_when_the_leader_is_killed_another_leads_and_assigns(world: World, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        admins = {
            instance_id: await stack.enter_async_context(AdminProcess.run(tmp_path, world.flags, instance_id))
            for instance_id in ("11", "12")
        }
        first = await world.owner("71")
        await world.until_shares_are({"71": 6})
        method = "/danube_admin.BrokerAdmin/GetLeaderBroker"
        answers = [(await a.call(method, pb.Empty(), pb.BrokerResponse)).leader for a in admins.values()]
        (leader,) = set(answers)
        (heir,) = set(admins) - {leader}

        await admins[leader].kill()
        second = await world.owner("72")
        await world.until_shares_are({"71": 3, "72": 3})
        assert (await admins[heir].call(method, pb.Empty(), pb.BrokerResponse)).leader == heir
        await first.release()
        await second.release()


async def test_an_asked_process_gives_up_its_lead_and_its_place_before_it_ends(
    world: World, tmp_path: Path
) -> None:
    async with AdminProcess.run(tmp_path, world.flags, "11") as admin:
        await world.seen.wait_for(lambda m: m.get(keys.instance_key("11")) is not None, PATIENCE_S)
    assert admin.exit_status == 0
    assert await world.store.get(keys.LEADER) is None
    assert await world.store.get(keys.instance_key("11")) is None


async def test_a_restarted_store_is_followed_again(
    nats_server: NatsServer, world: World, tmp_path: Path
) -> None:
    async with AdminProcess.run(tmp_path, world.flags, "11") as admin:
        await nats_server.restart()
        owner = await world.owner("71")
        await world.until_shares_are({"71": 6})
        leader = await admin.call("/danube_admin.BrokerAdmin/GetLeaderBroker", pb.Empty(), pb.BrokerResponse)
        assert leader.leader == "11"
        await owner.release()
