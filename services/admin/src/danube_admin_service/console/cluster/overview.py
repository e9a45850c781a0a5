"""The pages of the platform as a whole: overview, cluster."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Final

from danube_admin_service.console.access import calls
from danube_admin_service.console.access.visitor import Visitor
from danube_admin_service.console.cluster.move_plan import move_plan
from danube_admin_service.console.live.activity import Process
from danube_admin_service.console.live.history import charts
from danube_admin_service.console.sources import Query, Sources, together
from danube_common.model.bundle import Bundle
from danube_proto import danube_admin_pb2 as admin
from danube_proto import danube_platform_pb2 as platform

TOP_MAX: Final = 10
"""Rows of a table of the greatest."""


def _loads(loads: platform.BrokerLoadsResponse) -> platform.Load:
    """What topic owners read of the log and send to gateways, together."""
    totals = [one.total for one in loads.brokers]
    return platform.Load(
        in_messages=sum(one.in_messages for one in totals),
        in_bytes=sum(one.in_bytes for one in totals),
        out_messages=sum(one.out_messages for one in totals),
        out_bytes=sum(one.out_bytes for one in totals),
    )


@dataclass(frozen=True)
class InstanceRow:
    """A living process: what it says of itself, and how it does; ``known``: whether it was sampled."""

    instance: platform.Instance
    process: Process
    known: bool


async def overview(visitor: Visitor, sources: Sources, _query: Query) -> dict[str, object]:
    """The platform at a glance."""
    rows = await _instances(visitor, sources)
    loads = await visitor.ask(calls.LOADS, platform.BrokerLoadsRequest(), platform.BrokerLoadsResponse)
    activity = sources.activity
    lagging = [
        (*key, lag)
        for key, lag in sorted(activity.lags.items(), key=lambda one: one[1].messages, reverse=True)
        if lag.messages and _may_see(visitor, key[0])
    ]
    busiest = [
        (topic, rate)
        for topic, rate in sorted(activity.rates.items(), key=lambda one: sum(one[1]), reverse=True)
        if _may_see(visitor, topic)
    ]
    return {
        "rows": rows,
        "counts": Counter(row.instance.kind for row in rows),
        "problems": [row for row in rows if row.process.problem],
        "rate": activity.total,
        "owned": _loads(loads),
        "archived_bytes": activity.archived_bytes,
        "replayed_bytes": activity.replayed_bytes,
        "bundles": len(sources.cluster.claimed),
        "lag": together(activity.lags.values()),
        "topics": sum(one.total.topics for one in loads.brokers),
        "subscriptions": sum(one.total.subscriptions for one in loads.brokers),
        "consumers": sum(one.total.consumers for one in loads.brokers),
        "lagging": lagging[:TOP_MAX],
        "busiest": busiest[:TOP_MAX],
        **await charts(sources),
        "sampled_ms": activity.sampled_ms,
    }


async def cluster(visitor: Visitor, sources: Sources, query: Query) -> dict[str, object]:
    """The instances, and which topic owner has which bundles; with ``plan``, what rebalancing would move."""
    rows = await _instances(visitor, sources)
    loads = await visitor.ask(calls.LOADS, platform.BrokerLoadsRequest(), platform.BrokerLoadsResponse)
    balance = await visitor.ask(calls.BALANCE, admin.ClusterBalanceRequest(), admin.ClusterBalanceResponse)
    plan = None
    if query.get("plan") and visitor.may(calls.REBALANCE, admin.RebalanceRequest()):
        plan = await visitor.ask(
            calls.REBALANCE, admin.RebalanceRequest(dry_run=True), admin.RebalanceResponse
        )
    owners = [row.instance for row in rows if row.instance.kind == "topic-owner"]
    claimed = {str(bundle): owner for bundle, owner in sources.cluster.claimed.items()}
    moves = plan.proposed_moves if plan is not None else ()
    return {
        "rows": rows,
        "loads": {one.broker_id: one for one in loads.brokers},
        "owners": owners,
        "bundles": {one.instance_id: _of_owner(claimed, one.instance_id) for one in owners},
        "balance": balance,
        "plan": plan,
        "drawn": move_plan([one.instance_id for one in owners], claimed, moves),
        "unassigned": sorted(str(one) for one in _bundles(sources) - sources.cluster.claimed.keys()),
    }


def _of_owner(claimed: dict[str, str], owner: str) -> list[str]:
    return sorted(bundle for bundle, instance_id in claimed.items() if instance_id == owner)


def _bundles(sources: Sources) -> set[Bundle]:
    layout = sources.cluster.layout
    return set(layout.bundles()) if layout is not None else set()


def _may_see(visitor: Visitor, topic: str) -> bool:
    return visitor.may(calls.DESCRIBE, platform.DescribeTopicRequest(topic=topic))


async def _instances(visitor: Visitor, sources: Sources) -> list[InstanceRow]:
    listed = await visitor.ask(
        calls.INSTANCES, platform.ListInstancesRequest(), platform.ListInstancesResponse
    )
    processes = sources.activity.processes
    return [
        InstanceRow(one, processes.get(one.instance_id, Process()), one.instance_id in processes)
        for one in listed.instances
    ]
