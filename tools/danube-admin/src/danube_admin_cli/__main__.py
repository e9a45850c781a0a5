"""The command line of ``danube-admin``."""

from __future__ import annotations

from danube_admin_cli import (
    backup,
    brokers,
    cluster,
    dead_letters,
    doctor,
    events,
    metrics,
    namespaces,
    schemas,
    security,
    subscriptions,
    top,
    topics,
)
from danube_admin_cli.admin import Endpoint, Output
from danube_admin_cli.commands import Commands
from danube_admin_cli.mcp import server as mcp_server
from danube_admin_cli.outcome import EXIT_CODES
from danube_terminal.command_line import Version, command_line
from danube_terminal.streams import run
from danube_terminal.tls_options import Ca, Cert, Key, ServerName, TokenFile

HELP = f"""Administer a Danube cluster.

\b
Examples:
  danube-admin brokers list
  danube-admin namespaces create orders
  danube-admin namespaces set-policies orders --max-publish-rate 1000 --max-message-size 1048576
  danube-admin topics create /orders/new -s JSON -d '{{"type": "object"}}' --dispatch-strategy reliable
  danube-admin topics create /orders/log --dispatch-strategy reliable --storage s3 --retention ack
  danube-admin topics create /orders/events --partitions 8
  danube-admin topics grow /orders/events --partitions 16
  danube-admin topics describe /orders/events
  danube-admin schemas register orders --file orders.avsc
  danube-admin subscriptions reset /orders/new billing --to 2h
  danube-admin dead-letters browse /orders/failed
  danube-admin topics subscriptions /orders/new -o json --endpoint http://admin.example:50051
  danube-admin backup create /backups/danube
  danube-admin doctor
  danube-admin top --once
  danube-admin metrics subscription_lag
  danube-admin security bindings create --principal user:al --role viewer --scope topic --resource '/orders/*'
  danube-admin security tokens create --subject alice --type user --secret-key-file token.secret
  danube-admin --ca ca.pem --token-file my.token --endpoint https://admin.example:50051 brokers list

\b
{EXIT_CODES}
"""

app = command_line("danube-admin", HELP, add_completion=False)
app.add_typer(brokers.commands.app, name="brokers", help="The brokers and their leader.")
app.add_typer(backup.commands.app, name="backup", help="Back the cluster up, and restore it.")
app.add_typer(cluster.commands.app, name="cluster", help="The leader election and the members.")
app.add_typer(namespaces.commands.app, name="namespaces", help="Namespaces and their policies.")
app.add_typer(topics.commands.app, name="topics", help="Topics, their segments and policies.")
app.add_typer(schemas.commands.app, name="schemas", help="The schema registry.")
app.add_typer(dead_letters.commands.app, name="dead-letters", help="Messages that failed too often.")
app.add_typer(security.app, name="security", help="Who may do what: roles, bindings, API keys, tokens.")
app.command("mcp", help=mcp_server.HELP)(mcp_server.mcp)
for name in ("serve", "server"):
    any_options = {"ignore_unknown_options": True, "allow_extra_args": True}
    app.command(name, hidden=True, context_settings=any_options)(mcp_server.serve)
app.add_typer(subscriptions.commands.app, name="subscriptions", help="The cursors of subscriptions.")

single = Commands(app)
for module in (doctor, events, metrics, top):
    module.add_to(single)


@app.callback()
def root(
    endpoint: Endpoint = None,
    output: Output = None,
    ca: Ca = None,
    cert: Cert = None,
    key: Key = None,
    server_name: ServerName = None,
    token_file: TokenFile = None,
    version: Version = False,
) -> None:
    """Take the options that every command takes as well, which win there, and those of TLS."""


def main() -> None:
    """Run the command line."""
    run(app)


if __name__ == "__main__":
    main()
