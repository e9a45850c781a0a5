"""The administration services (docs/wire/admin.md), without the original's defects."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from tests.conformance.client import (
    BYTES,
    INT64,
    JSON,
    SHARED,
    STRING,
    TOPIC_NOT_FOUND,
    Admin,
    Client,
    new_topic,
    producer_request,
    strategy,
)
from tests.conformance.stubs import danube, danube_admin

from danube_harness.platforms.standalone import Platform

ROLES = {"Cluster_Leader", "Cluster_Follower"}


async def test_brokers_are_listed_with_a_full_address_and_a_role(admin: Admin) -> None:
    brokers = (await admin.call("ListBrokers", danube_admin.Empty())).brokers
    assert brokers
    for broker in brokers:
        assert broker.broker_id
        assert re.fullmatch(r"http://[^/:]+:[0-9]+/?", broker.broker_addr)
        assert broker.broker_role in ROLES
    assert len({broker.broker_id for broker in brokers}) == len(brokers)


async def test_the_leader_is_one_of_the_brokers(admin: Admin) -> None:
    brokers = (await admin.call("ListBrokers", danube_admin.Empty())).brokers
    leader = (await admin.call("GetLeaderBroker", danube_admin.Empty())).leader
    assert int(leader) > 0
    assert [one.broker_id for one in brokers if one.broker_role == "Cluster_Leader"] == [leader]


async def test_clients_can_use_the_addresses_of_the_brokers_that_follow(
    admin: Admin, platform: Platform, topic: str
) -> None:
    brokers = (await admin.call("ListBrokers", danube_admin.Empty())).brokers
    (address,) = {one.broker_addr for one in brokers if one.broker_role == "Cluster_Follower"}
    assert address.removeprefix("http://") in platform.gateway_addrs
    client = Client(address.removeprefix("http://"))
    await client.producer(topic)
    await client.close()


async def test_each_namespace_is_listed_once(client: Client, admin: Admin, namespace: str) -> None:
    await admin.create_namespace(namespace)
    for number in range(3):
        await client.producer(f"/{namespace}/topic{number}")
    counts = Counter(await admin.namespaces())
    assert counts[namespace] == 1
    assert set(counts.values()) == {1}


@pytest.mark.parametrize("method", ["GetNamespaceTopics", "ListTopics"])
async def test_topics_are_listed_by_the_exact_namespace(
    client: Client, admin: Admin, namespace: str, method: str
) -> None:
    await admin.create_namespace(namespace)
    await admin.create_namespace(namespace + "x")
    await client.producer(f"/{namespace}/b")
    await client.producer(f"/{namespace}/a")
    await client.producer(f"/{namespace}x/c")
    answer = await admin.call(method, danube_admin.NamespaceRequest(name=namespace))
    assert sorted(name.removeprefix("/") for name in answer.topics) == [f"{namespace}/a", f"{namespace}/b"]


@pytest.mark.parametrize(
    "method", ["GetNamespaceTopics", "ListTopics", "GetNamespacePolicies", "DeleteNamespace"]
)
async def test_an_unknown_namespace_is_not_found(admin: Admin, namespace: str, method: str) -> None:
    refusal = await admin.refused(method, danube_admin.NamespaceRequest(name=namespace))
    assert refusal.code == "NOT_FOUND"
    assert namespace in refusal.message


async def test_a_namespace_is_made_once(client: Client, admin: Admin, namespace: str) -> None:
    await admin.create_namespace(namespace)
    await client.producer(f"/{namespace}/topic")
    refusal = await admin.refused("CreateNamespace", danube_admin.NamespaceRequest(name=namespace))
    assert refusal.code == "NOT_FOUND"
    assert "exist" in refusal.message
    assert await admin.topics(namespace) == [f"/{namespace}/topic"]


@pytest.mark.parametrize("name", ["", "a/b", "a b", "a.b", "x" * 256])
async def test_a_name_that_no_topic_could_have_is_no_namespace(admin: Admin, name: str) -> None:
    refusal = await admin.refused("CreateNamespace", danube_admin.NamespaceRequest(name=name))
    assert refusal.code == "NOT_FOUND"
    assert name not in await admin.namespaces()


async def test_only_an_empty_namespace_can_be_deleted(client: Client, admin: Admin, namespace: str) -> None:
    await admin.create_namespace(namespace)
    await client.producer(f"/{namespace}/topic")
    refusal = await admin.refused("DeleteNamespace", danube_admin.NamespaceRequest(name=namespace))
    assert refusal.code == "NOT_FOUND"
    assert namespace in await admin.namespaces()
    await admin.delete_topic(f"/{namespace}/topic")
    assert (await admin.call("DeleteNamespace", danube_admin.NamespaceRequest(name=namespace))).success
    assert namespace not in await admin.namespaces()
    refusal = await client.refused("CreateProducer", producer_request(f"/{namespace}/another"))
    assert refusal.code == "UNAVAILABLE"


async def test_a_namespace_that_begins_like_a_full_one_can_be_deleted(
    client: Client, admin: Admin, namespace: str
) -> None:
    await admin.create_namespace(namespace)
    await admin.create_namespace(namespace + "x")
    await client.producer(f"/{namespace}x/topic")
    assert (await admin.call("DeleteNamespace", danube_admin.NamespaceRequest(name=namespace))).success
    assert await admin.topics(namespace + "x") == [f"/{namespace}x/topic"]


async def test_a_topic_made_with_the_command_lines_defaults_is_served_at_once(
    client: Client, admin: Admin, topic: str
) -> None:
    await admin.create_topic(topic)
    assert await client.partitions(topic) == [topic]
    await client.lookup(topic)
    consumer = await client.consume(topic, "sub")
    producer = await client.producer(topic)
    await producer.send("hello")
    assert (await consumer.next()).payload == b"hello"
    assert topic in await admin.topics("default")


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        ("bytes", BYTES),
        ("Bytes", BYTES),
        ("string", STRING),
        ("STRING", STRING),
        ("Int64", INT64),
        ("json", JSON),
        ("JSON", JSON),
    ],
)
async def test_schema_types_are_words_in_any_case(
    client: Client, admin: Admin, topic: str, word: str, kind: int
) -> None:
    text = '{"type": "object"}'
    await admin.create_topic(topic, schema_type=word, schema_data=text)
    schema = await client.schema(topic)
    assert schema.type_schema == kind
    assert schema.name == f"{topic}_schema"
    assert schema.schema_data == (text.encode() if kind == JSON else b"")


@pytest.mark.parametrize("word", ["non-reliable", "non_reliable"])
async def test_both_spellings_of_non_reliable_are_taken(
    client: Client, admin: Admin, topic: str, word: str
) -> None:
    await admin.create_topic(topic, strategy=word)
    await client.producer(topic, dispatch_strategy=strategy(reliable=False))


@pytest.mark.parametrize(
    ("word", "options"),
    [
        ("reliable", {}),
        ("reliable:segment_size=5,storage=disk,retention=ack", {"segment_size": 5, "retention_policy": 0}),
        ("reliable:retention_period=60", {"retention_period": 60}),
    ],
)
async def test_reliable_topics_can_be_made(
    client: Client, admin: Admin, topic: str, word: str, options: dict[str, int]
) -> None:
    await admin.create_topic(topic, strategy=word)
    producer = await client.producer(topic, dispatch_strategy=strategy(reliable=True, **options))
    await producer.send("kept")
    late = await client.consume(topic, "late")
    assert (await late.next()).payload == b"kept"


@pytest.mark.parametrize(
    "arguments",
    [
        {"schema_type": "xml"},
        {"schema_type": ""},
        {"schema_type": "json", "schema_data": "{"},
        {"schema_type": "json", "schema_data": '{"type": 1}'},
        {"strategy": "sometimes"},
        {"strategy": "reliable:segment_size=many"},
        {"strategy": "reliable:nothing=1"},
        {"strategy": "reliable:segment_size=1,segment_size=2"},
    ],
)
async def test_a_topic_that_makes_no_sense_is_refused_and_not_made(
    client: Client, admin: Admin, topic: str, arguments: dict[str, str]
) -> None:
    refusal = await admin.refused("CreateTopic", new_topic(topic, **arguments))
    assert refusal.code == "NOT_FOUND"
    assert await client.partitions(topic) == []


@pytest.mark.parametrize("name", ["", "topic", "/default", "/default/a.b", "/default/a/b", "/no_such_ns/t"])
async def test_a_topic_that_cannot_be_is_refused(admin: Admin, name: str) -> None:
    refusal = await admin.refused("CreateTopic", new_topic(name))
    assert refusal.code == "NOT_FOUND"


async def test_making_a_topic_again_changes_nothing(client: Client, admin: Admin, topic: str) -> None:
    await admin.create_topic(topic, schema_type="json", schema_data='{"type":"array"}', strategy="reliable")
    before = await client.schema(topic)
    for again in (new_topic(topic), new_topic(topic, "json", '{"type":"array"}', "reliable")):
        refusal = await admin.refused("CreateTopic", again)
        assert refusal.code == "NOT_FOUND"
        assert "exist" in refusal.message
    assert await client.schema(topic) == before


@pytest.mark.parametrize("method", ["DeleteTopic", "ListSubscriptions"])
async def test_an_unknown_topic_is_not_found(admin: Admin, topic: str, method: str) -> None:
    refusal = await admin.refused(method, danube_admin.TopicRequest(name=topic))
    assert (refusal.code, topic in refusal.message) == ("NOT_FOUND", True)


async def test_a_deleted_topic_is_gone_for_everybody(client: Client, admin: Admin, topic: str) -> None:
    producer = await client.reliable_producer(topic)
    stream = await client.consume(topic, "sub")
    await producer.send("old")
    await stream.next()
    await admin.delete_topic(topic)
    await stream.ended()
    assert topic not in await admin.topics("default")
    assert (
        await admin.refused("ListSubscriptions", danube_admin.TopicRequest(name=topic))
    ).code == "NOT_FOUND"
    refusal = await client.refused("GetSchema", danube.SchemaRequest(topic=topic))
    assert refusal.error_type == TOPIC_NOT_FOUND
    assert (await admin.refused("DeleteTopic", danube_admin.TopicRequest(name=topic))).code == "NOT_FOUND"
    await admin.create_topic(topic, schema_type="int64")
    assert (await client.schema(topic)).type_schema == INT64
    assert await admin.subscriptions(topic) == []


async def test_deleting_a_topic_leaves_its_namesakes_alone(client: Client, admin: Admin, topic: str) -> None:
    names = [topic, topic + "x", topic + "-part"]
    consumers = []
    for name in names:
        await client.producer(name)
        consumers.append(await client.consume(name, "sub"))
    await admin.delete_topic(topic)
    for name, consumer in zip(names[1:], consumers[1:], strict=True):
        await (await client.producer(name)).send("still here")
        assert (await consumer.next()).payload == b"still here"


async def test_subscriptions_are_listed_by_name(client: Client, admin: Admin, topic: str) -> None:
    await client.producer(topic)
    assert await admin.subscriptions(topic) == []
    for name in "ab":
        for consumer in "12":
            await client.subscribe(topic, name, consumer, SHARED)
    assert sorted(await admin.subscriptions(topic)) == ["a", "b"]


async def test_a_subscription_is_kept_while_a_consumer_is_connected_and_can_go_afterwards(
    client: Client, admin: Admin, topic: str
) -> None:
    producer = await client.reliable_producer(topic)
    await producer.send("kept")
    stream = await client.consume(topic, "sub")
    await stream.next()
    request = danube_admin.SubscriptionRequest(topic=topic, subscription="sub")
    assert (await admin.refused("Unsubscribe", request)).code == "NOT_FOUND"
    await producer.send("the consumer is unharmed")
    await client.ack(await stream.next(), "sub")
    await stream.cancel()
    await admin.unsubscribe(topic, "sub")
    assert await admin.subscriptions(topic) == []
    again = await client.consume(topic, "sub")
    assert (await again.next()).payload == b"kept"


@pytest.mark.parametrize("missing", ["topic", "subscription"])
async def test_unsubscribing_what_does_not_exist_is_not_found(
    client: Client, admin: Admin, topic: str, missing: str
) -> None:
    if missing == "subscription":
        await client.producer(topic)
    request = danube_admin.SubscriptionRequest(topic=topic, subscription="sub")
    assert (await admin.refused("Unsubscribe", request)).code == "NOT_FOUND"


async def test_a_partitioned_topic_is_refused_where_a_plain_one_is_and_is_deleted_as_one(
    client: Client, admin: Admin, topic: str
) -> None:
    for number in range(3):
        await admin.create_topic(f"{topic}-part-{number}")
    stream = await client.consume(f"{topic}-part-1", "sub")
    for request in (new_topic(topic), new_topic(f"{topic}-part-1")):
        assert "exists already" in (await admin.refused("CreateTopic", request)).message
    refusal = await client.refused("CreateProducer", producer_request(f"{topic}-part-3", "p-3"))
    assert refusal.code == "FAILED_PRECONDITION"
    assert f"topic {topic} has 3 partitions" in refusal.message
    refusal = await admin.refused("DeleteTopic", danube_admin.TopicRequest(name=f"{topic}-part-1"))
    assert refusal.code == "FAILED_PRECONDITION"
    await admin.delete_topic(topic)
    await stream.ended()
    assert await client.partitions(topic) == []
    await client.producer(topic)
    refusal = await client.refused("CreateProducer", producer_request(f"{topic}-part-0", "p-0"))
    assert refusal.message == f"topic {topic} exists already, and not in partitions"


async def test_the_cluster_s_status_names_the_leader_and_all_that_may_lead(admin: Admin) -> None:
    status = await admin.call("ClusterStatus", danube_admin.Empty())
    leader = (await admin.call("GetLeaderBroker", danube_admin.Empty())).leader
    assert str(status.leader_id) == leader
    assert status.leader_id in status.voters
    assert status.self_node_id in status.voters
    assert status.current_term >= 1
    assert status.raft_addr.startswith("http://")
    assert (await admin.call("PromoteNode", danube_admin.NodeRequest(node_id=status.leader_id))).success


async def test_a_subscription_s_bound_of_unacknowledged_messages_holds_while_it_is_consumed(
    client: Client, admin: Admin, topic: str
) -> None:
    producer = await client.reliable_producer(topic)
    stream = await client.consume(topic, "sub")
    request = danube_admin.SetSubscriptionDispatchConfigRequest(topic=topic, subscription="sub")
    request.dispatch_config.max_unacked_messages = 2
    assert (await admin.call("SetSubscriptionDispatchConfig", request)).success
    for text in "abc":
        await producer.send(text)
    first = await stream.next()
    assert (await stream.next()).payload == b"b"
    assert await stream.silent_for(0.3)
    await client.ack(first, "sub")
    assert (await stream.next()).payload == b"c"
    asked = danube_admin.SubscriptionRequest(topic=topic, subscription="sub")
    told = await admin.call("GetSubscriptionDispatchConfig", asked)
    assert told.dispatch_config.max_unacked_messages == 2
