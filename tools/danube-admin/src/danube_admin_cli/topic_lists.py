"""``danube-admin topics list``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import typer

from danube_admin_cli.commands import Session
from danube_admin_cli.namespaces import show_topics
from danube_admin_cli.printing import show_json, show_text
from danube_proto import danube_admin_pb2 as wire
from danube_proto import danube_platform_pb2 as platform
from danube_terminal.choices import Form
from danube_terminal.plain import counted

SERVICE = "/danube_admin.TopicAdmin"

LIST_HELP = """List the topics of a namespace, or those that a broker serves.

With NAMESPACE as an argument only names are listed. With --namespace a partitioned topic is listed before its
partitions.

\b
Examples:
  danube-admin topics list default
  danube-admin topics list --namespace default
  danube-admin topics list --broker 7123 -o json | jq -r '.[].name'
"""


def list_topics(
    session: Session,
    given: Annotated[str | None, typer.Argument(metavar="[NAMESPACE]")] = None,
    in_namespace: Annotated[
        str | None, typer.Option("--namespace", metavar="NAMESPACE", help="With brokers and delivery.")
    ] = None,
    broker: Annotated[
        str | None, typer.Option("--broker", metavar="BROKER", help="Only the topics that it serves.")
    ] = None,
) -> None:
    """List the topics of a namespace or of a broker."""
    if sum(one is not None for one in (given, in_namespace, broker)) != 1:
        raise typer.BadParameter("give one of NAMESPACE, --namespace and --broker")
    if given is not None:
        show_topics(session, f"{SERVICE}/ListTopics", given)
    elif broker is not None:
        asked = wire.BrokerRequest(broker_id=broker)
        answer = session.call(f"{SERVICE}/ListBrokerTopics", asked, wire.TopicInfoListResponse)
        _show(session, answer.topics, ())
    else:
        namespace = wire.NamespaceRequest(name=in_namespace)
        answer = session.call(f"{SERVICE}/ListNamespaceTopics", namespace, wire.TopicInfoListResponse)
        partitioned = session.call(
            "/danube_platform.PartitionAdmin/ListPartitionedTopics",
            platform.ListPartitionedTopicsRequest(namespace=in_namespace),
            platform.ListPartitionedTopicsResponse,
        )
        _show(session, answer.topics, partitioned.topics)


def _show(
    session: Session, topics: Iterable[wire.TopicInfo], partitioned: Iterable[platform.PartitionedTopicInfo]
) -> None:
    parts: dict[str, list[wire.TopicInfo]] = {one.topic: [] for one in partitioned}
    singles: list[wire.TopicInfo] = []
    for topic in topics:
        base, _, number = topic.name.rpartition("-part-")
        (parts[base] if base in parts and number.isdigit() else singles).append(topic)
    bases = {one.topic: one for one in partitioned}
    rows: list[dict[str, object]] = []
    lines: list[str] = []
    for whole in bases.values():
        of_base = sorted(parts[whole.topic], key=lambda one: int(one.name.rpartition("-")[2]))
        delivery = "Reliable" if whole.reliable else "NonReliable"
        row: dict[str, object] = {"name": whole.topic, "broker_id": "", "delivery": delivery}
        rows += [row | {"partitions": [one.name for one in of_base]}, *map(_row, of_base)]
        lines.append(f"Topic: {whole.topic} ({counted(whole.partitions, 'partition')}, delivery: {delivery})")
        lines += [f"  {_line(one)}" for one in of_base]
    rows += map(_row, singles)
    lines += map(_line, singles)
    if session.form is Form.json:
        show_json(rows)
        return
    for line in lines:
        show_text(line)


def _row(topic: wire.TopicInfo) -> dict[str, object]:
    return {"name": topic.name, "broker_id": topic.broker_id, "delivery": topic.delivery}


def _line(topic: wire.TopicInfo) -> str:
    return f"Topic: {topic.name} (broker_id: {topic.broker_id}, delivery: {topic.delivery})"
