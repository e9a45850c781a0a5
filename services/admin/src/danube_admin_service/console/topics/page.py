"""The page of one topic."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Final

import msgspec

from danube_admin_service.console.access import calls
from danube_admin_service.console.access.visitor import Visitor
from danube_admin_service.console.live.history import charts
from danube_admin_service.console.live.scrape import Lag
from danube_admin_service.console.sources import Query, Sources
from danube_admin_service.console.topics.policy_rows import PolicyRow, policy_rows
from danube_admin_service.console.topics.timeline import Timeline, timeline
from danube_common.errors import DanubeError
from danube_common.model.names import TopicName
from danube_proto import danube_platform_pb2 as platform
from danube_proto import danube_schema_pb2 as schema
from danube_proto import danube_stream_pb2 as stream

SEGMENTS_SHOWN_MAX: Final = 500
TIMELINES_MAX: Final = 8
"""Partitions that are drawn; the others are in the table."""


async def topic(visitor: Visitor, sources: Sources, query: Query) -> dict[str, object]:
    """One topic, or all partitions of one."""
    name = query.get("name", "")
    asked = platform.DescribeTopicRequest(topic=name)
    described = (await visitor.ask(calls.DESCRIBE, asked, platform.DescribeTopicResponse)).topics
    names = [one.topic for one in described]
    lags: defaultdict[tuple[str, str], Lag] = defaultdict(Lag, sources.activity.lags)
    segments = await _segments(visitor, name)
    first = described[0]
    return {
        "name": name,
        "base": str(_base(first.topic)),
        "topics": described,
        "first": first,
        "partitioned": names != [name],
        "rate": sources.activity.rate_of(names),
        "backlog": sum(each.backlog for one in described for each in one.subscriptions),
        "lags": lags,
        "producers": sorted({each for one in described for each in one.producers}),
        "consumers": sum(len(each.consumers) for one in described for each in one.subscriptions),
        "subscriptions": sorted({each.name for one in described for each in one.subscriptions}),
        "policies": await _policies(sources, name, first.policies),
        "subject": await _subject(visitor, first.topic),
        "may_peek": visitor.may(calls.READ, stream.ReadRequest(topic=name)),
        "segments": segments[-SEGMENTS_SHOWN_MAX:],
        "segments_total": len(segments),
        "timelines": _timelines(described, segments, lags),
        **await charts(sources, names),
    }


def _base(topic: str) -> TopicName:
    name = TopicName.parse(topic)
    return name.partition_of or name


def _timelines(
    topics: Sequence[platform.TopicDescription],
    segments: Sequence[platform.Segment],
    lags: defaultdict[tuple[str, str], Lag],
) -> list[Timeline]:
    now_ms = time.time_ns() // 1_000_000
    drawn = [
        timeline(one, [each for each in segments if each.topic == one.topic], lags, now_ms)
        for one in topics[:TIMELINES_MAX]
    ]
    return [one for one in drawn if one is not None]


async def _policies(sources: Sources, name: str, in_force: str) -> list[PolicyRow]:
    try:
        namespace, own = await sources.topics.policies(TopicName.parse(name))
    except DanubeError:  # deleted at this moment
        return []
    levels = (("this topic", msgspec.structs.asdict(own)), ("namespace", msgspec.structs.asdict(namespace)))
    return policy_rows(in_force, levels)


async def _subject(visitor: Visitor, name: str) -> schema.GetTopicSchemaConfigResponse | None:
    asked = schema.GetTopicSchemaConfigRequest(topic_name=name)
    if not visitor.may(calls.SUBJECT, asked):
        return None
    found = await visitor.ask(calls.SUBJECT, asked, schema.GetTopicSchemaConfigResponse)
    return found if found.schema_subject else None


async def _segments(visitor: Visitor, name: str) -> list[platform.Segment]:
    """The segments of the topic that are kept, oldest first."""
    asked = platform.DescribeTopicRequest(topic=name)
    listed = await visitor.ask(calls.SEGMENTS, asked, platform.ListSegmentsResponse)
    return [one for one in listed.segments if not one.delete_after_ms]
