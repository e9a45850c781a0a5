from __future__ import annotations

import pytest
from google.protobuf.message import Message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from services.admin.tests.api.admin_port import (
    BROKER,
    CLUSTER,
    DETAILS,
    GROW,
    LIST_PARTITIONED,
    NAMESPACE,
    PARTITIONS,
    POLICY,
    TOPIC,
    Admin,
    error_message,
)

from danube_common.cluster import keys
from danube_common.errors import ERROR_CHARACTERS_MAX
from danube_common.rpc.port import RpcError, StatusCode
from danube_proto import danube_admin_pb2 as pb
from danube_proto import danube_platform_pb2 as platform_pb
from danube_proto import danube_schema_pb2 as schema_pb
from danube_proto.danube_api_pb2 import (
    SERVICE_NOT_READY,
    UNKNOWN_ERROR,
)

REGISTRY = "/danube_schema.SchemaRegistry"
SECURITY = "/danube_admin.SecurityAdmin"
API_KEYS = "/danube_platform.ApiKeys"
SOUND: dict[str, Message] = {
    f"{BROKER}/ListBrokers": pb.Empty(),
    f"{BROKER}/GetLeaderBroker": pb.Empty(),
    f"{BROKER}/ListNamespaces": pb.Empty(),
    "/danube_platform.Instances/ListInstances": platform_pb.ListInstancesRequest(),
    f"{NAMESPACE}/GetNamespaceTopics": pb.NamespaceRequest(name="default"),
    f"{NAMESPACE}/GetNamespacePolicies": pb.NamespaceRequest(name="default"),
    f"{NAMESPACE}/CreateNamespace": pb.NamespaceRequest(name="shop"),
    f"{NAMESPACE}/DeleteNamespace": pb.NamespaceRequest(name="shop"),
    f"{TOPIC}/ListTopics": pb.NamespaceRequest(name="default"),
    f"{TOPIC}/CreateTopic": pb.NewTopicRequest(
        name="/default/a", schema_type="json", schema_data="{}", dispatch_strategy="reliable"
    ),
    f"{TOPIC}/ListNamespaceTopics": pb.NamespaceRequest(name="default"),
    f"{TOPIC}/CreatePartitionedTopic": pb.PartitionedTopicRequest(base_name="/default/q", partitions=2),
    f"{TOPIC}/DescribeTopic": pb.TopicRequest(name="/default/a"),
    f"{TOPIC}/DeleteTopic": pb.TopicRequest(name="/default/a"),
    f"{TOPIC}/ListSubscriptions": pb.TopicRequest(name="/default/a"),
    f"{TOPIC}/Unsubscribe": pb.SubscriptionRequest(topic="/default/a", subscription="s"),
    f"{TOPIC}/SetSubscriptionFailurePolicy": pb.SetSubscriptionFailurePolicyRequest(
        topic="/default/a",
        subscription="s",
        failure_policy=pb.SubscriptionFailurePolicy(poison_policy=pb.Block),
    ),
    f"{TOPIC}/SetSubscriptionDispatchConfig": pb.SetSubscriptionDispatchConfigRequest(
        topic="/default/a",
        subscription="s",
        dispatch_config=pb.SubscriptionDispatchConfig(max_unacked_messages=5),
    ),
    f"{TOPIC}/GetSubscriptionDispatchConfig": pb.SubscriptionRequest(topic="/default/a", subscription="s"),
    f"{CLUSTER}/ClusterStatus": pb.Empty(),
    f"{CLUSTER}/AddNode": pb.AddNodeRequest(addr="http://127.0.0.1:50051"),
    f"{TOPIC}/GetSubscriptionFailurePolicy": pb.SubscriptionRequest(topic="/default/a", subscription="s"),
    PARTITIONS: platform_pb.CreatePartitionsRequest(topic="/default/p", partitions=2, schema_type="bytes"),
    GROW: platform_pb.GrowTopicRequest(topic="/default/p", partitions=3),
    LIST_PARTITIONED: platform_pb.ListPartitionedTopicsRequest(namespace="default"),
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
    f"{REGISTRY}/RegisterSchema": schema_pb.RegisterSchemaRequest(subject="s", schema_type="string"),
    f"{REGISTRY}/GetLatestSchema": schema_pb.GetLatestSchemaRequest(subject="s"),
    f"{REGISTRY}/ListVersions": schema_pb.ListVersionsRequest(subject="s"),
    f"{REGISTRY}/CheckCompatibility": schema_pb.CheckCompatibilityRequest(subject="s", schema_type="string"),
    f"{REGISTRY}/DeleteSchemaVersion": schema_pb.DeleteSchemaVersionRequest(subject="s", version=1),
    f"{REGISTRY}/SetCompatibilityMode": schema_pb.SetCompatibilityModeRequest(
        subject="s", compatibility_mode="full"
    ),
    f"{REGISTRY}/ConfigureTopicSchema": schema_pb.ConfigureTopicSchemaRequest(
        topic_name="/default/a", schema_subject="s", validation_policy="warn"
    ),
    f"{REGISTRY}/UpdateTopicValidationPolicy": schema_pb.UpdateTopicValidationPolicyRequest(
        topic_name="/default/a", validation_policy="warn"
    ),
    f"{REGISTRY}/GetTopicSchemaConfig": schema_pb.GetTopicSchemaConfigRequest(topic_name="/default/a"),
    f"{REGISTRY}/ListSubjects": schema_pb.ListSubjectsRequest(),
    f"{SECURITY}/CreateRole": pb.CreateRoleRequest(role=pb.RoleDefinition(name="r", permissions=["Lookup"])),
    f"{SECURITY}/GetRole": pb.RoleRequest(name="r"),
    f"{SECURITY}/ListRoles": pb.Empty(),
    f"{SECURITY}/DeleteRole": pb.RoleRequest(name="r"),
    f"{SECURITY}/CreateBinding": pb.CreateBindingRequest(
        binding=pb.BindingDefinition(
            id="b",
            principal_type="user",
            principal_name="alice",
            role_names=["viewer"],
            scope="topic",
            resource_name="/default/a",
        )
    ),
    f"{SECURITY}/GetBinding": pb.BindingRequest(scope="topic", resource_name="/default/a", binding_id="b"),
    f"{SECURITY}/ListBindings": pb.ListBindingsRequest(scope="cluster"),
    f"{SECURITY}/ListAllBindings": pb.Empty(),
    f"{SECURITY}/DeleteBinding": pb.BindingRequest(scope="topic", resource_name="/default/a", binding_id="b"),
    f"{API_KEYS}/CreateKey": platform_pb.CreateKeyRequest(principal_type="user", principal_name="alice"),
    f"{API_KEYS}/ListKeys": platform_pb.ListKeysRequest(),
    f"{API_KEYS}/RevokeKey": platform_pb.RevokeKeyRequest(key_id="0123456789abcdef"),
}
"""One request that every method understands, of those that ask the store."""
FROM_THE_VIEW = {
    f"{BROKER}/UnloadBroker",
    f"{BROKER}/ActivateBroker",
    f"{BROKER}/GetClusterBalance",
    f"{BROKER}/TriggerRebalance",
    f"{TOPIC}/UnloadTopic",
    f"{TOPIC}/ListBrokerTopics",
    "/danube_platform.LoadAdmin/ListBrokerLoads",
}
"""What moves load: see test_load_admin."""
REFUSALS = {
    StatusCode.ALREADY_EXISTS,
    StatusCode.FAILED_PRECONDITION,
    StatusCode.INVALID_ARGUMENT,
    StatusCode.NOT_FOUND,
}
"""What wrong requests, and right ones at the wrong time, are answered with."""
BY_NUMBER = {f"{REGISTRY}/GetSchema", f"{CLUSTER}/PromoteNode", f"{CLUSTER}/RemoveNode"}
"""What is asked by a number, so that other bytes are sound requests too: see the conformance tests."""


async def test_every_method_of_the_contract_is_served(admin: Admin) -> None:
    files = (pb.DESCRIPTOR, platform_pb.DESCRIPTOR, schema_pb.DESCRIPTOR)
    services = [service for file in files for service in file.services_by_name.values()]
    declared = {
        f"/{service.full_name}/{method.name}"
        for service in services
        if service.name not in ("Subscriptions", "Topics")  # the gateways serve them
        for method in service.methods
    }
    assert set(admin.methods.unary) == declared == set(SOUND) | FROM_THE_VIEW | BY_NUMBER


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
        without_fields = not type(SOUND[method]).DESCRIPTOR.fields
        if without_fields and data in (b"\x08\x01", b"\x0a\x02\xff\xfe"):
            continue  # these may be fields of a later generation
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


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=200)
@given(data=st.one_of(st.binary(max_size=60), damaged()))
async def test_any_bytes_get_an_answer_or_a_status_that_changed_nothing(admin: Admin, data: bytes) -> None:
    for method in SOUND:
        before = admin.contents()
        outcome = await admin.attempt(method, data)
        if isinstance(outcome, RpcError):
            assert outcome.code in REFUSALS
            assert error_message(outcome).error_message == outcome.message
            assert admin.contents() == before
