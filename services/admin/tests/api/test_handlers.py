from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest
import pytest_asyncio
from google.protobuf.message import Message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from danube_admin_service.api.errors import ERROR_TRAILER
from danube_admin_service.api.methods import admin_methods
from danube_admin_service.cluster.load_manager import LoadManager, RebalanceRules
from danube_admin_service.cluster.ranking import LoadStrategy
from danube_admin_service.cluster.view import Cluster, LeaderRecord
from danube_common.bus.memory import MemoryBus, MemoryHub
from danube_common.cluster import keys
from danube_common.cluster.membership import register
from danube_common.cluster.namespaces import DEFAULT_NAMESPACES, Namespaces
from danube_common.cluster.owner_client import OwnerClient
from danube_common.cluster.records import Instance, Layout, Topic, decode_record, encode_record
from danube_common.errors import ERROR_CHARACTERS_MAX
from danube_common.log.memory import MemoryLog
from danube_common.metadata.memory import MemoryMetadata
from danube_common.metadata.port import Entry
from danube_common.model.names import TopicName
from danube_common.model.policies import MESSAGE_BYTES_CEILING, Policies
from danube_common.model.schema import SchemaKind
from danube_common.model.strategy import ReliableOptions, StorageBackend, Strategy
from danube_common.rpc.port import Call, Methods, RpcError, StatusCode
from danube_harness.services.fake_owner import FakeOwner
from danube_proto import danube_admin_pb2 as pb
from danube_proto import danube_platform_pb2 as platform_pb
from danube_proto.danube_api_pb2 import (
    INVALID_TOPIC_NAME,
    SERVICE_NOT_READY,
    SUBSCRIPTION_NOT_FOUND,
    TOPIC_NOT_FOUND,
    UNKNOWN_ERROR,
    ErrorMessage,
)

LAYOUT = Layout(file_bundles=4, memory_bundles=2)
NOW_MS = 1_700_000_000_000
BROKER = "/danube_admin.BrokerAdmin"
NAMESPACE = "/danube_admin.NamespaceAdmin"
TOPIC = "/danube_admin.TopicAdmin"
POLICY = "/danube_platform.PolicyAdmin"
PARTITIONS = "/danube_platform.PartitionAdmin/CreatePartitions"
DETAILS = "/danube_platform.TopicDetails"

A = TypeVar("A", bound=Message)


@dataclass
class Admin:
    """The handlers over stores in memory."""

    store: MemoryMetadata
    log: MemoryLog
    hub: MemoryHub
    methods: Methods
    owner: FakeOwner

    async def attempt(self, method: str, request: Message | bytes) -> bytes | RpcError:
        """As the server does it: what is raised becomes a status."""
        data = request if isinstance(request, bytes) else request.SerializeToString()
        try:
            return await self.methods.unary[method](Call(method, data))
        except Exception as error:
            status = error if isinstance(error, RpcError) else self.methods.on_error(error)
            if status is None:
                raise
            return status

    async def call(self, method: str, request: Message | bytes, answer: type[A]) -> A:
        """The answer of a call that must succeed."""
        outcome = await self.attempt(method, request)
        assert isinstance(outcome, bytes), outcome
        return answer.FromString(outcome)

    async def refused(self, method: str, request: Message | bytes) -> RpcError:
        """The status of a call that must fail, and must change nothing."""
        before = self.contents()
        outcome = await self.attempt(method, request)
        assert isinstance(outcome, RpcError), method
        assert self.contents() == before
        return outcome

    async def create_topic(self, name: str, **given: str) -> Topic:
        request = pb.NewTopicRequest(name=name, **{"schema_type": "bytes", **given})
        assert (await self.call(f"{TOPIC}/CreateTopic", request, pb.TopicResponse)).success
        return await self.topic(name)

    async def topic(self, name: str) -> Topic:
        entry = await self.store.get(keys.topic_key(TopicName.parse(name)))
        assert entry is not None
        return decode_record(Topic, entry.value)

    def contents(self) -> tuple[Entry, ...]:
        return self.store.state.listing("/").entries


def error_message(status: RpcError) -> ErrorMessage:
    trailer = status.trailers[ERROR_TRAILER]
    assert isinstance(trailer, bytes)
    return ErrorMessage.FromString(trailer)


