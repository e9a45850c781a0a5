"""``danube-admin namespaces``."""

from __future__ import annotations

from typing import Annotated

import typer

from danube_admin_cli import policies
from danube_admin_cli.admin import Endpoint, Output, admin, form_of
from danube_admin_cli.printing import show_lines, show_policies, show_success
from danube_proto import danube_admin_pb2 as wire
from danube_proto import danube_platform_pb2 as platform

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

Namespace = Annotated[str, typer.Argument(metavar="NAMESPACE")]


@app.command("topics")
def topics(
    context: typer.Context, namespace: Namespace, endpoint: Endpoint = None, output: Output = None
) -> None:
    """List the topics of a namespace."""
    with admin(context, endpoint) as call:
        request = wire.NamespaceRequest(name=namespace)
        answer = call("/danube_admin.NamespaceAdmin/GetNamespaceTopics", request, wire.TopicListResponse)
    show_lines(form_of(context, output), "Topic", answer.topics)


@app.command("policies")
def show(
    context: typer.Context, namespace: Namespace, endpoint: Endpoint = None, output: Output = None
) -> None:
    """Show the policies in force in a namespace."""
    with admin(context, endpoint) as call:
        request = platform.GetNamespacePoliciesRequest(namespace=namespace)
        answer = call("/danube_platform.PolicyAdmin/GetNamespacePolicies", request, platform.PoliciesResponse)
    show_policies(form_of(context, output), answer.policies)


@app.command("create")
def create(
    context: typer.Context, namespace: Namespace, endpoint: Endpoint = None, output: Output = None
) -> None:
    """Create a namespace."""
    with admin(context, endpoint) as call:
        request = wire.NamespaceRequest(name=namespace)
        answer = call("/danube_admin.NamespaceAdmin/CreateNamespace", request, wire.NamespaceResponse)
    show_success(form_of(context, output), "Namespace Created", success=answer.success)


@app.command("delete")
def delete(
    context: typer.Context, namespace: Namespace, endpoint: Endpoint = None, output: Output = None
) -> None:
    """Delete a namespace that has no topics."""
    with admin(context, endpoint) as call:
        request = wire.NamespaceRequest(name=namespace)
        answer = call("/danube_admin.NamespaceAdmin/DeleteNamespace", request, wire.NamespaceResponse)
    show_success(form_of(context, output), "Namespace Deleted", success=answer.success)


@app.command("set-policies")
def set_policies(
    context: typer.Context,
    namespace: Namespace,
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
    """Set a namespace's policies; what is not given stays as it is.

    What was never set is inherited from the cluster. 0 means unlimited. Prints the policies then in
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
        request = platform.SetNamespacePoliciesRequest(namespace=namespace, policies=given, clear=clear)
        answer = call("/danube_platform.PolicyAdmin/SetNamespacePolicies", request, platform.PoliciesResponse)
    show_policies(form_of(context, output), answer.policies)
