"""Partitioned topics on the admin port: created, described, grown, unsubscribed and deleted as one."""

from __future__ import annotations

import json

import pytest
from services.admin.tests.api.admin_port import (
    GROW,
    LIST_PARTITIONED,
    NAMESPACE,
    POLICY,
    TOPIC,
    Admin,
    error_message,
)

from danube_common.model.failure_policy import FailurePolicy
from danube_common.rpc.port import StatusCode
from danube_proto import danube_admin_pb2 as pb
from danube_proto import danube_platform_pb2 as platform_pb
from danube_proto import danube_schema_pb2 as schemas
from danube_proto.danube_api_pb2 import SUBSCRIPTION_NOT_FOUND

BASE = "/default/p"
REGISTRY = "/danube_schema.SchemaRegistry"


@pytest.fixture
async def parted(admin: Admin) -> Admin:
    """The admin port with the topic BASE in three partitions."""
    request = pb.PartitionedTopicRequest(base_name=BASE, partitions=3, dispatch_strategy=pb.Reliable)
    await admin.call(f"{TOPIC}/CreatePartitionedTopic", request, pb.TopicResponse)
    return admin


def part(number: int) -> str:
    return f"{BASE}-part-{number}"


async def topics_of(admin: Admin) -> list[str]:
    listed = await admin.call(
        f"{TOPIC}/ListTopics", pb.NamespaceRequest(name="default"), pb.TopicListResponse
    )
    return list(listed.topics)


async def test_a_partitioned_topic_is_listed_with_its_number(parted: Admin) -> None:
    await parted.create_topic("/default/plain")
    request = platform_pb.ListPartitionedTopicsRequest(namespace="default")
    listed = await parted.call(LIST_PARTITIONED, request, platform_pb.ListPartitionedTopicsResponse)
    assert [(one.topic, one.partitions, one.reliable) for one in listed.topics] == [(BASE, 3, True)]
    request = platform_pb.ListPartitionedTopicsRequest(namespace="nowhere")
    assert (await parted.refused(LIST_PARTITIONED, request)).code is StatusCode.NOT_FOUND


async def test_a_topic_is_plain_or_partitioned_and_never_both(parted: Admin) -> None:
    await parted.create_topic("/default/plain")
    beside = pb.PartitionedTopicRequest(base_name="/default/plain", partitions=1)
    more = pb.PartitionedTopicRequest(base_name=BASE, partitions=5)
    for method, request, number in (
        ("CreateTopic", pb.NewTopicRequestCurrent(name=BASE, dispatch_strategy=pb.Reliable), "3 partitions"),
        ("CreateTopic", pb.NewTopicRequestCurrent(name="/default/plain-part-0"), "not in part"),
        ("CreatePartitionedTopic", beside, "not in part"),
        ("CreatePartitionedTopic", more, "exists already"),
    ):
        status = await parted.refused(f"{TOPIC}/{method}", request)
        assert status.code is StatusCode.ALREADY_EXISTS
        assert number in status.message
    old = pb.NewTopicRequest(name=BASE, schema_type="bytes")
    status = await parted.refused(f"{TOPIC}/CreateTopic", old)
    assert (status.code, "3 partitions" in status.message) == (StatusCode.NOT_FOUND, True)


async def test_it_is_described_as_one(parted: Admin) -> None:
    for number in range(3):
        parted.owner.subscriptions[part(number)] = ["all", f"only-{number}"]
    described = await parted.call(
        f"{TOPIC}/DescribeTopic", pb.TopicRequest(name=BASE), pb.DescribeTopicResponse
    )
    assert (described.name, described.delivery) == (BASE, "Reliable")
    assert list(described.subscriptions) == ["all", "only-0", "only-1", "only-2"]
    assert described.broker_id == "71"


async def test_it_is_deleted_as_one_and_no_partition_alone(parted: Admin) -> None:
    await parted.create_topic("/default/p2")
    status = await parted.refused(f"{TOPIC}/DeleteTopic", pb.TopicRequest(name=part(1)))
    assert status.code is StatusCode.FAILED_PRECONDITION
    assert f"delete {BASE}" in status.message
    await parted.call(f"{TOPIC}/DeleteTopic", pb.TopicRequest(name=BASE), pb.TopicResponse)
    assert await topics_of(parted) == ["/default/p2"]
    assert not [entry.key for entry in parted.contents() if "/p-part-" in entry.key or "/p/" in entry.key]
    await parted.create_topic(BASE)


async def test_it_grows_as_one_and_does_not_shrink(parted: Admin) -> None:
    grown = platform_pb.GrowTopicRequest(topic=BASE, partitions=5)
    assert (await parted.call(GROW, grown, platform_pb.GrowTopicResponse)).success
    assert await topics_of(parted) == [part(number) for number in range(5)]
    assert (await parted.topic(part(4))).strategy == (await parted.topic(part(0))).strategy
    await parted.create_topic("/default/plain")
    for topic, partitions, code in (
        (BASE, 5, StatusCode.ALREADY_EXISTS),
        (BASE, 4, StatusCode.INVALID_ARGUMENT),
        (BASE, 2000, StatusCode.INVALID_ARGUMENT),
        ("/default/plain", 2, StatusCode.INVALID_ARGUMENT),
        ("/default/nothing", 2, StatusCode.NOT_FOUND),
    ):
        request = platform_pb.GrowTopicRequest(topic=topic, partitions=partitions)
        assert (await parted.refused(GROW, request)).code is code, (topic, partitions)


