"""``danube-admin topics``."""

from __future__ import annotations

from typing import Annotated

import typer

from danube_admin_cli import dispatch_config, failure_policy, topic_details, topic_lists, topic_schemas
from danube_admin_cli.commands import Commands, Session
from danube_admin_cli.outcome import Yes, confirm
from danube_admin_cli.policies import PolicyOptions
from danube_admin_cli.printing import show_policies, show_quoted, show_success
from danube_admin_cli.topic_options import Topic, TopicOptions
from danube_proto import danube_admin_pb2 as wire
from danube_proto import danube_platform_pb2 as platform

commands = Commands()

PARTITIONS_MAX = 10_000
PARTITIONS_PER_CALL = 1000
CREATE_HELP = """Create a topic, with --partitions in partitions.

\b
Examples:
  danube-admin topics create /orders/new
  danube-admin topics create new --namespace orders --partitions 8
  danube-admin topics create /orders/new --schema-subject orders --dispatch-strategy reliable
"""


commands.command("list", help_text=topic_lists.LIST_HELP)(topic_lists.list_topics)


@commands.command("create", help_text=CREATE_HELP)
def create(
    session: Session,
    topic: Topic,
    options: TopicOptions,
    partitions: Annotated[
        int | None,
        typer.Option("--partitions", metavar="N", min=1, max=PARTITIONS_MAX, help="In so many partitions."),
    ] = None,
    schema_subject: Annotated[
        str | None,
        typer.Option("--schema-subject", metavar="SUBJECT", help="Its subject of the schema registry."),
    ] = None,
) -> None:
    """Create a topic."""
    if schema_subject is not None:
        _create_with_subject(session, topic, options, partitions, schema_subject)
    elif partitions is not None:
        create_partitioned(session, topic, partitions, options)
    else:
        request = wire.NewTopicRequest(name=topic, **options.to_wire())
        answer = session.call("/danube_admin.TopicAdmin/CreateTopic", request, wire.TopicResponse)
        show_success(session.form, "Topic Created", success=answer.success)


def _create_with_subject(
    session: Session, topic: str, options: TopicOptions, partitions: int | None, subject: str
) -> None:
    strategy = options.plain_strategy()
    if partitions is None:
        method = "CreateTopic"
        request: wire.NewTopicRequestCurrent | wire.PartitionedTopicRequest = wire.NewTopicRequestCurrent(
            name=topic, schema_subject=subject, dispatch_strategy=strategy
        )
    else:
        method = "CreatePartitionedTopic"
        request = wire.PartitionedTopicRequest(
            base_name=topic, partitions=partitions, schema_subject=subject, dispatch_strategy=strategy
        )
    answer = session.call(f"/danube_admin.TopicAdmin/{method}", request, wire.TopicResponse)
    show_success(session.form, "Topic Created", success=answer.success)


@commands.command("grow")
def grow(
    session: Session,
    topic: Topic,
    partitions: Annotated[
        int,
        typer.Option("--partitions", metavar="N", min=1, max=PARTITIONS_MAX, help="How many then."),
    ],
) -> None:
    """Add partitions to a partitioned topic until it has N. They have the subscriptions of the first one.

    Producers and consumers use the new partitions when they are started again.
    """
    request = platform.GrowTopicRequest(topic=topic, partitions=partitions)
    answer = session.call("/danube_platform.PartitionAdmin/GrowTopic", request, platform.GrowTopicResponse)
    show_success(session.form, "Topic Grown", success=answer.success)


@commands.command("create-partitioned")
def create_partitioned(
    session: Session,
    topic: Topic,
    partitions: Annotated[int, typer.Argument(metavar="N", min=1, max=PARTITIONS_MAX)],
    options: TopicOptions,
) -> None:
    """Create the topics TOPIC-part-0 to TOPIC-part-(N-1), a thousand at a time."""
    given = options.to_wire()
    for first in range(0, partitions, PARTITIONS_PER_CALL):
        request = platform.CreatePartitionsRequest(
            topic=topic,
            first=first,
            partitions=min(PARTITIONS_PER_CALL, partitions - first),
            **given,
        )
        answer = session.call(
            "/danube_platform.PartitionAdmin/CreatePartitions",
            request,
            platform.CreatePartitionsResponse,
        )
        for _part in range(request.partitions):
            show_success(session.form, "Topic Created", success=answer.success)


