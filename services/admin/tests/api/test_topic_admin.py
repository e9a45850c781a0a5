from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from services.admin.tests.api.admin_port import (
    LAYOUT,
    NOW_MS,
    PARTITIONS,
    TOPIC,
    Admin,
    error_message,
)

from danube_common.cluster import keys
from danube_common.model.schema import SchemaKind
from danube_common.model.strategy import ReliableOptions, StorageBackend, Strategy
from danube_common.rpc.port import StatusCode
from danube_proto import danube_admin_pb2 as pb
from danube_proto import danube_platform_pb2 as platform_pb
from danube_proto.danube_api_pb2 import (
    INVALID_TOPIC_NAME,
    SERVICE_NOT_READY,
    SUBSCRIPTION_NOT_FOUND,
    TOPIC_NOT_FOUND,
    UNKNOWN_ERROR,
)


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
        (
            pb.NewTopicRequest(name="/default/a", schema_type="avro", schema_data="{}"),
            UNKNOWN_ERROR,
            "not a schema type",
        ),
        (pb.NewTopicRequest(name="/default/a", schema_data="{}"), UNKNOWN_ERROR, "not a schema type"),
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
    for name in ("/default/a", "/default/ab", "/default/a-part"):
        await admin.create_topic(name)
    request = pb.TopicRequest(name="/default/a")
    assert (await admin.call(f"{TOPIC}/DeleteTopic", request, pb.TopicResponse)).success
    answer = await admin.call(
        f"{TOPIC}/ListTopics", pb.NamespaceRequest(name="default"), pb.TopicListResponse
    )
    assert list(answer.topics) == ["/default/a-part", "/default/ab"]


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


async def test_the_subscriptions_of_an_unknown_topic_are_not_found(admin: Admin) -> None:
    status = await admin.refused(f"{TOPIC}/ListSubscriptions", pb.TopicRequest(name="/default/a"))
    assert status.code is StatusCode.NOT_FOUND
    assert error_message(status).error_type == TOPIC_NOT_FOUND


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
