"""The page of one subscription."""

from __future__ import annotations

from collections.abc import Sequence

from danube_admin_service.console.access import calls
from danube_admin_service.console.access.visitor import Visitor
from danube_admin_service.console.actions import offered
from danube_admin_service.console.live.scrape import Lag
from danube_admin_service.console.sources import Query, Sources
from danube_admin_service.console.subscriptions.actions import POISON_POLICIES
from danube_admin_service.console.subscriptions.reset_preview import Preview, preview
from danube_proto import danube_admin_pb2 as admin
from danube_proto import danube_platform_pb2 as platform


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
