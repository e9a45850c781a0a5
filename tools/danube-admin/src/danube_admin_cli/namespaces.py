"""``danube-admin namespaces``."""

from __future__ import annotations

from typing import Annotated

import typer

from danube_admin_cli.commands import Commands, Session
from danube_admin_cli.outcome import Yes, confirm
from danube_admin_cli.policies import PolicyOptions
from danube_admin_cli.printing import show_lines, show_policies, show_success
from danube_proto import danube_admin_pb2 as wire
from danube_proto import danube_platform_pb2 as platform

commands = Commands()

Namespace = Annotated[str, typer.Argument(metavar="NAMESPACE")]


@commands.command("list")
def list_namespaces(session: Session) -> None:
    """List the namespaces."""
    answer = session.call(
        "/danube_admin.BrokerAdmin/ListNamespaces", wire.Empty(), wire.NamespaceListResponse
    )
    show_lines(session.form, "Namespace", answer.namespaces)


@commands.command("topics")
def topics(session: Session, namespace: Namespace) -> None:
    """List the topics of a namespace."""
    show_topics(session, "/danube_admin.NamespaceAdmin/GetNamespaceTopics", namespace)


def show_topics(session: Session, method: str, namespace: str) -> None:
    """Print the topics of a namespace, asked with ``method``."""
    answer = session.call(method, wire.NamespaceRequest(name=namespace), wire.TopicListResponse)
    show_lines(session.form, "Topic", answer.topics)


@commands.command("policies")
def show(session: Session, namespace: Namespace) -> None:
    """Show the policies in force in a namespace."""
    show_policies(session.form, _policies(session, namespace))


def _policies(session: Session, namespace: str) -> str:
    request = platform.GetNamespacePoliciesRequest(namespace=namespace)
    return session.call(
        "/danube_platform.PolicyAdmin/GetNamespacePolicies", request, platform.PoliciesResponse
    ).policies


@commands.command("create")
def create(session: Session, namespace: Namespace) -> None:
    """Create a namespace."""
    request = wire.NamespaceRequest(name=namespace)
    answer = session.call("/danube_admin.NamespaceAdmin/CreateNamespace", request, wire.NamespaceResponse)
    show_success(session.form, "Namespace Created", success=answer.success)


@commands.command("delete")
def delete(session: Session, namespace: Namespace, yes: Yes = False) -> None:
    """Delete a namespace that has no topics."""
    confirm(f"Delete namespace {namespace}?", yes=yes)
    request = wire.NamespaceRequest(name=namespace)
    answer = session.call("/danube_admin.NamespaceAdmin/DeleteNamespace", request, wire.NamespaceResponse)
    show_success(session.form, "Namespace Deleted", success=answer.success)


@commands.command("set-policies")
def set_policies(session: Session, namespace: Namespace, policies: PolicyOptions) -> None:
    """Set a namespace's policies; what is not given stays as it is.

    What was never set is inherited from the cluster. 0 means unlimited. Prints the policies then in
    force.
    """
    request = platform.SetNamespacePoliciesRequest(
        namespace=namespace, policies=policies.to_wire(), clear=policies.clear
    )
    answer = session.call(
        "/danube_platform.PolicyAdmin/SetNamespacePolicies", request, platform.PoliciesResponse
    )
    show_policies(session.form, answer.policies)
