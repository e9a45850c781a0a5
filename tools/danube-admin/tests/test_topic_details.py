from __future__ import annotations

import json
from typing import Any

import grpc
import pytest

from danube_proto import danube_admin_pb2 as admin
from danube_proto import danube_platform_pb2 as platform

SERVICE = "/danube_platform.TopicDetails"
DESCRIBE, SEGMENTS, RESET = (
    f"{SERVICE}/{name}" for name in ("DescribeTopic", "ListSegments", "ResetSubscription")
)

BOUND = "/danube_admin.TopicAdmin/DescribeTopic"
DESCRIBED = platform.TopicDescription(
    topic="/default/orders",
    topic_id=77,
    bundle="f2",
    owner="71",
    archiver="81",
    epoch=5,
    schema_type="json",
    schema_data='{\n  "type": "object"\n}',
    reliable=True,
    storage="disk",
    segment_size_mb=20,
    retention="expire",
    retention_period_s=3600,
    policies='{"max_publish_rate": 0, "max_retained_mb": 9}',
    created_ms=0,
    log_first_sequence=4,
    log_last_sequence=9,
    archived_through=3,
    segments=[platform.SegmentTotals(storage="disk", segments=2, messages=1, size_bytes=3 << 20)],
    shared_segments=[platform.SegmentTotals(storage="disk", segments=1, messages=70, size_bytes=1000)],
    oldest_ms=1000,
    newest_ms=61_000,
    quarantined=[platform.QuarantinedSegment(key="f2/k", holder="81", reason="bad entry")],
    deleted=platform.DeletedTotals(segments=1, messages=22, size_bytes=1536),
    producers=["p"],
    subscriptions=[
        platform.SubscriptionDescription(
            name="billing",
            type="shared",
            consumers=["c1", "c2"],
            mark_delete=5,
            backlog=9,
            unacked=3,
            lost=2,
            blocked="quarantined",
        )
    ],
)


def test_a_description_is_read_by_people(service: Any, cli: Any) -> None:
    service.answers[DESCRIBE] = platform.DescribeTopicResponse(topics=[DESCRIBED])
    ended = cli("topics", "describe", "/default/orders")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == (
        "Topic: /default/orders\n"
        "  id               77, bundle f2, created 1970-01-01T00:00:00Z\n"
        "  owner            71, epoch 5\n"
        '  schema           json { "type": "object" }\n'
        "  dispatch         reliable, storage disk, segments of 20 MiB, kept for 3600 s\n"
        "  policies         max_retained_mb 9\n"
        "  producers        p\n"
        "  log              sequences 4 to 9 (bundle f2), archived through 3\n"
        "  archiver         81\n"
        "  segments         disk: 2 segments, 1 message, 3.0 MiB\n"
        "  shared segments  disk: 1 segment, 70 messages, 1000 B\n"
        "  stored           1970-01-01T00:00:01Z to 1970-01-01T00:01:01Z\n"
        "  deleted          1 segment, 22 messages, 1.5 KiB\n"
        "  quarantined      f2/k at 81: bad entry\n"
        "SUBSCRIPTION | TYPE   | CONSUMERS | BACKLOG | UNACKED | LOST | ACKNOWLEDGED THROUGH | BLOCKED\n"
        "billing      | shared | c1,c2     | 9+      | 3       | 2+   | 5                    | quarantined\n"
    )
    assert service.requests == [(DESCRIBE, platform.DescribeTopicRequest(topic="/default/orders"))]


