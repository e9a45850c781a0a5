"""``danube-admin cluster``."""

from __future__ import annotations

from typing import Annotated

import typer

from danube_admin_cli.commands import Commands, Session
from danube_admin_cli.outcome import FAILED, give_up
from danube_admin_cli.printing import show_json, show_section, show_text
from danube_proto import danube_admin_pb2 as wire
from danube_terminal.choices import UINT64_MAX, Form
from danube_terminal.plain import plain

commands = Commands()

SERVICE = "/danube_admin.ClusterAdmin"
Node = Annotated[
    int, typer.Option("--node-id", min=1, max=UINT64_MAX, metavar="ID", help="As brokers list shows it.")
]

STATUS_HELP = """Show the leader election among the admin instances.

There is no Raft here: the metadata store has the consensus. The term counts elections, voters are the living
admin instances, and last applied is the revision of the metadata store.

\b
Examples:
  danube-admin cluster status
  danube-admin cluster status -o json | jq .leader_id
"""


@commands.command("status", help_text=STATUS_HELP)
def status(session: Session) -> None:
    """Show the leader election among the admin instances."""
    answer = session.call(f"{SERVICE}/ClusterStatus", wire.Empty(), wire.ClusterStatusResponse)
    if session.form is Form.json:
        show_json(plain(answer))
        return
    lines = {
        "Self node id": str(answer.self_node_id),
        "Raft address": answer.raft_addr or "-",
        "Leader": str(answer.leader_id) if answer.leader_id else "none",
        "Term": str(answer.current_term),
        "Last applied": str(answer.last_applied),
        "Voters": ", ".join(map(str, answer.voters)) or "-",
        "Learners": ", ".join(map(str, answer.learners)) or "-",
    }
    show_section("Cluster Status:", lines)


@commands.command("add-node")
def add_node(
    session: Session,
    node_addr: Annotated[str, typer.Option("--node-addr", metavar="URL", help="The node's address.")],
) -> None:
    """Tell whether a node is a member, and how it becomes one: instances join by themselves."""
    request = wire.AddNodeRequest(addr=node_addr)
    _show(session, session.call(f"{SERVICE}/AddNode", request, wire.AddNodeResponse))


@commands.command("promote-node")
def promote_node(session: Session, node_id: Node) -> None:
    """Tell whether a node may lead, as every admin instance does."""
    request = wire.NodeRequest(node_id=node_id)
    _show(session, session.call(f"{SERVICE}/PromoteNode", request, wire.NodeResponse))


@commands.command("remove-node")
def remove_node(session: Session, node_id: Node) -> None:
    """Tell how a node leaves: instances leave by themselves when they are stopped."""
    request = wire.NodeRequest(node_id=node_id)
    _show(session, session.call(f"{SERVICE}/RemoveNode", request, wire.NodeResponse))


def _show(session: Session, answer: wire.AddNodeResponse | wire.NodeResponse) -> None:
    if session.form is Form.json:
        show_json(plain(answer))
    elif answer.success:
        show_text(answer.message)
    if not answer.success:
        give_up(answer.message, FAILED)