@pytest_asyncio.fixture
async def admin() -> AsyncIterator[Admin]:
    store, log, hub = MemoryMetadata(), MemoryLog(), MemoryHub()
    bus = MemoryBus(hub)
    await store.put(keys.LAYOUT, encode_record(LAYOUT))
    for namespace in DEFAULT_NAMESPACES:
        await Namespaces(store).ensure(namespace)
    owner = FakeOwner(store, bus, "71")
    await owner.claim(LAYOUT.bundles())
    cluster = await Cluster.open(store)
    manager = LoadManager(store, cluster, LoadStrategy.FAIR, RebalanceRules(rest_s=0), now_ms=lambda: NOW_MS)
    owners = OwnerClient(bus, cluster)
    methods = admin_methods(store, log, owners, cluster, manager, now_ms=lambda: NOW_MS)
    yield Admin(store, log, hub, methods, owner)
    await cluster.close()
    await bus.close()


# Brokers


def an_instance(instance_id: str, kind: str) -> Instance:
    return Instance(instance_id, kind, f"http://127.0.0.1:{instance_id}")


async def test_brokers_are_the_topic_owners_and_nobody_else(admin: Admin) -> None:
    for instance_id, kind in (("71", "topic-owner"), ("72", "topic-owner"), ("80", "gateway")):
        await register(admin.store, an_instance(instance_id, kind))
    answer = await admin.call(f"{BROKER}/ListBrokers", pb.Empty(), pb.BrokerListResponse)
    assert [(b.broker_id, b.broker_addr, b.broker_role) for b in answer.brokers] == [
        ("71", "http://127.0.0.1:71", "None"),
        ("72", "http://127.0.0.1:72", "None"),
    ]


async def test_a_brokers_role_says_whether_somebody_leads(admin: Admin) -> None:
    await register(admin.store, an_instance("71", "topic-owner"))
    await register(admin.store, an_instance("72", "topic-owner"))
    await admin.store.put(keys.LEADER, encode_record(LeaderRecord("72", "nonce")))
    answer = await admin.call(f"{BROKER}/ListBrokers", pb.Empty(), pb.BrokerListResponse)
    assert [b.broker_role for b in answer.brokers] == ["Cluster_Follower", "Cluster_Leader"]


async def test_the_leader_is_named_or_not_found(admin: Admin) -> None:
    method = f"{BROKER}/GetLeaderBroker"
    assert (await admin.call(method, pb.Empty(), pb.BrokerResponse)).leader == "not_found"
    await admin.store.put(keys.LEADER, encode_record(LeaderRecord("9", "nonce")))
    assert (await admin.call(method, pb.Empty(), pb.BrokerResponse)).leader == "9"


async def test_each_namespace_is_listed_once_however_many_topics_it_has(admin: Admin) -> None:
    await admin.create_topic("/default/a")
    await admin.create_topic("/default/b")
    answer = await admin.call(f"{BROKER}/ListNamespaces", pb.Empty(), pb.NamespaceListResponse)
    assert list(answer.namespaces) == ["default", "system"]


# Namespaces


async def test_a_namespace_is_created_and_deleted(admin: Admin) -> None:
    request = pb.NamespaceRequest(name="shop")
    created = await admin.call(f"{NAMESPACE}/CreateNamespace", request, pb.NamespaceResponse)
    listed = await admin.call(f"{BROKER}/ListNamespaces", pb.Empty(), pb.NamespaceListResponse)
    deleted = await admin.call(f"{NAMESPACE}/DeleteNamespace", request, pb.NamespaceResponse)
    left = await admin.call(f"{BROKER}/ListNamespaces", pb.Empty(), pb.NamespaceListResponse)
    assert created.success
    assert deleted.success
    assert list(listed.namespaces) == ["default", "shop", "system"]
    assert list(left.namespaces) == ["default", "system"]