def test_what_holds_a_shared_memory_log_and_what_cannot_be_read_is_said(service: Any, cli: Any) -> None:
    log = platform.MemoryLog(size_bytes=3 << 20, oldest_ms=1000, held_by="/default/slow")
    unreadable = [platform.SegmentTotals(storage="disk", segments=2, messages=1, size_bytes=5)]
    shown = platform.TopicDescription(
        topic="/default/a", bundle="m1", reliable=True, memory_log=log, unreadable_segments=unreadable
    )
    service.answers[DESCRIBE] = platform.DescribeTopicResponse(topics=[shown])
    out = cli("topics", "describe", "/default/a").out
    assert (
        "shared log        3.0 MiB of all topics of bundle m1 since 1970-01-01T00:00:01Z,"
        " held by /default/slow\n" in out
    )
    assert "not readable now  disk: 2 segments, 1 message, 5 B\n" in out


def test_a_description_is_read_by_programs(service: Any, cli: Any) -> None:
    service.answers[DESCRIBE] = platform.DescribeTopicResponse(topics=[DESCRIBED])
    bound = admin.DescribeTopicResponse(
        schema_subject="orders",
        schema_id=3,
        schema_version=2,
        schema_type="avro",
        compatibility_mode="FULL",
        broker_id="71",
    )
    subject = ("schema_subject", "schema_id", "schema_version", "schema_type", "compatibility_mode")
    service.answers[BOUND] = admin.DescribeTopicResponse(broker_id="71")
    told = json.loads(cli("topics", "describe", "/default/orders", "-o", "json").out)
    assert [told[name] for name in subject] == [None, None, None, "json", None]
    service.answers[BOUND] = bound
    told = json.loads(cli("topics", "describe", "/default/orders", "-o", "json").out)
    assert [told[name] for name in subject] == ["orders", 3, 2, "avro", "FULL"]
    assert (told["broker_id"], told["delivery"]) == ("71", "Reliable")
    assert told.keys() > {field.name for field in platform.TopicDescription.DESCRIPTOR.fields}
    assert (told["topic_id"], told["policies"]["max_retained_mb"], told["reliable"]) == (77, 9, True)
    assert told["subscriptions"][0]["consumers"] == ["c1", "c2"]
    assert told["deleted"] == {"segments": 1, "messages": 22, "size_bytes": 1536}
    assert told["shared_deleted"] == {"segments": 0, "messages": 0, "size_bytes": 0}


@pytest.mark.parametrize("partitions", [1, 2])
def test_a_partitioned_topic_is_a_list_for_programs_however_many_partitions_it_has(
    service: Any, cli: Any, partitions: int
) -> None:
    names = [f"/default/p-part-{number}" for number in range(partitions)]
    service.answers[DESCRIBE] = platform.DescribeTopicResponse(
        topics=[platform.TopicDescription(topic=name) for name in names]
    )
    service.answers[BOUND] = admin.DescribeTopicResponse()
    told = json.loads(cli("topics", "describe", "/default/p", "-o", "json").out)
    assert [one["topic"] for one in told] == names


def test_what_is_not_known_or_not_there_is_said(service: Any, cli: Any) -> None:
    service.answers[DESCRIBE] = platform.DescribeTopicResponse(
        topics=[
            platform.TopicDescription(
                topic="/default/a", reliable=True, retention="ack", owner_problem="no owner of bundle f0"
            ),
            platform.TopicDescription(topic="/default/b", policies="{"),
        ]
    )
    out = cli("topics", "describe", "/default/a").out
    assert "owner        none\n" in out
    assert "not known    producers, subscriptions and log: no owner of bundle f0\n" in out
    assert "log          not known (bundle ), archived through 0\n" in out
    assert "kept until acknowledged\n" in out
    assert "quarantined  none\n" in out
    assert "Topic: /default/b\n" in out
    assert "dispatch   non-reliable\n" in out
    assert "policies   no limits\n" in out


