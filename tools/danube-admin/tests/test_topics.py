from __future__ import annotations

import json
from typing import Any

import grpc
import pytest

from danube_proto import danube_admin_pb2 as wire
from danube_proto import danube_platform_pb2 as platform

SERVICE = "/danube_admin.TopicAdmin"
CREATE = f"{SERVICE}/CreateTopic"
CREATE_PARTITIONS = "/danube_platform.PartitionAdmin/CreatePartitions"


def test_a_topic_can_be_created_with_the_defaults(service: Any, cli: Any) -> None:
    service.answers[CREATE] = wire.TopicResponse(success=True)
    ended = cli("topics", "create", "/default/t")
    assert (ended.code, ended.out, ended.err) == (0, "Topic Created: true\n", "")
    assert service.requests == [
        (
            CREATE,
            wire.NewTopicRequest(
                name="/default/t",
                schema_type="String",
                schema_data="{}",
                dispatch_strategy="reliable:retention=ack",
            ),
        )
    ]


@pytest.mark.parametrize(
    ("arguments", "strategy"),
    [
        (("non-reliable",), "non-reliable"),
        (("Non_Reliable",), "non-reliable"),
        (("reliable",), "reliable:retention=ack"),
        (("reliable", "--storage", "s3"), "reliable:storage=s3,retention=ack"),
        (("reliable", "--retention-period", "60"), "reliable:retention_period=60,retention=expire"),
        (("reliable:retention=expire",), "reliable:retention=expire"),
        (("reliable:segment_size=5", "--retention", "ack"), "reliable:segment_size=5,retention=ack"),
        (
            (
                *("reliable", "--segment-size", "20", "--storage", "disk"),
                *("--retention", "expire", "--retention-period", "3600"),
            ),
            "reliable:segment_size=20,storage=disk,retention=expire,retention_period=3600",
        ),
    ],
)
def test_a_strategy_travels_as_one_string(
    service: Any, cli: Any, arguments: tuple[str, ...], strategy: str
) -> None:
    service.answers[CREATE] = wire.TopicResponse(success=True)
    assert cli("topics", "create", "/default/t", "--dispatch-strategy", *arguments).code == 0
    assert service.requests[0][1].dispatch_strategy == strategy


def test_the_short_flags_are_the_schema_s(service: Any, cli: Any) -> None:
    service.answers[CREATE] = wire.TopicResponse(success=True)
    schema = '{"type": "object"}'
    assert cli("topics", "create", "/default/t", "-s", "JSON", "-d", schema).code == 0
    assert (service.requests[0][1].schema_type, service.requests[0][1].schema_data) == ("JSON", schema)


def test_partitions_are_created_a_thousand_at_a_time(service: Any, cli: Any) -> None:
    service.answers[CREATE_PARTITIONS] = platform.CreatePartitionsResponse(success=True)
    ended = cli("topics", "create-partitioned", "/default/t", "2500", "--dispatch-strategy", "reliable")
    assert (ended.code, ended.out) == (0, "Topic Created: true\n" * 2500)
    asked = [request for _, request in service.requests]
    assert [(one.first, one.partitions) for one in asked] == [(0, 1000), (1000, 1000), (2000, 500)]
    assert {(one.topic, one.schema_type, one.dispatch_strategy) for one in asked} == {
        ("/default/t", "String", "reliable:retention=ack")
    }


def test_the_first_partitions_that_fail_are_the_last_tried(service: Any, cli: Any) -> None:
    service.answers[CREATE_PARTITIONS] = (grpc.StatusCode.NOT_FOUND, "no such namespace")
    ended = cli("topics", "create-partitioned", "/none/t", "3000")
    assert (ended.code, ended.out, ended.err) == (1, "", "Error: no such namespace\n")
    assert len(service.requests) == 1


def test_deleting_and_unsubscribing_say_what_they_did(service: Any, cli: Any) -> None:
    service.answers[f"{SERVICE}/DeleteTopic"] = wire.TopicResponse(success=True)
    service.answers[f"{SERVICE}/Unsubscribe"] = wire.SubscriptionResponse(success=True)
    assert cli("topics", "delete", "/default/t", "--yes").out == "Topic Deleted: true\n"
    assert cli("topics", "unsubscribe", "/default/t", "-s", "sub", "--yes").out == "Unsubscribed: true\n"
    assert [request for _, request in service.requests] == [
        wire.TopicRequest(name="/default/t"),
        wire.SubscriptionRequest(topic="/default/t", subscription="sub"),
    ]


