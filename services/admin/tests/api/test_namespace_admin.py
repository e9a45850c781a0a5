from __future__ import annotations

import json

import pytest
from services.admin.tests.api.admin_port import BROKER, NAMESPACE, POLICY, TOPIC, Admin, error_message

from danube_common.cluster import keys
from danube_common.cluster.namespaces import Namespaces
from danube_common.cluster.records import encode_record
from danube_common.model.policies import Policies
from danube_common.rpc.port import StatusCode
from danube_proto import danube_admin_pb2 as pb
from danube_proto import danube_platform_pb2 as platform_pb
from danube_proto.danube_api_pb2 import (
    UNKNOWN_ERROR,
    ErrorMessage,
)


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


async def test_the_topics_of_an_unknown_namespace_are_not_found(admin: Admin) -> None:
    status = await admin.refused(f"{TOPIC}/ListTopics", pb.NamespaceRequest(name="nowhere"))
    assert (status.code, status.message) == (StatusCode.NOT_FOUND, "namespace 'nowhere' does not exist")


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
        ("max_message_size", 4_000_000),
    ]