@pytest.mark.parametrize(
    ("method", "name", "reason"),
    [
        ("CreateNamespace", "default", "exists already"),
        ("CreateNamespace", "", "empty"),
        ("CreateNamespace", "a/b", "letters, digits"),
        ("CreateNamespace", "x" * 300, "longer"),
        ("DeleteNamespace", "nowhere", "does not exist"),
        ("DeleteNamespace", "default", "part of the platform"),
        ("DeleteNamespace", "system", "part of the platform"),
        ("DeleteNamespace", "", "empty"),
        ("GetNamespacePolicies", "nowhere", "does not exist"),
        ("GetNamespacePolicies", "..", "letters, digits"),
    ],
)
async def test_a_refused_namespace_call_is_not_found_and_says_why(
    admin: Admin, method: str, name: str, reason: str
) -> None:
    status = await admin.refused(f"{NAMESPACE}/{method}", pb.NamespaceRequest(name=name))
    assert status.code is StatusCode.NOT_FOUND
    assert reason in status.message
    assert error_message(status) == ErrorMessage(error_type=UNKNOWN_ERROR, error_message=status.message)


async def test_a_namespace_with_topics_is_not_deleted(admin: Admin) -> None:
    await Namespaces(admin.store).create("shop")
    await admin.create_topic("/shop/a")
    status = await admin.refused(f"{NAMESPACE}/DeleteNamespace", pb.NamespaceRequest(name="shop"))
    assert status.code is StatusCode.NOT_FOUND
    assert "still has topics" in status.message


async def test_a_namespaces_beginning_is_not_the_namespace(admin: Admin) -> None:
    await Namespaces(admin.store).create("shop")
    await Namespaces(admin.store).create("shopping")
    await admin.create_topic("/shopping/a")
    request = pb.NamespaceRequest(name="shop")
    for method in (f"{NAMESPACE}/GetNamespaceTopics", f"{TOPIC}/ListTopics"):
        assert list((await admin.call(method, request, pb.TopicListResponse)).topics) == []
    assert (await admin.call(f"{NAMESPACE}/DeleteNamespace", request, pb.NamespaceResponse)).success


async def test_topics_are_listed_by_their_whole_name_with_the_leading_slash(admin: Admin) -> None:
    for name in ("/default/b", "/default/a", "/system/c"):
        await admin.create_topic(name)
    for method in (f"{NAMESPACE}/GetNamespaceTopics", f"{TOPIC}/ListTopics"):
        answer = await admin.call(method, pb.NamespaceRequest(name="default"), pb.TopicListResponse)
        assert list(answer.topics) == ["/default/a", "/default/b"]


async def test_an_unknown_namespace_has_no_topics(admin: Admin) -> None:
    request = pb.NamespaceRequest(name="nowhere")
    assert list((await admin.call(f"{TOPIC}/ListTopics", request, pb.TopicListResponse)).topics) == []


async def test_policies_are_the_eight_in_force_in_the_order_of_their_declaration(admin: Admin) -> None:
    await admin.store.put(keys.BROKER_POLICIES, encode_record(Policies(max_publish_rate=7)))
    request = platform_pb.SetNamespacePoliciesRequest(
        namespace="default", policies=platform_pb.Policies(max_dispatch_rate=3)
    )
    await admin.call(f"{POLICY}/SetNamespacePolicies", request, platform_pb.PoliciesResponse)
    answer = await admin.call(
        f"{NAMESPACE}/GetNamespacePolicies", pb.NamespaceRequest(name="default"), pb.PolicyResponse
    )
    assert list(json.loads(answer.policies).items()) == [
        ("max_producers_per_topic", 0),
        ("max_subscriptions_per_topic", 0),
        ("max_consumers_per_topic", 0),
        ("max_consumers_per_subscription", 0),
        ("max_publish_rate", 7),
        ("max_dispatch_rate", 3),
        ("max_subscription_dispatch_rate", 0),
        ("max_message_size", 10_485_760),
    ]


# Topics


async def test_a_created_topic_is_stored_as_asked_for(admin: Admin) -> None:
    topic = await admin.create_topic(
        "/default/orders",
        schema_type="JSON",
        schema_data='{"type": "object"}',
        dispatch_strategy="reliable:segment_size=5,storage=disk,storage_path=/Var",
    )
    assert topic.schema.kind is SchemaKind.JSON
    assert topic.schema.name == "/default/orders_schema"
    assert topic.schema.definition == '{"type": "object"}'
    assert topic.strategy == Strategy(
        ReliableOptions(segment_size_mb=5, storage=StorageBackend.DISK, storage_path="/Var")
    )
    assert topic.created_ms == NOW_MS