@commands.command("delete")
def delete(session: Session, topic: Topic, yes: Yes = False) -> None:
    """Delete a topic, or a partitioned topic with all partitions, with its messages and subscriptions."""
    confirm(f"Delete {topic} with its messages and subscriptions?", yes=yes)
    answer = session.call(
        "/danube_admin.TopicAdmin/DeleteTopic", wire.TopicRequest(name=topic), wire.TopicResponse
    )
    show_success(session.form, "Topic Deleted", success=answer.success)


@commands.command("unload")
def unload(session: Session, topic: Topic) -> None:
    """Move a topic to another broker, with all topics of its bundle. Clients stay connected."""
    answer = session.call(
        "/danube_admin.TopicAdmin/UnloadTopic", wire.TopicRequest(name=topic), wire.TopicResponse
    )
    show_success(session.form, "Topic Unloaded", success=answer.success)


commands.command("describe", help_text=topic_details.DESCRIBE_HELP)(topic_details.describe)
commands.command("segments", help_text=topic_details.SEGMENTS_HELP)(topic_details.segments)
commands.command("configure-schema", help_text=topic_schemas.CONFIGURE_HELP)(topic_schemas.configure)
commands.command("set-validation-policy")(topic_schemas.set_policy)
commands.command("get-schema-config")(topic_schemas.show)


@commands.command("subscriptions")
def subscriptions(session: Session, topic: Topic) -> None:
    """List the subscriptions of a topic, or of all its partitions together."""
    request = wire.TopicRequest(name=topic)
    answer = session.call(
        "/danube_admin.TopicAdmin/ListSubscriptions", request, wire.SubscriptionListResponse
    )
    show_quoted(session.form, "Subscriptions", list(answer.subscriptions))


@commands.command("unsubscribe")
def unsubscribe(
    session: Session,
    topic: Topic,
    subscription: Annotated[str, typer.Option("--subscription", "-s", metavar="NAME")],
    yes: Yes = False,
) -> None:
    """Delete a subscription that has no consumer."""
    confirm(f"Delete subscription {subscription} of {topic}?", yes=yes)
    request = wire.SubscriptionRequest(topic=topic, subscription=subscription)
    answer = session.call("/danube_admin.TopicAdmin/Unsubscribe", request, wire.SubscriptionResponse)
    show_success(session.form, "Unsubscribed", success=answer.success)


commands.command("set-dispatch-config", help_text=dispatch_config.SET_HELP)(dispatch_config.set_config)
commands.command("get-dispatch-config")(dispatch_config.get_config)
commands.command("set-failure-policy", help_text=failure_policy.SET_HELP)(failure_policy.set_failure_policy)
commands.command("get-failure-policy", help_text=failure_policy.GET_HELP)(failure_policy.get_failure_policy)


@commands.command("policies")
def show(session: Session, topic: Topic) -> None:
    """Show the policies in force for a topic."""
    request = platform.GetTopicPoliciesRequest(topic=topic)
    answer = session.call("/danube_platform.PolicyAdmin/GetTopicPolicies", request, platform.PoliciesResponse)
    show_policies(session.form, answer.policies)


@commands.command("set-policies")
def set_policies(session: Session, topic: Topic, policies: PolicyOptions) -> None:
    """Set a topic's policies; what is not given stays as it is.

    What was never set is inherited from the namespace. 0 means unlimited. Prints the policies then in
    force.
    """
    request = platform.SetTopicPoliciesRequest(topic=topic, policies=policies.to_wire(), clear=policies.clear)
    answer = session.call("/danube_platform.PolicyAdmin/SetTopicPolicies", request, platform.PoliciesResponse)
    show_policies(session.form, answer.policies)
