from __future__ import annotations

import json
from collections import Counter
from typing import Any

from danube_admin_cli.top import Counts, counts_of, rows_of
from danube_proto import danube_admin_pb2 as admin
from danube_proto import danube_platform_pb2 as platform

METRICS = """# HELP danube_topic_msg_in_counter Messages accepted.
danube_topic_msg_in_counter{instance="1",topic="/a/b",producer="p}"} 7.0
danube_topic_msg_in_counter{topic="/a/b",producer="q"} 3.0
danube_topic_msg_in_counter_created{topic="/a/b"} 1.7e9
danube_consumer_msg_out_counter{topic="/a/c",consumer="1"} 1e+01
"""


def described(name: str, *backlogs: int, **changed: Any) -> platform.TopicDescription:
    subscriptions = [
        platform.SubscriptionDescription(name=f"s{number}", type="shared", backlog=backlog, **changed)
        for number, backlog in enumerate(backlogs)
    ]
    return platform.TopicDescription(topic=name, subscriptions=subscriptions)


def test_messages_are_counted_by_topic_over_all_gateways() -> None:
    received, sent = counts_of([METRICS, METRICS])
    assert received == {"/a/b": 20}
    assert sent == {"/a/c": 20}


def test_rates_are_the_growth_in_a_second_and_never_negative() -> None:
    before = Counts(10.0, Counter({"/a/b": 10, "/a/c": 9}), Counter(), complete=True)
    now = Counts(12.0, Counter({"/a/b": 20, "/a/c": 0}), Counter({"/a/b": 4}), complete=True)
    assert now.rates_since(before) == ({"/a/b": 5.0, "/a/c": 0.0}, {"/a/b": 2.0})


def test_the_largest_lag_comes_first_and_a_topic_without_subscriptions_has_a_line() -> None:
    rows = rows_of(
        [described("/a/b", 1, 9), described("/a/c", 5, blocked="poison"), described("/a/d")],
        {"/a/d": 3.25},
        {},
        counted=True,
    )
    assert [(row.topic, row.subscription, row.backlog) for row in rows] == [
        ("/a/b", "s1", 9),
        ("/a/c", "s0", 5),
        ("/a/b", "s0", 1),
        ("/a/d", "", 0),
    ]
    assert rows[1].note == "poison"
    assert rows[3].in_per_s == 3.2
    assert rows_of([described("/a/b")], {}, {}, counted=False)[0].in_per_s is None


def test_once_prints_one_screen_and_a_topic_that_was_deleted_meanwhile_is_left_out(
    service: Any, cli: Any
) -> None:
    service.answers["/danube_platform.Instances/ListInstances"] = platform.ListInstancesResponse()
    service.answers["/danube_admin.NamespaceAdmin/GetNamespaceTopics"] = admin.TopicListResponse(
        topics=["/a/b", "/a/gone"]
    )
    service.series["/danube_platform.TopicDetails/DescribeTopic"] = [
        platform.DescribeTopicResponse(topics=[described("/a/b", 4)])
    ]
    service.answers["/danube_platform.TopicDetails/DescribeTopic"] = platform.DescribeTopicResponse()
    ended = cli("top", "--once", "--interval", "0.5", "--namespace", "a", "-o", "json")
    assert ended.code == 0, ended.err
    told = json.loads(ended.out)
    assert told["topics"] == 2
    assert [(row["topic"], row["backlog"]) for row in told["rows"]] == [("/a/b", 4)]
