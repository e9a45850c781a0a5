"""``danube-admin topics describe`` and ``topics segments``."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Annotated, Any

import typer

from danube_admin_cli.commands import Session
from danube_admin_cli.printing import show_json, show_section, show_table
from danube_proto import danube_admin_pb2 as admin
from danube_proto import danube_platform_pb2 as platform
from danube_terminal.choices import Form
from danube_terminal.plain import counted, moment, plain, size

SERVICE = "/danube_platform.TopicDetails"

Topic = Annotated[
    str,
    typer.Argument(
        metavar="TOPIC",
        help="/namespace/topic; of a partitioned topic all partitions are shown.",
    ),
]

DESCRIBE_HELP = """Show how a topic is stored, its segments, and its subscriptions.

A figure with + is a lower bound. Times are UTC. With -o json a topic is an object, and a partitioned topic
a list of objects, one for each partition.

\b
Examples:
  danube-admin topics describe /default/orders
  danube-admin topics describe /default/orders -o json | jq '.subscriptions[].backlog'
"""
SEGMENTS_HELP = """List the segments that hold a topic's messages, oldest first.

A segment whose OF is ALL is shared by topics of the bundle that have few messages. It may hold messages of
this topic, and its count is that of all topics. Consumers read retained segments only. NO COPY: nothing can
be read of the segment now, because every copy is damaged or its holder is away.

\b
Examples:
  danube-admin topics segments /default/orders
  danube-admin topics segments /default/orders -o json | jq 'map(.size_bytes) | add'
"""

SEGMENT_COLUMNS = {
    "topic": "TOPIC",
    "of": "OF",
    "storage": "STORAGE",
    "holders": "HOLDERS",
    "state": "STATE",
    "messages": "MESSAGES",
    "size": "SIZE",
    "oldest": "OLDEST",
    "newest": "NEWEST",
    "first_position": "FIRST POSITION",
    "key": "KEY",
}
SUBSCRIPTION_COLUMNS = {
    "name": "SUBSCRIPTION",
    "type": "TYPE",
    "consumers": "CONSUMERS",
    "backlog": "BACKLOG",
    "unacked": "UNACKED",
    "failed": "FAILED",
    "lost": "LOST",
    "mark_delete": "ACKNOWLEDGED THROUGH",
    "prefetch": "PREFETCH",
    "blocked": "BLOCKED",
}


def describe(session: Session, topic: Topic) -> None:
    """Show how a topic is stored, its segments, and its subscriptions."""
    request = platform.DescribeTopicRequest(topic=topic)
    answer = session.call(f"{SERVICE}/DescribeTopic", request, platform.DescribeTopicResponse)
    if session.form is Form.json:
        bound = _bound_schema(session, topic)
        told = [_object(described) | bound for described in answer.topics]
        is_one = [one.topic for one in answer.topics] == [topic]
        show_json(told[0] if is_one else told)
        return
    for described in answer.topics:
        show_section(f"Topic: {described.topic}", _lines(described))
        rows = [_subscription(one) for one in described.subscriptions]
        if rows:
            shown = {
                key: title
                for key, title in SUBSCRIPTION_COLUMNS.items()
                if key not in ("prefetch", "failed") or any(row[key] for row in rows)
            }
            show_table(Form.table, shown, rows)


def segments(session: Session, topic: Topic) -> None:
    """List the segments that hold a topic's messages."""
    request = platform.ListSegmentsRequest(topic=topic)
    answer = session.call(f"{SERVICE}/ListSegments", request, platform.ListSegmentsResponse)
    if session.form is Form.json:
        show_json([plain(segment) for segment in answer.segments])
    else:
        show_table(Form.table, SEGMENT_COLUMNS, [_segment(segment) for segment in answer.segments])


def _bound_schema(session: Session, topic: str) -> dict[str, Any]:
    """Return the topic's subject and its latest version, without ``schema_type`` if it has none."""
    answer = session.call(
        "/danube_admin.TopicAdmin/DescribeTopic", admin.TopicRequest(name=topic), admin.DescribeTopicResponse
    )
    names = ("schema_subject", "schema_id", "schema_version", "compatibility_mode")
    found = {name: getattr(answer, name) if answer.HasField(name) else None for name in names}
    return found | ({"schema_type": answer.schema_type} if answer.HasField("schema_type") else {})


def _object(described: platform.TopicDescription) -> dict[str, Any]:
    return plain(described) | {
        "policies": _policies(described),
        "broker_id": described.owner,
        "delivery": "Reliable" if described.reliable else "NonReliable",
    }


def _policies(described: platform.TopicDescription) -> dict[str, Any]:
    try:
        policies = json.loads(described.policies)
    except json.JSONDecodeError:
        return {}
    return policies if isinstance(policies, dict) else {}