@pytest.mark.parametrize("words", ["", "non-reliable", "non_reliable", "NonReliable"])
async def test_a_topic_is_non_reliable_unless_asked_otherwise(admin: Admin, words: str) -> None:
    assert (await admin.create_topic("/default/a", dispatch_strategy=words)).strategy == Strategy()


async def test_a_topic_is_created_when_its_owner_knows_it(admin: Admin) -> None:
    admin.owner.forgetful = 3
    await admin.create_topic("/default/a")
    assert admin.owner.forgetful == 0


@pytest.mark.parametrize(
    ("request_", "error_type", "reason"),
    [
        (pb.NewTopicRequest(name="default/a", schema_type="bytes"), INVALID_TOPIC_NAME, "/namespace/topic"),
        (pb.NewTopicRequest(name="/default/", schema_type="bytes"), INVALID_TOPIC_NAME, "empty"),
        (pb.NewTopicRequest(name="/de.fault/a", schema_type="bytes"), INVALID_TOPIC_NAME, "letters, digits"),
        (
            pb.NewTopicRequest(name="/nowhere/a", schema_type="bytes"),
            UNKNOWN_ERROR,
            "'nowhere' does not exist",
        ),
        (pb.NewTopicRequest(name="/default/a", schema_type="avro"), UNKNOWN_ERROR, "not a schema type"),
        (pb.NewTopicRequest(name="/default/a"), UNKNOWN_ERROR, "not a schema type"),
        (
            pb.NewTopicRequest(name="/default/a", schema_type="json", schema_data="{"),
            UNKNOWN_ERROR,
            "not JSON",
        ),
        (
            pb.NewTopicRequest(name="/default/a", schema_type="json", schema_data='{"type": 5}'),
            UNKNOWN_ERROR,
            "JSON schema is not valid",
        ),
        (
            pb.NewTopicRequest(name="/default/a", schema_type="bytes", dispatch_strategy="sometimes"),
            UNKNOWN_ERROR,
            "not a dispatch strategy",
        ),
    ],
)
async def test_a_wrong_topic_is_refused_and_nothing_is_created(
    admin: Admin, request_: pb.NewTopicRequest, error_type: int, reason: str
) -> None:
    status = await admin.refused(f"{TOPIC}/CreateTopic", request_)
    assert status.code is StatusCode.NOT_FOUND
    assert reason in status.message
    assert error_message(status).error_type == error_type


async def test_an_existing_topic_is_refused_and_stays_as_it_is(admin: Admin) -> None:
    await admin.create_topic("/default/a", dispatch_strategy="reliable")
    status = await admin.refused(
        f"{TOPIC}/CreateTopic", pb.NewTopicRequest(name="/default/a", schema_type="string")
    )
    assert status.code is StatusCode.NOT_FOUND
    assert "exists already" in status.message


