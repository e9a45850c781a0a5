"""What is read: the answers to GET, in the original's shapes."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from danube_admin_service.console.access import calls
from danube_admin_service.console.access.visitor import Visitor
from danube_admin_service.console.live import activity, prometheus
from danube_admin_service.console.live.scrape import Connected, Flow
from danube_admin_service.console.sources import Query, Sources
from danube_admin_service.console.topics.listing import namespaces_of
from danube_common.errors import InvalidInput
from danube_common.rpc.port import RpcError, StatusCode
from danube_proto import danube_admin_pb2 as admin
from danube_proto import danube_platform_pb2 as platform
from danube_proto import danube_schema_pb2 as schema

Json = dict[str, Any]
Read = Callable[[Visitor, Sources, Query], Awaitable[Json]]

SUBSCRIPTION_TYPES: Final = {1: "Shared", 2: "Failover", 3: "KeyShared"}
POISON_POLICIES: Final = {0: "dead_letter", 1: "block", 2: "drop"}
SERIES: Final = ("publish_rate_1m", "bytes_in_rate_1m", "dispatch_rate_1m", "bytes_out_rate_1m")
"""In the order of `Flow`."""


def timestamp() -> str:
    """Write the time as the original does."""
    return datetime.now(UTC).isoformat()


def plain(message: Message) -> Json:
    """Return a message as JSON, names as in its definition and with all fields; 64-bit numbers as numbers."""
    found: Json = MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    for field in message.DESCRIPTOR.fields:
        value = found.get(field.name)
        if isinstance(value, str) and field.cpp_type in (field.CPPTYPE_UINT64, field.CPPTYPE_INT64):
            found[field.name] = int(value)
    return found


async def health(_visitor: Visitor, sources: Sources, _query: Query) -> Json:
    """That this process answers."""
    return {"status": "ok", "leader_reachable": sources.cluster.leader is not None}


async def cluster(visitor: Visitor, sources: Sources, _query: Query) -> Json:
    """The brokers: topic owners, and the leading admin instance."""
    rows = []
    for one in await _brokers(visitor):
        load = sources.cluster.loads.get(one.broker_id)
        stats = {
            "topics_owned": len(await _topics(visitor, one.broker_id)),
            "rpc_total": sources.activity.calls_of(one.broker_id),
            "rpc_rate_1m": sources.activity.call_rate_of(one.broker_id),
            "active_connections": load.total.consumers if load is not None else 0,
            "errors_5xx_total": 0,
        }
        rows.append({**_identity(one), "admin_addr": one.admin_addr, "stats": stats})
    totals = {
        "broker_count": len(rows),
        "topics_total": sum(row["stats"]["topics_owned"] for row in rows),
        "rpc_total": sum(sources.activity.calls_of(one.instance_id) for one in sources.cluster.instances),
        "active_connections": sum(row["stats"]["active_connections"] for row in rows),
    }
    return {"timestamp": timestamp(), "brokers": rows, "totals": totals, "errors": []}


async def _brokers(visitor: Visitor) -> list[admin.BrokerInfo]:
    return list((await visitor.ask(calls.BROKERS, admin.Empty(), admin.BrokerListResponse)).brokers)


async def _topics(visitor: Visitor, broker_id: str) -> list[admin.TopicInfo]:
    method = f"{calls.TOPIC}/ListBrokerTopics"
    request = admin.BrokerRequest(broker_id=broker_id)
    if not visitor.may(method, request):
        return []
    listed = await visitor.ask(method, request, admin.TopicInfoListResponse)
    return sorted(listed.topics, key=lambda one: one.name)


def _identity(one: admin.BrokerInfo) -> Json:
    names = ("broker_id", "broker_addr", "broker_role", "broker_status")
    return {name: getattr(one, name) for name in names}


def _mini(sources: Sources, one: admin.TopicInfo) -> Json:
    connected = sources.activity.connected.get(one.name, Connected())
    return {
        "name": one.name,
        "delivery": one.delivery,
        "producers_connected": connected.producers,
        "consumers_connected": connected.consumers,
        "subscriptions": connected.subscriptions,
    }


async def topics(visitor: Visitor, sources: Sources, _query: Query) -> Json:
    """The topics of each broker."""
    rows = [
        {
            "broker": _identity(one),
            "topics": [_mini(sources, each) for each in await _topics(visitor, one.broker_id)],
        }
        for one in await _brokers(visitor)
    ]
    return {"timestamp": timestamp(), "brokers": rows, "errors": []}


async def broker(visitor: Visitor, sources: Sources, query: Query) -> Json:
    """One broker and its topics."""
    found = next((one for one in await _brokers(visitor) if one.broker_id == query["broker_id"]), None)
    if found is None:
        raise RpcError(StatusCode.NOT_FOUND, "unknown broker")
    owned = await _topics(visitor, found.broker_id)
    flow = sources.activity.totals_of(one.name for one in owned)
    metrics = {
        "rpc_total": sources.activity.calls_of(found.broker_id),
        "topics_owned": len(owned),
        "inbound_bytes_total": int(flow.bytes_in),
        "outbound_bytes_total": int(flow.bytes_out),
        "errors_5xx_total": 0,
    }
    return {
        "timestamp": timestamp(),
        "broker": _identity(found),
        "metrics": metrics,
        "topics": [_mini(sources, one) for one in owned],
        "errors": [],
    }


async def topic(visitor: Visitor, sources: Sources, query: Query) -> Json:
    """One topic, its subscriptions and its metrics."""
    name = query["topic"]
    method = f"{calls.TOPIC}/DescribeTopic"
    described = await visitor.ask(method, admin.TopicRequest(name=name), admin.DescribeTopicResponse)
    request = platform.DescribeTopicRequest(topic=name)
    details = (await visitor.ask(calls.DESCRIBE, request, platform.DescribeTopicResponse)).topics
    optional = ("schema_subject", "schema_id", "schema_version", "schema_type", "compatibility_mode")
    shown = {
        "name": described.name,
        **{each: getattr(described, each) if described.HasField(each) else None for each in optional},
        "subscriptions": [await _subscription(visitor, name, each) for each in described.subscriptions],
    }
    return {"timestamp": timestamp(), "topic": shown, "metrics": _metrics(sources, details), "errors": []}


async def _subscription(visitor: Visitor, topic_name: str, name: str) -> Json:
    request = admin.SubscriptionRequest(topic=topic_name, subscription=name)
    try:
        found = await visitor.ask(calls.FAILURE_POLICY, request, admin.GetSubscriptionFailurePolicyResponse)
    except RpcError:  # of a non-reliable topic: there is none
        return {"name": name, "subscription_type": "Exclusive", "failure_policy": None}
    policy = found.failure_policy
    return {
        "name": name,
        "subscription_type": SUBSCRIPTION_TYPES.get(found.subscription_type, "Exclusive"),
        "failure_policy": {
            "max_redelivery_count": policy.max_redelivery_count,
            "ack_timeout_ms": policy.ack_timeout_ms,
            "base_redelivery_delay_ms": policy.base_redelivery_delay_ms,
            "max_redelivery_delay_ms": policy.max_redelivery_delay_ms,
            "backoff_strategy": "exponential" if policy.backoff_strategy else "fixed",
            "dead_letter_topic": policy.dead_letter_topic or None,
            "poison_policy": POISON_POLICIES[policy.poison_policy],
        },
    }


def _metrics(sources: Sources, details: Any) -> Json:
    names = [one.topic for one in details]
    flow, rate = sources.activity.totals_of(names), sources.activity.rate_of(names)
    failures: Mapping[str, int] = sources.activity.failures_of(names[0])
    subscriptions = {each.name for one in details for each in one.subscriptions}
    in_s3 = [each for one in details for each in one.segments if each.storage == "s3"]
    reliable = {
        "wal_append_total": int(flow.messages_in),
        "wal_append_bytes_total": int(flow.bytes_in),
        **dict.fromkeys(("wal_flush_total", "wal_fsync_total"), 0),
        **{f"wal_flush_latency_ms_p{percent}": 0.0 for percent in (50, 95, 99)},
        "cloud_upload_bytes_total": sum(each.size_bytes for each in in_s3),
        "cloud_upload_objects_total": sum(each.segments for each in in_s3),
    }
    return {
        "core": {
            "msg_in_total": int(flow.messages_in),
            "msg_out_total": int(flow.messages_out),
            "bytes_in_total": int(flow.bytes_in),
            "bytes_out_total": int(flow.bytes_out),
        },
        "active": {
            "producers": len({each for one in details for each in one.producers}),
            "consumers": sum(len(each.consumers) for one in details for each in one.subscriptions),
            "subscriptions": len(subscriptions),
        },
        "rates": {"publish_rate_1m": rate.messages_in, "dispatch_rate_1m": rate.messages_out},
        "quality": {
            "send_ok_total": int(flow.messages_in),
            "send_error_total": sum(failures.values()),
            "send_error_by_code": [[reason, messages] for reason, messages in failures.items()],
        },
        "latency_size": {
            **{f"send_latency_ms_p{percent}": 0.0 for percent in (50, 95, 99)},
            "msg_size_bytes_avg": flow.bytes_in / flow.messages_in if flow.messages_in else 0.0,
        },
        "reliable": reliable if details[0].reliable else None,
    }


async def series(visitor: Visitor, sources: Sources, query: Query) -> Json:
    """The rates of a topic in the last hour, or a part of it, which is asked for in seconds; told in ms."""
    name = query["topic"]
    request = platform.DescribeTopicRequest(topic=name)
    described = await visitor.ask(calls.DESCRIBE, request, platform.DescribeTopicResponse)
    now_s = int(time.time())
    begin_s, end_s = _second(query, "from", now_s - 3600), _second(query, "to", now_s)
    names, errors = [one.topic for one in described.topics], []
    told: list[Flow] | None = None
    if sources.prometheus is not None:
        told = await sources.prometheus.history(names, now_s)
        if told is None:
            errors.append("Prometheus does not answer")
    step_s = prometheus.STEP_S if told is not None else activity.SAMPLE_S
    history = told if told is not None else sources.activity.history(names)
    at_s = [round(now_s - step_s * (len(history) - 1 - index)) for index in range(len(history))]
    rows = [
        {
            "name": one,
            "labels": None,
            "points": [
                [1000 * at, flow[column]]
                for at, flow in zip(at_s, history, strict=True)
                if begin_s <= at <= end_s
            ],
        }
        for column, one in enumerate(SERIES)
    ]
    return {"series": rows, "errors": errors}


def _second(query: Query, name: str, default: int) -> int:
    text = query.get(name, "")
    try:
        return int(text) if text else default
    except ValueError:
        raise InvalidInput(f"{name} is a time in seconds since the epoch") from None


async def namespaces(visitor: Visitor, sources: Sources, _query: Query) -> Json:
    """The namespaces with their topics and policies."""
    rows = []
    for name in await namespaces_of(visitor, sources):
        request = admin.NamespaceRequest(name=name)
        listed = await visitor.ask(calls.LIST_TOPICS, request, admin.TopicInfoListResponse)
        method = f"{calls.NAMESPACE}/GetNamespacePolicies"
        policies = await visitor.ask(method, request, admin.PolicyResponse)
        topic_names = [one.name for one in listed.topics]
        rows.append({"name": name, "topics": topic_names, "policies": policies.policies})
    return {"timestamp": timestamp(), "namespaces": rows, "errors": []}


async def schemas(visitor: Visitor, _sources: Sources, _query: Query) -> Json:
    """The subjects."""
    method = f"{calls.REGISTRY}/ListSubjects"
    listed = await visitor.ask(method, schema.ListSubjectsRequest(), schema.ListSubjectsResponse)
    rows = [plain(one) for one in sorted(listed.subjects, key=lambda one: one.schema_id)]
    return {"timestamp": timestamp(), "subjects": rows}


async def subject(visitor: Visitor, _sources: Sources, query: Query) -> Json:
    """One subject: its latest version, and which there are."""
    name = query["subject"]
    latest = await visitor.ask(
        f"{calls.REGISTRY}/GetLatestSchema",
        schema.GetLatestSchemaRequest(subject=name),
        schema.GetSchemaResponse,
    )
    listed = await visitor.ask(
        f"{calls.REGISTRY}/ListVersions",
        schema.ListVersionsRequest(subject=name),
        schema.ListVersionsResponse,
    )
    definition = latest.schema_definition.decode(errors="replace")
    return {
        "timestamp": timestamp(),
        "subject": name,
        "schema_type": latest.schema_type,
        "compatibility_mode": latest.compatibility_mode,
        "latest": {**plain(latest), "schema_definition": definition},
        "versions": [plain(one) for one in listed.versions],
    }


async def roles(visitor: Visitor, _sources: Sources, _query: Query) -> Json:
    """The roles."""
    return plain(await visitor.ask(f"{calls.SECURITY}/ListRoles", admin.Empty(), admin.RoleListResponse))


async def bindings(visitor: Visitor, _sources: Sources, _query: Query) -> Json:
    """Who has which roles where."""
    method = f"{calls.SECURITY}/ListAllBindings"
    return plain(await visitor.ask(method, admin.Empty(), admin.BindingListResponse))


async def balance(visitor: Visitor, _sources: Sources, _query: Query) -> Json:
    """How even the loads are."""
    found = await visitor.ask(calls.BALANCE, admin.ClusterBalanceRequest(), admin.ClusterBalanceResponse)
    return {**plain(found), "cv": found.coefficient_of_variation}


async def raft(visitor: Visitor, _sources: Sources, _query: Query) -> Json:
    """The leader election of the admin instances, in the words of the original's consensus; ids as text."""
    found = await visitor.ask(calls.CLUSTER_STATUS, admin.Empty(), admin.ClusterStatusResponse)
    return {
        "leader_id": str(found.leader_id),
        "current_term": found.current_term,
        "last_applied": found.last_applied,
        "voters": [str(one) for one in found.voters],
        "learners": [str(one) for one in found.learners],
        "self_node_id": str(found.self_node_id),
        "raft_addr": found.raft_addr,
    }


READS: Final[Mapping[str, Read]] = {
    "/health": health,
    "/cluster": cluster,
    "/cluster/balance": balance,
    "/cluster/raft": raft,
    "/topics": topics,
    "/topics/{topic:path}/series": series,
    "/topics/{topic:path}": topic,
    "/namespaces": namespaces,
    "/brokers/{broker_id}": broker,
    "/schemas": schemas,
    "/schemas/{subject:path}": subject,
    "/security/roles": roles,
    "/security/bindings": bindings,
}
"""By path below /ui/v1; a more special path comes first."""