def _lines(described: platform.TopicDescription) -> dict[str, str]:
    lines = {
        "id": f"{described.topic_id}, bundle {described.bundle}, created {moment(described.created_ms)}",
        "owner": f"{described.owner}, epoch {described.epoch}" if described.owner else "none",
        "schema": " ".join(filter(None, (described.schema_type, described.schema_data))),
        "dispatch": _dispatch(described),
        "policies": ", ".join(f"{name} {value}" for name, value in _policies(described).items() if value)
        or "no limits",
    }
    if described.owner_problem:
        lines["not known"] = f"producers, subscriptions and log: {described.owner_problem}"
    else:
        lines["producers"] = ", ".join(described.producers) or "none"
    if described.reliable:
        lines |= _kept(described)
    return lines


def _dispatch(described: platform.TopicDescription) -> str:
    if not described.reliable:
        return "non-reliable"
    kept = (
        "kept until acknowledged"
        if described.retention == "ack"
        else f"kept for {described.retention_period_s} s"
    )
    return f"reliable, storage {described.storage}, segments of {described.segment_size_mb} MiB, {kept}"


def _kept(described: platform.TopicDescription) -> dict[str, str]:
    first, last = described.log_first_sequence, described.log_last_sequence
    log = f"sequences {first} to {last}" if first <= last and last else "empty"
    if described.owner_problem:
        log = "not known"
    lines = {
        "log": f"{log} (bundle {described.bundle}), archived through {described.archived_through}",
        "archiver": described.archiver or "none",
        "segments": "; ".join(map(_totals, described.segments)) or "none",
    }
    if described.HasField("memory_log"):
        lines["shared log"] = _memory_log(described)
    if described.shared_segments:
        lines["shared segments"] = "; ".join(map(_totals, described.shared_segments))
    if described.newest_ms:
        lines["stored"] = f"{moment(described.oldest_ms)} to {moment(described.newest_ms)}"
    lines["deleted"] = _deleted(described.deleted)
    if described.shared_deleted.segments:
        lines["shared deleted"] = _deleted(described.shared_deleted)
    if described.unreadable_segments:
        lines["not readable now"] = "; ".join(map(_totals, described.unreadable_segments))
    lines["quarantined"] = "; ".join(map(_quarantined, described.quarantined)) or "none"
    return lines


def _memory_log(described: platform.TopicDescription) -> str:
    log = described.memory_log
    if not log.held_by:
        return "nothing is held"
    holder = "this topic" if log.held_by == described.topic else log.held_by
    kept = f"{size(log.size_bytes)} of all topics of bundle {described.bundle} since {moment(log.oldest_ms)}"
    return f"{kept}, held by {holder}"


def _totals(row: platform.SegmentTotals) -> str:
    return (
        f"{row.storage}: {counted(row.segments, 'segment')}, {counted(row.messages, 'message')},"
        f" {size(row.size_bytes)}"
    )


def _deleted(row: platform.DeletedTotals) -> str:
    if not row.segments:
        return "nothing"
    return f"{counted(row.segments, 'segment')}, {counted(row.messages, 'message')}, {size(row.size_bytes)}"


def _quarantined(row: platform.QuarantinedSegment) -> str:
    return f"{row.key} at {row.holder}: {row.reason}"


def _subscription(one: platform.SubscriptionDescription) -> dict[str, str]:
    return {
        "name": one.name,
        "type": one.type,
        "consumers": _few(one.consumers),
        "backlog": f"{one.backlog}{'' if one.backlog_exact else '+'}",
        "unacked": str(one.unacked),
        "failed": str(one.failed or ""),
        "lost": f"{one.lost}+" if one.lost else "0",  # a lower bound
        "mark_delete": str(one.mark_delete),
        "prefetch": str(one.prefetch or ""),
        "blocked": one.blocked,
    }


def _segment(segment: platform.Segment) -> dict[str, str]:
    state = f"deleting after {moment(segment.delete_after_ms)}" if segment.delete_after_ms else "retained"
    if segment.bound_for:
        state = f"waits for {segment.bound_for}"
    if segment.away:
        state = f"{_few(segment.away)} away"
    if segment.copying:
        state = f"being copied to {_few(segment.copying)}"
    if segment.quarantined:
        state = f"quarantined at {_few(row.holder for row in segment.quarantined)}"
    if segment.unreadable:
        state = f"NO COPY now, {state}"
    return {
        "topic": segment.topic,
        "of": "ALL" if segment.shared else "TOPIC",
        "storage": segment.storage,
        "holders": _few(segment.holders),
        "state": state,
        "messages": str(segment.messages),
        "size": size(segment.size_bytes),
        "oldest": moment(segment.oldest_ms),
        "newest": moment(segment.newest_ms),
        "first_position": str(segment.first_position),
        "key": segment.key,
    }


def _few(names: Iterable[str]) -> str:
    return ",".join(names) or "-"
