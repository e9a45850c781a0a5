"""``danube-admin brokers``."""

from __future__ import annotations

import sys
import time
from typing import Annotated

import typer

from danube_admin_cli.commands import Commands, Session
from danube_admin_cli.namespaces import list_namespaces
from danube_admin_cli.outcome import FAILED, Yes, confirm, give_up
from danube_admin_cli.printing import show_figures, show_json, show_success, show_table, show_value
from danube_proto import danube_admin_pb2 as wire
from danube_proto import danube_platform_pb2 as platform
from danube_terminal.choices import Form
from danube_terminal.plain import plain

commands = Commands()

COLUMNS = {
    "broker_id": "BROKER ID",
    "broker_role": "ROLE",
    "broker_addr": "ADDRESS",
    "broker_status": "STATUS",
}
LOAD_COLUMNS = {
    "bundles": "BUNDLES",
    "topics": "TOPICS",
    "subscriptions": "SUBSCRIPTIONS",
    "in_messages": "IN MSG/S",
    "out_messages": "OUT MSG/S",
    "behind": "BEHIND",
    "unacked": "UNACKED",
    "cpu_percent": "CPU %",
    "memory_mb": "MEMORY MB",
}
MOVE_COLUMNS = {
    "topic_name": "BUNDLE",
    "from_broker": "FROM",
    "to_broker": "TO",
    "estimated_load": "LOAD",
    "reason": "REASON",
}
BALANCE_COLUMNS = {
    "broker_id": "BROKER ID",
    "load": "LOAD",
    "topic_count": "TOPICS",
    "verdict": "VERDICT",
}
STEP_S = 2
"""How often progress is shown."""

Broker = Annotated[
    str | None,
    typer.Argument(metavar="[BROKER]", help="The id of a topic-owner, as brokers list shows it."),
]
BrokerId = Annotated[str | None, typer.Option("--broker-id", metavar="BROKER", help="The same as an option.")]

NOT_BY_NAMESPACE = "Refused: topics move in bundles, which hold topics of all namespaces."

LIST_HELP = """List what runs: gateways, admin instances, topic-owners and storage instances.

ADDRESS is where clients connect (gateway) or danube-admin does (admin, leading admin); the others are
reached over NATS only. The loads are those of topic-owners, which carry the topics: their ids are what
unload and activate take. -o json also tells where the leading admin is (admin_addr), and where each
instance serves health and metrics (metrics_addr).
"""


@commands.command("list", help_text=LIST_HELP)
def list_brokers(session: Session) -> None:
    """List the instances with their addresses, roles, states and loads."""
    answer = session.call(
        "/danube_platform.Instances/ListInstances",
        platform.ListInstancesRequest(),
        platform.ListInstancesResponse,
    )
    told = session.call(
        "/danube_platform.LoadAdmin/ListBrokerLoads",
        platform.BrokerLoadsRequest(),
        platform.BrokerLoadsResponse,
    )
    loads = {load.broker_id: load for load in told.brokers}
    admin_addr = next((one.address for one in answer.instances if one.kind == "admin" and one.leading), "-")
    rows = [
        instance_row(one) | {"admin_addr": admin_addr} | load_row(loads.get(one.instance_id))
        for one in answer.instances
    ]
    show_table(session.form, COLUMNS | LOAD_COLUMNS, rows)


@commands.command("leader-broker")
def leader_broker(session: Session) -> None:
    """Show the id of the leading admin instance, as brokers list does, or not_found."""
    answer = session.call("/danube_admin.BrokerAdmin/GetLeaderBroker", wire.Empty(), wire.BrokerResponse)
    show_value(session.form, "Leader Broker", "leader", answer.leader)


commands.command("namespaces")(list_namespaces)


@commands.command("unload")
def unload(
    session: Session,
    broker: Broker = None,
    broker_id: BrokerId = None,
    max_parallel: Annotated[
        int, typer.Option("--max-parallel", min=1, max=64, help="Bundles that move at the same time.")
    ] = 1,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count what would move.")] = False,
    timeout_s: Annotated[
        int,
        typer.Option("--timeout-seconds", min=0, help="How long to wait; the move goes on after that."),
    ] = 60,
    namespaces_include: Annotated[
        list[str] | None, typer.Option("--namespaces-include", metavar="NAMESPACE", help=NOT_BY_NAMESPACE)
    ] = None,
    namespaces_exclude: Annotated[
        list[str] | None, typer.Option("--namespaces-exclude", metavar="NAMESPACE", help=NOT_BY_NAMESPACE)
    ] = None,
    yes: Yes = False,
) -> None:
    """Move all topics off a broker; it gets no new ones until it is activated.

    Topics move in bundles; the figures count bundles. Clients stay connected.
    """
    identifier = _named(broker, broker_id)
    if not dry_run:
        confirm(f"Move all topics off broker {identifier}, and let it take none?", yes=yes)
    deadline = time.monotonic() + timeout_s
    while True:
        left_s = max(0, round(deadline - time.monotonic()))
        request = wire.UnloadBrokerRequest(
            broker_id=identifier,
            namespaces_include=_split(namespaces_include),
            namespaces_exclude=_split(namespaces_exclude),
            max_parallel=max_parallel,
            dry_run=dry_run,
            timeout_seconds=min(left_s, STEP_S),
        )
        answer = session.call("/danube_admin.BrokerAdmin/UnloadBroker", request, wire.UnloadBrokerResponse)
        if dry_run or not answer.pending or not left_s:
            break
        sys.stderr.write(f"{answer.succeeded} of {answer.total} bundles handed over\n")
    fields = ("started", "total", "succeeded", "failed", "pending")
    show_figures(session.form, {field: getattr(answer, field) for field in fields})
    if answer.pending and not dry_run:
        give_up(f"{answer.pending} bundles are not handed over yet; it goes on", FAILED)