def test_segments_are_a_table_or_objects(service: Any, cli: Any) -> None:
    rows = [
        platform.Segment(
            topic="/default/a", key="k1", storage="disk", holders=["7", "8"], messages=5, size_bytes=2048
        ),
        platform.Segment(topic="/default/a", key="k2", storage="s3", shared=True, delete_after_ms=1000),
        platform.Segment(
            topic="/default/a",
            key="k3",
            storage="s3",
            quarantined=[platform.QuarantinedSegment(key="k3", holder="s3", reason="bad")],
        ),
        platform.Segment(
            topic="/default/a", key="k4", storage="disk", holders=["7", "8"], away=["8"], copying=["9"]
        ),
        platform.Segment(topic="/default/a", key="k6", storage="disk", holders=["7"], bound_for="s3"),
        platform.Segment(
            topic="/default/a", key="k5", storage="disk", holders=["8"], away=["8"], unreadable=True
        ),
    ]
    service.answers[SEGMENTS] = platform.ListSegmentsResponse(segments=rows)
    lines = cli("topics", "segments", "/default/a").out.splitlines()
    cells = [[cell.strip() for cell in line.split("|")] for line in lines]
    assert [row[1:7] for row in cells] == [
        ["OF", "STORAGE", "HOLDERS", "STATE", "MESSAGES", "SIZE"],
        ["TOPIC", "disk", "7,8", "retained", "5", "2.0 KiB"],
        ["ALL", "s3", "-", "deleting after 1970-01-01T00:00:01Z", "0", "0 B"],
        ["TOPIC", "s3", "-", "quarantined at s3", "0", "0 B"],
        ["TOPIC", "disk", "7,8", "being copied to 9", "0", "0 B"],
        ["TOPIC", "disk", "7", "waits for s3", "0", "0 B"],
        ["TOPIC", "disk", "8", "NO COPY now, 8 away", "0", "0 B"],
    ]
    told = json.loads(cli("topics", "segments", "/default/a", "-o", "json").out)
    assert [one["key"] for one in told] == ["k1", "k2", "k3", "k4", "k6", "k5"]
    assert told[2]["quarantined"][0]["reason"] == "bad"


@pytest.mark.parametrize(
    ("to", "start"),
    [
        ("earliest", platform.SubscriptionStart()),
        ("-5", platform.SubscriptionStart(kind=platform.SubscriptionStart.LAST, value=5)),
        ("99", platform.SubscriptionStart(kind=platform.SubscriptionStart.POSITION, value=99)),
    ],
)
def test_a_reset_asks_for_the_place_and_tells_it(
    service: Any, cli: Any, to: str, start: platform.SubscriptionStart
) -> None:
    places = [platform.SubscriptionPlace(topic="/default/a", mark_delete=98)]
    service.answers[RESET] = platform.ResetSubscriptionResponse(places=places)
    ended = cli("subscriptions", "reset", "/default/a", "billing", "--to", to, "--yes")
    assert (ended.code, ended.out) == (0, "TOPIC      | ACKNOWLEDGED THROUGH\n/default/a | 98\n")
    assert service.requests == [
        (
            RESET,
            platform.ResetSubscriptionRequest(topic="/default/a", subscription="billing", start=start),
        )
    ]
    ended = cli("subscriptions", "reset", "/default/a", "billing", "--to", to, "--yes", "-o", "json")
    assert json.loads(ended.out) == [{"topic": "/default/a", "mark_delete": 98}]


def test_a_place_that_is_none_is_wrong_usage(service: Any, cli: Any) -> None:
    ended = cli("subscriptions", "reset", "/default/a", "billing", "--to", "yesterday")
    assert ended.code == 2
    assert "--to" in ended.err
    assert not service.requests


@pytest.mark.parametrize("command", [("topics", "describe"), ("topics", "segments")])
def test_a_topic_that_does_not_exist_is_one_line(service: Any, cli: Any, command: tuple[str, str]) -> None:
    refused = (grpc.StatusCode.NOT_FOUND, "topic /default/a does not exist")
    service.answers |= {DESCRIBE: refused, SEGMENTS: refused}
    ended = cli(*command, "/default/a")
    assert (ended.code, ended.out, ended.err) == (1, "", "Error: topic /default/a does not exist\n")