async def test_without_an_owner_no_topic_is_created(admin: Admin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("danube_admin_service.api.topic_readiness.ANSWER_TIMEOUT_S", 0.05)
    for bundle in LAYOUT.bundles():
        await admin.store.delete(keys.owner_key(bundle))
    status = await admin.refused(
        f"{TOPIC}/CreateTopic", pb.NewTopicRequest(name="/default/a", schema_type="bytes")
    )
    assert status.code is StatusCode.UNAVAILABLE
    assert error_message(status).error_type == SERVICE_NOT_READY


async def test_a_deleted_topic_is_gone_and_others_with_its_beginning_stay(admin: Admin) -> None:
    for name in ("/default/a", "/default/ab", "/default/a-part-0"):
        await admin.create_topic(name)
    request = pb.TopicRequest(name="/default/a")
    assert (await admin.call(f"{TOPIC}/DeleteTopic", request, pb.TopicResponse)).success
    answer = await admin.call(
        f"{TOPIC}/ListTopics", pb.NamespaceRequest(name="default"), pb.TopicListResponse
    )
    assert list(answer.topics) == ["/default/a-part-0", "/default/ab"]


async def test_a_topic_can_be_created_again_after_it_was_deleted(admin: Admin) -> None:
    first = await admin.create_topic("/default/a")
    await admin.call(f"{TOPIC}/DeleteTopic", pb.TopicRequest(name="/default/a"), pb.TopicResponse)
    second = await admin.create_topic("/default/a")
    assert first.topic_id != second.topic_id


@pytest.mark.parametrize("name", ["/default/unknown", "/default/a-part-0", "/default"])
async def test_only_a_topics_whole_name_deletes_it(admin: Admin, name: str) -> None:
    await admin.create_topic("/default/a")
    status = await admin.refused(f"{TOPIC}/DeleteTopic", pb.TopicRequest(name=name))
    wrong = name == "/default"
    assert status.code is StatusCode.NOT_FOUND
    assert error_message(status).error_type == (INVALID_TOPIC_NAME if wrong else TOPIC_NOT_FOUND)


async def test_subscriptions_are_those_the_owner_has(admin: Admin) -> None:
    await admin.create_topic("/default/a")
    admin.owner.subscriptions["/default/a"] = ["b", "a"]
    answer = await admin.call(
        f"{TOPIC}/ListSubscriptions", pb.TopicRequest(name="/default/a"), pb.SubscriptionListResponse
    )
    assert list(answer.subscriptions) == ["a", "b"]


async def test_an_unknown_topic_has_no_subscriptions(admin: Admin) -> None:
    answer = await admin.call(
        f"{TOPIC}/ListSubscriptions", pb.TopicRequest(name="/default/a"), pb.SubscriptionListResponse
    )
    assert list(answer.subscriptions) == []


async def test_an_unsubscribed_name_is_listed_no_more(admin: Admin) -> None:
    await admin.create_topic("/default/a")
    admin.owner.subscriptions["/default/a"] = ["gone", "kept"]
    request = pb.SubscriptionRequest(topic="/default/a", subscription="gone")
    assert (await admin.call(f"{TOPIC}/Unsubscribe", request, pb.SubscriptionResponse)).success
    answer = await admin.call(
        f"{TOPIC}/ListSubscriptions", pb.TopicRequest(name="/default/a"), pb.SubscriptionListResponse
    )
    assert list(answer.subscriptions) == ["kept"]


@pytest.mark.parametrize(
    ("topic", "subscription", "error_type"),
    [
        ("/default/a", "unknown", SUBSCRIPTION_NOT_FOUND),
        ("/default/a", "use", SUBSCRIPTION_NOT_FOUND),
        ("/default/a", "", SUBSCRIPTION_NOT_FOUND),
        ("/default/a", "x" * 100_000, SUBSCRIPTION_NOT_FOUND),
        ("/default/a", "used", UNKNOWN_ERROR),
        ("/default/b", "used", TOPIC_NOT_FOUND),
        ("a", "used", INVALID_TOPIC_NAME),
    ],
)
async def test_a_refused_unsubscribe_changes_nothing(
    admin: Admin, topic: str, subscription: str, error_type: int
) -> None:
    await admin.create_topic("/default/a")
    admin.owner.subscriptions["/default/a"] = ["used"]
    admin.owner.connected.add(("/default/a", "used"))
    status = await admin.refused(
        f"{TOPIC}/Unsubscribe", pb.SubscriptionRequest(topic=topic, subscription=subscription)
    )
    assert status.code is StatusCode.NOT_FOUND
    assert error_message(status).error_type == error_type
    assert admin.owner.subscriptions["/default/a"] == ["used"]


# Policies


async def test_a_topics_policies_stand_over_its_namespaces(admin: Admin) -> None:
    await admin.create_topic("/default/a")
    await admin.call(
        f"{POLICY}/SetNamespacePolicies",
        platform_pb.SetNamespacePoliciesRequest(
            namespace="default", policies=platform_pb.Policies(max_publish_rate=5, max_dispatch_rate=6)
        ),
        platform_pb.PoliciesResponse,
    )
    answer = await admin.call(
        f"{POLICY}/SetTopicPolicies",
        platform_pb.SetTopicPoliciesRequest(
            topic="/default/a", policies=platform_pb.Policies(max_publish_rate=0)
        ),
        platform_pb.PoliciesResponse,
    )
    read = await admin.call(
        f"{POLICY}/GetTopicPolicies",
        platform_pb.GetTopicPoliciesRequest(topic="/default/a"),
        platform_pb.PoliciesResponse,
    )
    assert answer == read
    in_force = json.loads(read.policies)
    assert (in_force["max_publish_rate"], in_force["max_dispatch_rate"]) == (0, 6)


async def test_a_bound_on_what_is_kept_is_told_to_those_who_can_set_it(admin: Admin) -> None:
    """Peers of the v0.2 contract know eight policies."""
    kept = platform_pb.Policies(max_retained_mb=7)
    answers = [
        await admin.call(f"{POLICY}/{method}", request, platform_pb.PoliciesResponse)
        for method, request in (
            (
                "SetNamespacePolicies",
                platform_pb.SetNamespacePoliciesRequest(namespace="default", policies=kept),
            ),
            ("GetNamespacePolicies", platform_pb.GetNamespacePoliciesRequest(namespace="default")),
        )
    ]
    assert [json.loads(answer.policies)["max_retained_mb"] for answer in answers] == [7, 7]


async def test_a_policy_that_is_not_named_stays_until_it_is_cleared(admin: Admin) -> None:
    async def change(policies: platform_pb.Policies, *, clear: bool = False) -> tuple[int, int]:
        answer = await admin.call(
            f"{POLICY}/SetNamespacePolicies",
            platform_pb.SetNamespacePoliciesRequest(namespace="default", policies=policies, clear=clear),
            platform_pb.PoliciesResponse,
        )
        in_force = json.loads(answer.policies)
        return in_force["max_publish_rate"], in_force["max_dispatch_rate"]

    assert await change(platform_pb.Policies(max_publish_rate=5)) == (5, 0)
    assert await change(platform_pb.Policies(max_dispatch_rate=6)) == (5, 6)
    assert await change(platform_pb.Policies(max_dispatch_rate=7), clear=True) == (0, 7)
    assert await change(platform_pb.Policies(), clear=True) == (0, 0)


TOO_LARGE = platform_pb.Policies(max_message_size=MESSAGE_BYTES_CEILING + 1)


@pytest.mark.parametrize(
    ("method", "request_", "code", "error_type"),
    [
        (
            "SetNamespacePolicies",
            platform_pb.SetNamespacePoliciesRequest(namespace="default", policies=TOO_LARGE),
            StatusCode.INVALID_ARGUMENT,
            UNKNOWN_ERROR,
        ),
        (
            "SetNamespacePolicies",
            platform_pb.SetNamespacePoliciesRequest(namespace="nowhere"),
            StatusCode.NOT_FOUND,
            UNKNOWN_ERROR,
        ),
        (
            "SetNamespacePolicies",
            platform_pb.SetNamespacePoliciesRequest(namespace="a b"),
            StatusCode.INVALID_ARGUMENT,
            UNKNOWN_ERROR,
        ),
        (
            "GetNamespacePolicies",
            platform_pb.GetNamespacePoliciesRequest(namespace="nowhere"),
            StatusCode.NOT_FOUND,
            UNKNOWN_ERROR,
        ),
        (
            "SetTopicPolicies",
            platform_pb.SetTopicPoliciesRequest(topic="/default/a", policies=TOO_LARGE),
            StatusCode.INVALID_ARGUMENT,
            UNKNOWN_ERROR,
        ),
        (
            "SetTopicPolicies",
            platform_pb.SetTopicPoliciesRequest(topic="/default/b"),
            StatusCode.NOT_FOUND,
            TOPIC_NOT_FOUND,
        ),
        (
            "GetTopicPolicies",
            platform_pb.GetTopicPoliciesRequest(topic="b"),
            StatusCode.INVALID_ARGUMENT,
            INVALID_TOPIC_NAME,
        ),
    ],
)
async def test_a_wrong_policy_is_refused_with_the_status_that_says_what_it_is(
    admin: Admin, method: str, request_: Message, code: StatusCode, error_type: int
) -> None:
    await admin.create_topic("/default/a")
    status = await admin.refused(f"{POLICY}/{method}", request_)
    assert status.code is code
    assert error_message(status).error_type == error_type


# Partitions


async def test_many_partitions_are_made_by_one_call_and_spread_over_the_bundles(admin: Admin) -> None:
    request = platform_pb.CreatePartitionsRequest(
        topic="/default/p", first=5, partitions=100, schema_type="string", dispatch_strategy="reliable"
    )
    answer = await admin.call(PARTITIONS, request, platform_pb.CreatePartitionsResponse)
    assert answer.success
    listed = await admin.call(
        f"{TOPIC}/ListTopics", pb.NamespaceRequest(name="default"), pb.TopicListResponse
    )
    assert set(listed.topics) == {f"/default/p-part-{number}" for number in range(5, 105)}
    topics = [await admin.topic(name) for name in listed.topics]
    assert Counter(topic.bundle for topic in topics) == dict.fromkeys(("f0", "f1", "f2", "f3"), 25)
    assert len({topic.topic_id for topic in topics}) == 100


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"topic": "/default/p", "first": 1}, "topic /default/p-part-1 exists already"),
        ({"topic": "/default/whole"}, "topic /default/whole exists already, and not in partitions"),
        ({"topic": "/default/q", "partitions": 0}, "1 to 1000 partitions are made by one call"),
        ({"topic": "/default/q", "partitions": 1001}, "1 to 1000 partitions are made by one call"),
        ({"topic": "/none/q"}, "namespace 'none' does not exist"),
        ({"topic": "q"}, "topic name 'q' must have the form /namespace/topic"),
        ({"topic": f"/default/{'q' * 250}", "first": 10_000}, "longer than"),
        ({"topic": "/default/q", "schema_type": "none"}, "none"),
    ],
)
async def test_partitions_that_cannot_be_made_are_refused_and_none_is(
    admin: Admin, request_: dict[str, Any], message: str
) -> None:
    await admin.create_topic("/default/p-part-1")
    await admin.create_topic("/default/whole")
    sound: dict[str, Any] = {"partitions": 3, "schema_type": "string"}
    status = await admin.refused(PARTITIONS, platform_pb.CreatePartitionsRequest(**{**sound, **request_}))
    assert message in status.message
    assert status.code is StatusCode.NOT_FOUND


