"""The pages of one topic and of one subscription."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Final

import msgspec

from danube_admin_service.console import calls
from danube_admin_service.console.actions import offered
from danube_admin_service.console.history import charts
from danube_admin_service.console.policy_rows import PolicyRow, policy_rows
from danube_admin_service.console.reset_preview import Preview, preview
from danube_admin_service.console.scrape import Lag
from danube_admin_service.console.sources import Query, Sources
from danube_admin_service.console.subscription_actions import POISON_POLICIES
from danube_admin_service.console.timeline import Timeline, timeline
from danube_admin_service.console.visitor import Visitor
from danube_common.errors import DanubeError
from danube_common.model.names import TopicName
from danube_proto import danube_admin_pb2 as admin
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


async def subscription(visitor: Visitor, sources: Sources, query: Query) -> dict[str, object]:
    """One subscription, in each partition that has it."""
    topic_name, name = query.get("topic", ""), query.get("name", "")
    asked = platform.DescribeTopicRequest(topic=topic_name)
    described = (await visitor.ask(calls.DESCRIBE, asked, platform.DescribeTopicResponse)).topics
    found = [(one, each) for one in described for each in one.subscriptions if each.name == name]
    lags = {one.topic: sources.activity.lags.get((one.topic, name), Lag()) for one, _ in found}
    policy = None
    request = admin.SubscriptionRequest(topic=topic_name, subscription=name)
    if found and found[0][0].reliable:
        policy = await visitor.ask(calls.FAILURE_POLICY, request, admin.GetSubscriptionFailurePolicyResponse)
    return {
        "topic": topic_name,
        "name": name,
        "found": found,
        "lags": lags,
        "policy": policy.failure_policy if policy is not None else None,
        "poison": next(
            (
                name
                for name, value in POISON_POLICIES.items()
                if policy and value == policy.failure_policy.poison_policy
            ),
            "",
        ),
        "backlog": sum(each.backlog for _, each in found),
        "exact": all(each.backlog_exact for _, each in found),
        "age_s": max((lag.age_s for lag in lags.values()), default=0.0),
        "consumers": len({consumer for _, each in found for consumer in each.consumers}),
        "preview": await _preview(visitor, sources, query, found),
    }


async def _preview(
    visitor: Visitor,
    sources: Sources,
    query: Query,
    found: Sequence[tuple[platform.TopicDescription, platform.SubscriptionDescription]],
) -> Preview | None:
    if not offered(visitor, "reset-subscription", topic=query.get("topic", "")):
        return None
    cursors = [(one.topic, each.mark_delete) for one, each in found if one.reliable]
    return await preview(sources, query, cursors)
