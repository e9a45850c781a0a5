"""``danube-admin brokers``."""

from __future__ import annotations

import typer

from danube_admin_cli.admin import Endpoint, Output, admin, form_of
from danube_admin_cli.printing import show_lines, show_table, show_value
from danube_proto import danube_admin_pb2 as wire

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

COLUMNS = {"broker_id": "BROKER ID", "broker_addr": "BROKER ADDRESS", "broker_role": "BROKER ROLE"}


@app.command("list")
def list_brokers(context: typer.Context, endpoint: Endpoint = None, output: Output = None) -> None:
    """List the brokers with their addresses and roles."""
    with admin(context, endpoint) as call:
        answer = call("/danube_admin.BrokerAdmin/ListBrokers", wire.Empty(), wire.BrokerListResponse)
    rows = [{field: str(getattr(broker, field)) for field in COLUMNS} for broker in answer.brokers]
    show_table(form_of(context, output), COLUMNS, rows)


@app.command("leader-broker")
def leader_broker(context: typer.Context, endpoint: Endpoint = None, output: Output = None) -> None:
    """Show the leader's id, or not_found."""
    with admin(context, endpoint) as call:
        answer = call("/danube_admin.BrokerAdmin/GetLeaderBroker", wire.Empty(), wire.BrokerResponse)
    show_value(form_of(context, output), "Leader Broker", "leader", answer.leader)


@app.command("namespaces")
def list_namespaces(context: typer.Context, endpoint: Endpoint = None, output: Output = None) -> None:
    """List the namespaces."""
    with admin(context, endpoint) as call:
        answer = call("/danube_admin.BrokerAdmin/ListNamespaces", wire.Empty(), wire.NamespaceListResponse)
    show_lines(form_of(context, output), "Namespace", answer.namespaces)