# Faults and garbage


SOUND: dict[str, Message] = {
    f"{BROKER}/ListBrokers": pb.Empty(),
    f"{BROKER}/GetLeaderBroker": pb.Empty(),
    f"{BROKER}/ListNamespaces": pb.Empty(),
    f"{NAMESPACE}/GetNamespaceTopics": pb.NamespaceRequest(name="default"),
    f"{NAMESPACE}/GetNamespacePolicies": pb.NamespaceRequest(name="default"),
    f"{NAMESPACE}/CreateNamespace": pb.NamespaceRequest(name="shop"),
    f"{NAMESPACE}/DeleteNamespace": pb.NamespaceRequest(name="shop"),
    f"{TOPIC}/ListTopics": pb.NamespaceRequest(name="default"),
    f"{TOPIC}/CreateTopic": pb.NewTopicRequest(
        name="/default/a", schema_type="json", schema_data="{}", dispatch_strategy="reliable"
    ),
    f"{TOPIC}/DeleteTopic": pb.TopicRequest(name="/default/a"),
    f"{TOPIC}/ListSubscriptions": pb.TopicRequest(name="/default/a"),
    f"{TOPIC}/Unsubscribe": pb.SubscriptionRequest(topic="/default/a", subscription="s"),
    PARTITIONS: platform_pb.CreatePartitionsRequest(topic="/default/p", partitions=2, schema_type="bytes"),
    f"{POLICY}/GetNamespacePolicies": platform_pb.GetNamespacePoliciesRequest(namespace="default"),
    f"{POLICY}/SetNamespacePolicies": platform_pb.SetNamespacePoliciesRequest(
        namespace="default", policies=platform_pb.Policies(max_publish_rate=1)
    ),
    f"{POLICY}/GetTopicPolicies": platform_pb.GetTopicPoliciesRequest(topic="/default/a"),
    f"{DETAILS}/DescribeTopic": platform_pb.DescribeTopicRequest(topic="/default/a"),
    f"{DETAILS}/ListSegments": platform_pb.ListSegmentsRequest(topic="/default/a"),
    f"{DETAILS}/ResetSubscription": platform_pb.ResetSubscriptionRequest(
        topic="/default/a", subscription="s"
    ),
    f"{POLICY}/SetTopicPolicies": platform_pb.SetTopicPoliciesRequest(
        topic="/default/a", policies=platform_pb.Policies(max_publish_rate=1)
    ),
}
"""One request that every method understands, of those that ask the store."""
FROM_THE_VIEW = {
    f"{BROKER}/UnloadBroker",
    f"{BROKER}/ActivateBroker",
    f"{BROKER}/GetClusterBalance",
    f"{BROKER}/TriggerRebalance",
    f"{TOPIC}/UnloadTopic",
    "/danube_platform.LoadAdmin/ListBrokerLoads",
}
"""What moves load: see test_load_admin."""


