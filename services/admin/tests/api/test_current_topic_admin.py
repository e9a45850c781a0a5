from __future__ import annotations

import pytest
from services.admin.tests.api.admin_port import TOPIC, Admin

from danube_admin_service.api.current_topic_admin import is_current
from danube_common.model.schema import UNCHOSEN_SCHEMA
from danube_common.model.strategy import Retention
from danube_common.rpc.port import StatusCode
from danube_proto import danube_admin_pb2 as pb
from danube_proto import danube_schema_pb2 as schemas

REGISTER = "/danube_schema.SchemaRegistry/RegisterSchema"


@pytest.mark.parametrize(
    ("request_", "current"),
    [
        (pb.NewTopicRequest(name="/default/a", schema_type="String", schema_data="{}"), False),
        (pb.NewTopicRequest(name="/default/a", dispatch_strategy="reliable"), False),
        (pb.NewTopicRequest(name="/default/a", schema_type="JSON"), False),
        (pb.NewTopicRequestCurrent(name="/default/a"), True),
        (pb.NewTopicRequestCurrent(name="/default/a", schema_subject="orders"), True),
        (pb.NewTopicRequestCurrent(name="/default/a", dispatch_strategy=pb.Reliable), True),
        (
            pb.NewTopicRequestCurrent(
                name="/default/a", schema_subject="json", dispatch_strategy=pb.Reliable
            ),
            True,
        ),
    ],
)
def test_the_generation_of_create_topic_is_told_by_its_bytes(
    request_: pb.NewTopicRequest | pb.NewTopicRequestCurrent, current: bool
) -> None:
    assert is_current(request_.SerializeToString()) is current


async def test_a_topic_of_the_current_generation_is_kept_until_acknowledged(admin: Admin) -> None:
    request = pb.NewTopicRequestCurrent(name="/default/a", dispatch_strategy=pb.Reliable)
    assert (await admin.call(f"{TOPIC}/CreateTopic", request, pb.TopicResponse)).success
    topic = await admin.topic("/default/a")
    assert topic.schema == UNCHOSEN_SCHEMA
    assert topic.strategy.reliable is not None
    assert topic.strategy.reliable.retention is Retention.UNTIL_ACK
    refusal = await admin.refused(f"{TOPIC}/CreateTopic", request)
    assert refusal.code is StatusCode.ALREADY_EXISTS


async def test_a_subject_that_does_not_exist_creates_no_topic(admin: Admin) -> None:
    request = pb.NewTopicRequestCurrent(name="/default/a", schema_subject="orders")
    refusal = await admin.refused(f"{TOPIC}/CreateTopic", request)
    assert refusal.code is StatusCode.NOT_FOUND
    assert "orders" in refusal.message


async def test_partitions_are_created_and_described_with_their_subject(admin: Admin) -> None:
    register = schemas.RegisterSchemaRequest(subject="orders", schema_type="string")
    registered = await admin.call(REGISTER, register, schemas.RegisterSchemaResponse)
    request = pb.PartitionedTopicRequest(base_name="/default/a", partitions=2, schema_subject="orders")
    assert (await admin.call(f"{TOPIC}/CreatePartitionedTopic", request, pb.TopicResponse)).success
    for number in range(2):
        name = f"/default/a-part-{number}"
        described = await admin.call(
            f"{TOPIC}/DescribeTopic", pb.TopicRequest(name=name), pb.DescribeTopicResponse
        )
        assert (described.name, described.delivery) == (name, "NonReliable")
        assert (described.schema_subject, described.schema_id) == ("orders", registered.schema_id)
        assert (described.schema_version, described.schema_type) == (1, "string")
        assert described.compatibility_mode == "BACKWARD"
    refusal = await admin.refused(f"{TOPIC}/CreatePartitionedTopic", request)
    assert refusal.code is StatusCode.ALREADY_EXISTS


@pytest.mark.parametrize("partitions", [0, 1001])
async def test_a_number_of_partitions_out_of_range_is_refused(admin: Admin, partitions: int) -> None:
    request = pb.PartitionedTopicRequest(base_name="/default/a", partitions=partitions)
    refusal = await admin.refused(f"{TOPIC}/CreatePartitionedTopic", request)
    assert refusal.code is StatusCode.INVALID_ARGUMENT


async def test_topics_of_a_namespace_are_listed_with_their_delivery(admin: Admin) -> None:
    await admin.create_topic("/default/a")
    await admin.create_topic("/default/b", dispatch_strategy="reliable")
    listed = await admin.call(
        f"{TOPIC}/ListNamespaceTopics", pb.NamespaceRequest(name="default"), pb.TopicInfoListResponse
    )
    found = {one.name: one.delivery for one in listed.topics}
    assert found == {"/default/a": "NonReliable", "/default/b": "Reliable"}


async def test_what_is_not_known_is_an_error_and_no_empty_list(admin: Admin) -> None:
    for method, request in (
        ("ListNamespaceTopics", pb.NamespaceRequest(name="nowhere")),
        ("ListBrokerTopics", pb.BrokerRequest(broker_id="7")),
        ("DescribeTopic", pb.TopicRequest(name="/default/nothing")),
    ):
        assert (await admin.refused(f"{TOPIC}/{method}", request)).code is StatusCode.NOT_FOUND
