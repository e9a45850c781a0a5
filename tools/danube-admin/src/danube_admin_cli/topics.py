"""``danube-admin topics``."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from danube_admin_cli import policies, topic_details
from danube_admin_cli.admin import Call, Endpoint, Output, admin, form_of
from danube_admin_cli.names import topic_name
from danube_admin_cli.printing import show_lines, show_policies, show_quoted, show_success
from danube_admin_cli.strategy import Retention, Storage, compact
from danube_proto import danube_admin_pb2 as wire
from danube_proto import danube_platform_pb2 as platform

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

PARTITIONS_MAX = 10_000
PARTITIONS_PER_CALL = 1000

Topic = Annotated[str, typer.Argument(metavar="TOPIC", callback=topic_name, help="/namespace/topic")]
SchemaType = Annotated[
    str, typer.Option("--schema-type", "-s", metavar="TYPE", help="Bytes, String, Int64 or JSON.")
]
SchemaData = Annotated[
    str, typer.Option("--schema-data", "-d", metavar="TEXT", help="The JSON Schema of a JSON topic.")
]
DispatchStrategy = Annotated[
    str, typer.Option("--dispatch-strategy", metavar="STRATEGY", help="reliable or non-reliable.")
]
StorageOption = Annotated[
    Storage | None,
    typer.Option(
        "--storage", help="Reliable: where segments live; if absent the service's default_storage holds."
    ),
]
SegmentSize = Annotated[
    int | None, typer.Option("--segment-size", metavar="MB", min=0, help="Reliable: when a segment is full.")
]
RetentionOption = Annotated[
    Retention | None, typer.Option("--retention", help="Reliable: kept until acknowledged, or for a time.")
]
RetentionPeriod = Annotated[
    int | None, typer.Option("--retention-period", metavar="SECS", min=0, help="Reliable: the time.")
]


@app.command("list")
def list_topics(
    context: typer.Context,
    namespace: Annotated[str, typer.Argument(metavar="NAMESPACE")],
    endpoint: Endpoint = None,
    output: Output = None,
) -> None:
    """List the topics of a namespace."""
    with admin(context, endpoint) as call:
        request = wire.NamespaceRequest(name=namespace)
        answer = call("/danube_admin.TopicAdmin/ListTopics", request, wire.TopicListResponse)
    show_lines(form_of(context, output), "Topic", answer.topics)


@app.command("create")
def create(
    context: typer.Context,
    topic: Topic,
    schema_type: SchemaType = "String",
    schema_data: SchemaData = "{}",
    dispatch_strategy: DispatchStrategy = "non_reliable",
    storage: StorageOption = None,
    segment_size: SegmentSize = None,
    retention: RetentionOption = None,
    retention_period: RetentionPeriod = None,
    endpoint: Endpoint = None,
    output: Output = None,
) -> None:
    """Create a topic."""
    strategy = compact(dispatch_strategy, storage, segment_size, retention, retention_period)
    check_schema(schema_type, schema_data)
    with admin(context, endpoint) as call:
        success = create_topic(call, topic, schema_type, schema_data, strategy)
        show_success(form_of(context, output), "Topic Created", success=success)


@app.command("create-partitioned")
def create_partitioned(
    context: typer.Context,
    topic: Topic,
    partitions: Annotated[int, typer.Argument(metavar="N", min=1, max=PARTITIONS_MAX)],
    schema_type: SchemaType = "String",
    schema_data: SchemaData = "{}",
    dispatch_strategy: DispatchStrategy = "non_reliable",
    storage: StorageOption = None,
    segment_size: SegmentSize = None,
    retention: RetentionOption = None,
    retention_period: RetentionPeriod = None,
    endpoint: Endpoint = None,
    output: Output = None,
) -> None:
    """Create the topics TOPIC-part-0 to TOPIC-part-(N-1), a thousand at a time."""
    strategy = compact(dispatch_strategy, storage, segment_size, retention, retention_period)
    check_schema(schema_type, schema_data)
    with admin(context, endpoint) as call:
        for first in range(0, partitions, PARTITIONS_PER_CALL):
            request = platform.CreatePartitionsRequest(
                topic=topic,
                first=first,
                partitions=min(PARTITIONS_PER_CALL, partitions - first),
                schema_type=schema_type,
                schema_data=schema_data,
                dispatch_strategy=strategy,
            )
            answer = call(
                "/danube_platform.PartitionAdmin/CreatePartitions",
                request,
                platform.CreatePartitionsResponse,
            )
            for _part in range(request.partitions):
                show_success(form_of(context, output), "Topic Created", success=answer.success)


@app.command("delete")
def delete(context: typer.Context, topic: Topic, endpoint: Endpoint = None, output: Output = None) -> None:
    """Delete a topic with its messages and subscriptions."""
    with admin(context, endpoint) as call:
        answer = call(
            "/danube_admin.TopicAdmin/DeleteTopic", wire.TopicRequest(name=topic), wire.TopicResponse
        )
    show_success(form_of(context, output), "Topic Deleted", success=answer.success)


@app.command("unload")
def unload(context: typer.Context, topic: Topic, endpoint: Endpoint = None, output: Output = None) -> None:
    """Move a topic to another broker, with all topics of its bundle. Clients stay connected."""
    with admin(context, endpoint) as call:
        answer = call(
            "/danube_admin.TopicAdmin/UnloadTopic", wire.TopicRequest(name=topic), wire.TopicResponse
        )
    show_success(form_of(context, output), "Topic Unloaded", success=answer.success)


app.command("describe", help=topic_details.DESCRIBE_HELP)(topic_details.describe)
app.command("segments", help=topic_details.SEGMENTS_HELP)(topic_details.segments)


@app.command("subscriptions")
def subscriptions(
    context: typer.Context, topic: Topic, endpoint: Endpoint = None, output: Output = None
) -> None:
    """List the subscriptions of a topic."""
    with admin(context, endpoint) as call:
        request = wire.TopicRequest(name=topic)
        answer = call("/danube_admin.TopicAdmin/ListSubscriptions", request, wire.SubscriptionListResponse)
    show_quoted(form_of(context, output), "Subscriptions", answer.subscriptions)


@app.command("unsubscribe")
def unsubscribe(
    context: typer.Context,
    topic: Topic,
    subscription: Annotated[str, typer.Option("--subscription", "-s", metavar="NAME")],
    endpoint: Endpoint = None,
    output: Output = None,
) -> None:
    """Delete a subscription that has no consumer."""
    with admin(context, endpoint) as call:
        request = wire.SubscriptionRequest(topic=topic, subscription=subscription)
        answer = call("/danube_admin.TopicAdmin/Unsubscribe", request, wire.SubscriptionResponse)
    show_success(form_of(context, output), "Unsubscribed", success=answer.success)


@app.command("policies")
def show(context: typer.Context, topic: Topic, endpoint: Endpoint = None, output: Output = None) -> None:
    """Show the policies in force for a topic."""
    with admin(context, endpoint) as call:
        request = platform.GetTopicPoliciesRequest(topic=topic)
        answer = call("/danube_platform.PolicyAdmin/GetTopicPolicies", request, platform.PoliciesResponse)
    show_policies(form_of(context, output), answer.policies)


@app.command("set-policies")
def set_policies(
    context: typer.Context,
    topic: Topic,
    max_producers_per_topic: policies.MaxProducersPerTopic = None,
    max_subscriptions_per_topic: policies.MaxSubscriptionsPerTopic = None,
    max_consumers_per_topic: policies.MaxConsumersPerTopic = None,
    max_consumers_per_subscription: policies.MaxConsumersPerSubscription = None,
    max_publish_rate: policies.MaxPublishRate = None,
    max_dispatch_rate: policies.MaxDispatchRate = None,
    max_subscription_dispatch_rate: policies.MaxSubscriptionDispatchRate = None,
    max_message_size: policies.MaxMessageSize = None,
    max_retained_mb: policies.MaxRetainedMb = None,
    clear: policies.Clear = False,
    endpoint: Endpoint = None,
    output: Output = None,
) -> None:
    """Set a topic's policies; what is not given stays as it is.

    What was never set is inherited from the namespace. 0 means unlimited. Prints the policies then in
    force.
    """
    given = policies.GivenPolicies(
        max_producers_per_topic=max_producers_per_topic,
        max_subscriptions_per_topic=max_subscriptions_per_topic,
        max_consumers_per_topic=max_consumers_per_topic,
        max_consumers_per_subscription=max_consumers_per_subscription,
        max_publish_rate=max_publish_rate,
        max_dispatch_rate=max_dispatch_rate,
        max_subscription_dispatch_rate=max_subscription_dispatch_rate,
        max_message_size=max_message_size,
        max_retained_mb=max_retained_mb,
    ).to_wire(clear=clear)
    with admin(context, endpoint) as call:
        request = platform.SetTopicPoliciesRequest(topic=topic, policies=given, clear=clear)
        answer = call("/danube_platform.PolicyAdmin/SetTopicPolicies", request, platform.PoliciesResponse)
    show_policies(form_of(context, output), answer.policies)


def create_topic(call: Call, topic: str, schema_type: str, schema_data: str, strategy: str) -> bool:
    request = wire.NewTopicRequest(
        name=topic, schema_type=schema_type, schema_data=schema_data, dispatch_strategy=strategy
    )
    return call("/danube_admin.TopicAdmin/CreateTopic", request, wire.TopicResponse).success


def check_schema(schema_type: str, schema_data: str) -> None:
    """Accepts a schema as far as that can be said here.

    Raises:
        typer.BadParameter: an unknown type, or a JSON Schema that is not even JSON.
    """
    kind = schema_type.lower()
    if kind not in ("bytes", "string", "int64", "json"):
        raise typer.BadParameter(
            f"{schema_type!r} is none of Bytes, String, Int64 and JSON", param_hint="'--schema-type'"
        )
    if kind == "json":
        try:
            json.loads(schema_data)
        except json.JSONDecodeError as error:
            raise typer.BadParameter(f"not JSON: {error}", param_hint="'--schema-data'") from error