async def test_every_method_of_the_contract_is_served(admin: Admin) -> None:
    files = (pb.DESCRIPTOR, platform_pb.DESCRIPTOR)
    services = [service for file in files for service in file.services_by_name.values()]
    declared = {
        f"/{service.full_name}/{method.name}"
        for service in services
        if service.name != "Subscriptions"  # the gateways serve it
        for method in service.methods
    }
    assert set(admin.methods.unary) == declared == set(SOUND) | FROM_THE_VIEW


@pytest.mark.parametrize("method", SOUND)
async def test_a_store_that_does_not_answer_is_unavailable(admin: Admin, method: str) -> None:
    admin.store.reachable = False
    status = await admin.refused(method, SOUND[method])
    assert (status.code, error_message(status).error_type) == (StatusCode.UNAVAILABLE, SERVICE_NOT_READY)


async def test_a_record_that_cannot_be_read_is_our_fault_and_told_to_nobody(admin: Admin) -> None:
    await admin.store.put(keys.namespace_key("broken"), b"{{secret")
    status = await admin.refused(f"{BROKER}/ListNamespaces", pb.Empty())
    assert status.code is StatusCode.INTERNAL
    assert "secret" not in status.message
    assert error_message(status).error_type == UNKNOWN_ERROR


@pytest.mark.parametrize("data", [b"\xff", b"\x0a\xff", b"\x08\x01", b"\x0a\x02\xff\xfe"])
async def test_bytes_that_are_no_request_are_an_invalid_argument(admin: Admin, data: bytes) -> None:
    for method in sorted(SOUND):
        if method.startswith(f"{BROKER}/") and data == b"\x08\x01":
            continue  # an Empty may hold fields of a later generation
        if method.startswith(BROKER) and data == b"\x0a\x02\xff\xfe":
            continue
        status = await admin.refused(method, data)
        assert status.code is StatusCode.INVALID_ARGUMENT, method
        assert error_message(status).error_type == UNKNOWN_ERROR


