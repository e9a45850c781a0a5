"""The pages of topics: the list, one topic, one subscription."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from danube_admin_service.console import calls
from danube_admin_service.console.actions import offered
from danube_admin_service.console.reset_preview import Preview, preview
from danube_admin_service.console.scrape import Flow, Lag
from danube_admin_service.console.sources import Query, Sources, together
from danube_admin_service.console.visitor import Visitor
from danube_common.errors import DanubeError
from danube_common.model.names import TopicName
from danube_proto import danube_admin_pb2 as admin
from danube_proto import danube_platform_pb2 as platform
from danube_proto import danube_schema_pb2 as schema
from danube_proto import danube_stream_pb2 as stream

ROWS_PER_PAGE: Final = 200
SEGMENTS_SHOWN_MAX: Final = 500


@dataclass(frozen=True)
class TopicRow:
    """A topic, or the partitions of one together (``partitions`` is 0 for a plain topic)."""

    name: str
    reliable: bool
    partitions: int
    owners: tuple[str, ...]
    rate: Flow
    lag: Lag


_ORDERS: Final[dict[str, Callable[[TopicRow], float]]] = {
    "in": lambda row: -row.rate.messages_in,
    "out": lambda row: -row.rate.messages_out,
    "backlog": lambda row: -row.lag.messages,
    "age": lambda row: -row.lag.age_s,
}


async def namespaces_of(visitor: Visitor, sources: Sources) -> list[str]:
    """Return the namespaces whose topics the visitor may list."""
    names = await sources.namespaces.names()
    return [one for one in names if visitor.may(calls.LIST_TOPICS, admin.NamespaceRequest(name=one))]


async def topics(visitor: Visitor, sources: Sources, query: Query) -> dict[str, object]:
    """All topics, by a part of the name, sorted, page by page."""
    wanted, order = query.get("q", "").strip().lower(), query.get("sort", "name")
    rows = [row for row in await topic_rows(visitor, sources) if wanted in row.name.lower()]
    rows.sort(key=_ORDERS.get(order, lambda _row: 0))  # they come in the order of their names
    pages = max((len(rows) + ROWS_PER_PAGE - 1) // ROWS_PER_PAGE, 1)
    asked = query.get("page", "")
    page = min(max(int(asked) if asked.isascii() and asked.isdigit() else 1, 1), pages)
    return {
        "q": query.get("q", ""),
        "sort": order if order in _ORDERS else "name",
        "found": len(rows),
        "page": page,
        "pages": pages,
        "rows": rows[(page - 1) * ROWS_PER_PAGE : page * ROWS_PER_PAGE],
    }


async def topic_rows(visitor: Visitor, sources: Sources) -> list[TopicRow]:
    """Return the topics that the visitor may list, by name, partitions folded."""
    backlogs, rates = sources.backlogs(), sources.activity.rates
    claimed = {str(bundle): owner for bundle, owner in sources.cluster.claimed.items()}
    rows = []
    for namespace in await namespaces_of(visitor, sources):
        found, partitioned = await sources.topics.listed(namespace)
        parts: dict[int, list[str]] = {one.topic_id: [] for one in partitioned}
        bundles: dict[int, set[str]] = {one.topic_id: set() for one in partitioned}
        for one in found:
            if one.partitioned_id in parts:
                parts[one.partitioned_id].append(one.name)
                bundles[one.partitioned_id].add(one.bundle)
                continue
            rows.append(
                TopicRow(
                    one.name,
                    one.strategy.is_reliable,
                    0,
                    _owners(claimed, (one.bundle,)),
                    rates.get(one.name, Flow()),
                    backlogs.get(one.name, Lag()),
                )
            )
        for base in partitioned:
            names = parts[base.topic_id]
            rows.append(
                TopicRow(
                    base.name,
                    base.strategy.is_reliable,
                    base.partitions,
                    _owners(claimed, bundles[base.topic_id]),
                    sources.activity.rate_of(names),
                    together(backlogs[name] for name in names if name in backlogs),
                )
            )
    return sorted(rows, key=lambda row: row.name)


def _owners(claimed: dict[str, str], bundles: Sequence[str] | set[str]) -> tuple[str, ...]:
    return tuple(sorted({claimed[bundle] for bundle in bundles if bundle in claimed}))


@dataclass(frozen=True)
class PolicyRow:
    """One policy in force, and which level sets it."""

    name: str
    value: int
    source: str


async def topic(visitor: Visitor, sources: Sources, query: Query) -> dict[str, object]:
    """One topic, or all partitions of one."""
    name = query.get("name", "")
    asked = platform.DescribeTopicRequest(topic=name)
    described = (await visitor.ask(calls.DESCRIBE, asked, platform.DescribeTopicResponse)).topics
    names = [one.topic for one in described]
    lags = sources.activity.lags
    return {
        "name": name,
        "topics": described,
        "first": described[0],
        "partitioned": names != [name],
        "rate": sources.activity.rate_of(names),
        "history": sources.activity.history(names),
        "lags": {
            (one.topic, each.name): lags.get((one.topic, each.name), Lag())
            for one in described
            for each in one.subscriptions
        },
        "producers": sorted({each for one in described for each in one.producers}),
        "subscriptions": sorted({each.name for one in described for each in one.subscriptions}),
        "policies": await _policies(sources, name, described[0].policies),
        "subject": await _subject(visitor, described[0].topic),
        "may_peek": visitor.may(calls.READ, stream.ReadRequest(topic=name)),
        **await _segments(visitor, name),
    }


async def _policies(sources: Sources, name: str, in_force: str) -> list[PolicyRow]:
    try:
        namespace, own = await sources.topics.policies(TopicName.parse(name))
    except DanubeError:  # deleted at this moment
        return []
    by_level = (("this topic", msgspec.structs.asdict(own)), ("namespace", msgspec.structs.asdict(namespace)))
    return [
        PolicyRow(
            policy,
            value,
            next((level for level, values in by_level if values.get(policy) is not None), "cluster"),
        )
        for policy, value in json.loads(in_force).items()
    ]


async def _subject(visitor: Visitor, name: str) -> schema.GetTopicSchemaConfigResponse | None:
    asked = schema.GetTopicSchemaConfigRequest(topic_name=name)
    if not visitor.may(calls.SUBJECT, asked):
        return None
    found = await visitor.ask(calls.SUBJECT, asked, schema.GetTopicSchemaConfigResponse)
    return found if found.schema_subject else None


async def _segments(visitor: Visitor, name: str) -> dict[str, object]:
    """The newest segments of the topic, those that are kept."""
    asked = platform.DescribeTopicRequest(topic=name)
    listed = await visitor.ask(calls.SEGMENTS, asked, platform.ListSegmentsResponse)
    kept = [one for one in listed.segments if not one.delete_after_ms]
    return {"segments": kept[-SEGMENTS_SHOWN_MAX:], "segments_total": len(kept)}


async def subscription(visitor: Visitor, sources: Sources, query: Query) -> dict[str, object]:
    """One subscription, in each partition that has it."""
    topic_name, name = query.get("topic", ""), query.get("name", "")
    asked = platform.DescribeTopicRequest(topic=topic_name)
    described = (await visitor.ask(calls.DESCRIBE, asked, platform.DescribeTopicResponse)).topics
    found = [(one, each) for one in described for each in one.subscriptions if each.name == name]
    policy = None
    request = admin.SubscriptionRequest(topic=topic_name, subscription=name)
    if found and found[0][0].reliable:
        policy = await visitor.ask(calls.FAILURE_POLICY, request, admin.GetSubscriptionFailurePolicyResponse)
    return {
        "topic": topic_name,
        "name": name,
        "found": found,
        "lags": {one.topic: sources.activity.lags.get((one.topic, name), Lag()) for one, _ in found},
        "policy": policy.failure_policy if policy is not None else None,
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