def test_lists(service: Any, cli: Any) -> None:
    service.answers[f"{SERVICE}/ListTopics"] = wire.TopicListResponse(topics=["/default/a"])
    service.answers[f"{SERVICE}/ListSubscriptions"] = wire.SubscriptionListResponse(subscriptions=["a", "ü"])
    assert cli("topics", "list", "default").out == "Topic: /default/a\n"
    assert cli("topics", "subscriptions", "/default/a").out == 'Subscriptions: ["a", "ü"]\n'
    assert json.loads(cli("topics", "list", "default", "-o", "json").out) == ["/default/a"]
    assert json.loads(cli("topics", "subscriptions", "/default/a", "-o", "json").out) == ["a", "ü"]


@pytest.mark.parametrize(
    ("method", "command"),
    [
        (f"{SERVICE}/ListTopics", "topics list depot"),
        ("/danube_admin.NamespaceAdmin/GetNamespaceTopics", "namespaces topics depot"),
        (f"{SERVICE}/ListSubscriptions", "topics subscriptions /depot/a"),
    ],
)
def test_what_is_empty_is_told_from_what_is_missing(
    service: Any, cli: Any, method: str, command: str
) -> None:
    service.answers[method] = (
        wire.SubscriptionListResponse() if "Subscriptions" in method else wire.TopicListResponse()
    )
    ended = cli(*command.split(), "-o", "json")
    assert (ended.code, ended.out, ended.err) == (0, "[]\n", "")
    service.answers[method] = (grpc.StatusCode.NOT_FOUND, "depot does not exist")
    ended = cli(*command.split())
    assert (ended.code, ended.out, ended.err) == (1, "", "Error: depot does not exist\n")


def test_policies_of_a_topic_are_shown_and_set(service: Any, cli: Any) -> None:
    answer = platform.PoliciesResponse(policies='{"max_dispatch_rate": 5}')
    service.answers["/danube_platform.PolicyAdmin/GetTopicPolicies"] = answer
    service.answers["/danube_platform.PolicyAdmin/SetTopicPolicies"] = answer
    shown = cli("topics", "policies", "/default/t")
    set_to = cli("topics", "set-policies", "/default/t", "--max-dispatch-rate", "5")
    assert shown.out == set_to.out
    assert "The dispatch rate: 5\n" in shown.out
    assert [request for _, request in service.requests] == [
        platform.GetTopicPoliciesRequest(topic="/default/t"),
        platform.SetTopicPoliciesRequest(topic="/default/t", policies=platform.Policies(max_dispatch_rate=5)),
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        ("create", "my-topic"),
        ("create", "default/a/b"),
        ("create", "/default/"),
        ("create", "/default/a.b"),
        ("create", "/default/a/b"),
        ("create", "/default/t", "-s", "avro"),
        ("create", "/default/t", "-s", "json", "-d", "{"),
        ("create", "/default/t", "-d", "{}"),
        ("create", "/default/t", "-s", "Bytes", "-d", "{}"),
        ("create", "/default/t", "--schema-subject", "orders", "-s", "JSON"),
        ("create", "/default/t", "--schema-subject", "orders", "-d", "{}"),
        ("create", "/default/t", "--dispatch-strategy", "sometimes"),
        ("create", "/default/t", "--dispatch-strategy", "non-reliable:storage=disk"),
        ("create", "/default/t", "--dispatch-strategy", "non-reliable", "--storage", "disk"),
        ("create-partitioned", "/default/t", "0"),
        ("create-partitioned", "/default/t", "x"),
        ("unsubscribe", "/default/t"),
        ("delete", "t"),
        ("set-policies", "/default/t"),
    ],
)
def test_wrong_usage_is_told_before_anything_is_asked(
    service: Any, cli: Any, arguments: tuple[str, ...]
) -> None:
    ended = cli("topics", *arguments)
    assert ended.code == 2
    assert "Error: " in ended.err.splitlines()[-1]
    assert not service.requests