async def test_a_long_name_does_not_make_a_long_status(admin: Admin) -> None:
    for request in (
        pb.TopicRequest(name="x" * 1_000_000),
        pb.TopicRequest(name=f"/{'é' * 255}/{'b' * 255}"),
    ):
        status = await admin.refused(f"{TOPIC}/DeleteTopic", request)
        assert len(status.message) <= ERROR_CHARACTERS_MAX


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A sound request with one byte changed, left out or put in."""
    data = draw(st.sampled_from([m.SerializeToString() for m in SOUND.values()]))
    at = draw(st.integers(0, len(data)))
    return data[:at] + draw(st.binary(max_size=1)) + data[at + draw(st.integers(0, 1)) :]


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    deadline=None,
    max_examples=200,
)
@given(data=st.one_of(st.binary(max_size=60), damaged()))
async def test_any_bytes_get_an_answer_or_a_status_that_changed_nothing(admin: Admin, data: bytes) -> None:
    for method in SOUND:
        before = admin.contents()
        outcome = await admin.attempt(method, data)
        if isinstance(outcome, RpcError):
            assert outcome.code in (StatusCode.INVALID_ARGUMENT, StatusCode.NOT_FOUND)
            assert error_message(outcome).error_message == outcome.message
            assert admin.contents() == before