async def test_a_subscription_is_deleted_in_every_partition_that_has_it(parted: Admin) -> None:
    for number in range(2):
        parted.owner.subscriptions[part(number)] = ["s", "kept"]
    request = pb.SubscriptionRequest(topic=BASE, subscription="s")
    await parted.call(f"{TOPIC}/Unsubscribe", request, pb.SubscriptionResponse)
    assert [parted.owner.subscriptions[part(number)] for number in range(2)] == [["kept"], ["kept"]]
    status = await parted.refused(f"{TOPIC}/Unsubscribe", request)
    assert (status.code, error_message(status).error_type) == (StatusCode.NOT_FOUND, SUBSCRIPTION_NOT_FOUND)


async def test_policies_of_a_partitioned_topic_hold_for_each_partition_also_a_later_one(
    parted: Admin,
) -> None:
    policies = platform_pb.Policies(max_publish_rate=7)
    request = platform_pb.SetTopicPoliciesRequest(topic=BASE, policies=policies)
    await parted.call(f"{POLICY}/SetTopicPolicies", request, platform_pb.PoliciesResponse)
    grown = platform_pb.GrowTopicRequest(topic=BASE, partitions=4)
    await parted.call(GROW, grown, platform_pb.GrowTopicResponse)
    for name in (BASE, part(0), part(3)):
        asked = platform_pb.GetTopicPoliciesRequest(topic=name)
        answer = await parted.call(f"{POLICY}/GetTopicPolicies", asked, platform_pb.PoliciesResponse)
        assert json.loads(answer.policies)["max_publish_rate"] == 7
    request = platform_pb.SetTopicPoliciesRequest(topic=part(0), policies=policies)
    status = await parted.refused(f"{POLICY}/SetTopicPolicies", request)
    assert status.code is StatusCode.FAILED_PRECONDITION


async def test_the_subject_of_a_partitioned_topic_is_that_of_each_partition_also_a_later_one(
    parted: Admin,
) -> None:
    register = schemas.RegisterSchemaRequest(subject="orders", schema_type="string")
    await parted.call(f"{REGISTRY}/RegisterSchema", register, schemas.RegisterSchemaResponse)
    configure = schemas.ConfigureTopicSchemaRequest(
        topic_name=BASE, schema_subject="orders", validation_policy="enforce"
    )
    await parted.call(f"{REGISTRY}/ConfigureTopicSchema", configure, schemas.ConfigureTopicSchemaResponse)
    grown = platform_pb.GrowTopicRequest(topic=BASE, partitions=4)
    await parted.call(GROW, grown, platform_pb.GrowTopicResponse)
    for name in (BASE, part(0), part(3)):
        asked = schemas.GetTopicSchemaConfigRequest(topic_name=name)
        found = await parted.call(
            f"{REGISTRY}/GetTopicSchemaConfig", asked, schemas.GetTopicSchemaConfigResponse
        )
        assert (found.schema_subject, found.validation_policy) == ("orders", "enforce")


async def test_a_namespace_with_a_partitioned_topic_is_not_deleted(parted: Admin) -> None:
    await parted.call(f"{NAMESPACE}/CreateNamespace", pb.NamespaceRequest(name="shop"), pb.NamespaceResponse)
    request = pb.PartitionedTopicRequest(base_name="/shop/p", partitions=1)
    await parted.call(f"{TOPIC}/CreatePartitionedTopic", request, pb.TopicResponse)
    status = await parted.refused(f"{NAMESPACE}/DeleteNamespace", pb.NamespaceRequest(name="shop"))
    assert "still has topics" in status.message
    await parted.call(f"{TOPIC}/DeleteTopic", pb.TopicRequest(name="/shop/p"), pb.TopicResponse)
    await parted.call(f"{NAMESPACE}/DeleteNamespace", pb.NamespaceRequest(name="shop"), pb.NamespaceResponse)


async def test_added_partitions_have_the_subscriptions_with_what_was_set_for_them(parted: Admin) -> None:
    policy = FailurePolicy(max_redelivery_count=7)
    for number in range(3):
        parted.owner.subscriptions[part(number)] = ["s"]
        parted.owner.failure_policies[part(number), "s"] = policy
        parted.owner.unacked_bounds[part(number), "s"] = 4
    grown = platform_pb.GrowTopicRequest(topic=BASE, partitions=5)
    await parted.call(GROW, grown, platform_pb.GrowTopicResponse)
    for number in (3, 4):
        assert parted.owner.subscriptions[part(number)] == ["s"]
        assert parted.owner.failure_policies[part(number), "s"] == policy
        assert parted.owner.unacked_bounds[part(number), "s"] == 4


async def test_a_dispatch_config_is_set_for_every_partition_and_told(parted: Admin) -> None:
    for number in range(3):
        parted.owner.subscriptions[part(number)] = ["s"]
    asked = pb.SubscriptionRequest(topic=BASE, subscription="s")
    get = f"{TOPIC}/GetSubscriptionDispatchConfig"
    told = await parted.call(get, asked, pb.GetSubscriptionDispatchConfigResponse)
    assert not told.HasField("dispatch_config")
    request = pb.SetSubscriptionDispatchConfigRequest(
        topic=BASE, subscription="s", dispatch_config=pb.SubscriptionDispatchConfig(max_unacked_messages=5)
    )
    await parted.call(f"{TOPIC}/SetSubscriptionDispatchConfig", request, pb.SubscriptionResponse)
    assert parted.owner.unacked_bounds == {(part(number), "s"): 5 for number in range(3)}
    told = await parted.call(get, asked, pb.GetSubscriptionDispatchConfigResponse)
    assert told.dispatch_config.max_unacked_messages == 5
    for topic, name, code in (
        (BASE, "unknown", StatusCode.NOT_FOUND),
        ("/default/nothing", "s", StatusCode.NOT_FOUND),
        ("nothing", "s", StatusCode.INVALID_ARGUMENT),
    ):
        asked = pb.SubscriptionRequest(topic=topic, subscription=name)
        assert (await parted.refused(get, asked)).code is code