@commands.command("activate")
def activate(
    session: Session,
    broker: Broker = None,
    broker_id: BrokerId = None,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; not stored.")] = "",
) -> None:
    """Allow a broker that was unloaded to take topics again."""
    request = wire.ActivateBrokerRequest(broker_id=_named(broker, broker_id), reason=reason)
    answer = session.call("/danube_admin.BrokerAdmin/ActivateBroker", request, wire.ActivateBrokerResponse)
    show_success(session.form, "Broker Activated", success=answer.success)


@commands.command("balance")
def balance(session: Session) -> None:
    """Show how evenly the brokers are loaded, measured by the configured load strategy."""
    answer = session.call(
        "/danube_admin.BrokerAdmin/GetClusterBalance",
        wire.ClusterBalanceRequest(),
        wire.ClusterBalanceResponse,
    )
    if session.form is Form.json:
        show_json(plain(answer) | {"verdict": verdict(answer.coefficient_of_variation)})
        return
    brokers = [
        {
            "broker_id": str(one.broker_id),
            "load": f"{one.load:.3f}",
            "topic_count": str(one.topic_count),
            "verdict": "overloaded" if one.is_overloaded else "underloaded" if one.is_underloaded else "even",
        }
        for one in answer.brokers
    ]
    figures = {
        "assignment_strategy": answer.assignment_strategy,
        "coefficient_of_variation": round(answer.coefficient_of_variation, 2),
        "verdict": verdict(answer.coefficient_of_variation),
        "mean_load": round(answer.mean_load, 4),
        "max_load": round(answer.max_load, 4),
        "min_load": round(answer.min_load, 4),
        "broker_count": answer.broker_count,
    }
    show_figures(session.form, figures, BALANCE_COLUMNS, brokers, "brokers")


@commands.command("rebalance")
def rebalance(
    session: Session,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would move.")] = False,
    max_moves: Annotated[
        int | None,
        typer.Option("--max-moves", min=1, max=1000, help="Bundles that move at most; default 10."),
    ] = None,
) -> None:
    """Move bundles of topics between brokers until their loads are even enough."""
    request = wire.RebalanceRequest(dry_run=dry_run, max_moves=max_moves)
    answer = session.call("/danube_admin.BrokerAdmin/TriggerRebalance", request, wire.RebalanceResponse)
    moves = [
        {field: str(getattr(move, field)) for field in MOVE_COLUMNS}
        | {"estimated_load": f"{move.estimated_load:.3f}"}
        for move in answer.proposed_moves
    ]
    show_figures(
        session.form, {"moves_executed": answer.moves_executed}, MOVE_COLUMNS, moves, "proposed_moves"
    )
    if not answer.success:
        give_up(answer.error_message or "the admin service says it did not do it", FAILED)


def _named(argument: str | None, option: str | None) -> str:
    """Return the broker that is named by an argument or an option. Raises BadParameter."""
    names = {name for name in (argument, option) if name}
    if len(names) != 1:
        raise typer.BadParameter("name one broker, as BROKER or with --broker-id", param_hint="'BROKER'")
    return names.pop()


def _split(values: list[str] | None) -> list[str]:
    """Return the names of options that may be repeated, or have several with commas between them."""
    return [name for value in values or () for name in value.split(",") if name]


def instance_row(instance: platform.Instance) -> dict[str, str]:
    """Return the columns that say which instance it is; a dash without an address."""
    return {
        "broker_id": instance.instance_id,
        "broker_role": f"leading {instance.kind}" if instance.leading else instance.kind,
        "broker_addr": instance.address or "-",
        "broker_status": instance.status,
        "metrics_addr": instance.http_url,
    }


def load_row(load: platform.BrokerLoad | None) -> dict[str, str]:
    """Return the columns of a broker's last load report; dashes without a recent report."""
    if load is None:
        return dict.fromkeys(LOAD_COLUMNS, "-")
    total = load.total
    return {
        "bundles": str(len(load.bundles)),
        "topics": str(total.topics),
        "subscriptions": str(total.subscriptions),
        "in_messages": f"{total.in_messages:.0f}",
        "out_messages": f"{total.out_messages:.0f}",
        "behind": str(total.behind),
        "unacked": str(total.unacked),
        "cpu_percent": f"{load.cpu_percent:.1f}",
        "memory_mb": f"{load.memory_bytes / 1e6:.0f}",
    }


def verdict(variation_percent: float) -> str:
    """Return a word for a coefficient of variation."""
    for bound, word in ((20, "well balanced"), (30, "balanced"), (40, "imbalanced")):
        if variation_percent <= bound:
            return word
    return "severely imbalanced"
