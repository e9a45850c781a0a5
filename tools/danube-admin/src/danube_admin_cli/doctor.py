"""``danube-admin doctor``."""

from __future__ import annotations

import json
import socket
import time
import urllib.request
from collections.abc import Iterator
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

import typer

from danube_admin_cli.commands import Commands, Session
from danube_admin_cli.outcome import USAGE, give_up
from danube_admin_cli.printing import show_json, show_text
from danube_proto import danube_operations_pb2 as wire
from danube_proto import danube_platform_pb2 as platform
from danube_terminal.choices import Form
from danube_terminal.plain import plain

EXAMINE: Final = "/danube_operations.Doctor/Examine"
INSTANCES: Final = "/danube_platform.Instances/ListInstances"
CONNECT_TIMEOUT_S: Final = 3.0
CLOCK_MS_MAX: Final = 500

DOCTOR_HELP = """Look at the whole cluster, and say what is wrong and what to do.

Services, versions, clocks, disks, logs and journals near their bounds, subscriptions that wait,
under-replicated segments and streams, certificates, limits of the kernel; from this machine also the clock
and the ports of the gateways. Exit code 1 when something is wrong.

\b
Examples:
  danube-admin doctor
  danube-admin doctor --nats-monitor http://127.0.0.1:8222
  danube-admin doctor -o json | jq '.findings[] | select(.severity == "PROBLEM")'
"""
Monitor = Annotated[
    str | None,
    typer.Option("--nats-monitor", metavar="URL", help="NATS's monitoring port; tells of sync_interval."),
]


def add_to(commands: Commands) -> None:
    """Add the command."""
    commands.command("doctor", help_text=DOCTOR_HELP)(doctor)


def doctor(session: Session, nats_monitor: Monitor = None) -> None:
    """Look at the whole cluster, and say what is wrong and what to do."""
    sent_ms = _now_ms()
    answer = session.call(EXAMINE, wire.ExamineRequest(), wire.ExamineResponse)
    received_ms = _now_ms()
    found = list(answer.findings)
    found += _own_clock(answer.now_ms, sent_ms, received_ms)
    instances = session.call(INSTANCES, platform.ListInstancesRequest(), platform.ListInstancesResponse)
    # Admin instances may stand behind a balancer: the one that answered is enough.
    found += _ports([one for one in instances.instances if one.kind == "gateway" and one.address])
    found += _nats(nats_monitor)
    found.sort(key=lambda one: (-one.severity, one.check, one.subject))
    checks = [*answer.checks, "clock of this machine", "ports", "sync_interval of NATS"]
    wrong = [one for one in found if one.severity > wire.Finding.UNSEEN]
    if session.form is Form.json:
        shown = [plain(one) | {"severity": wire.Finding.Severity.Name(one.severity)} for one in found]
        show_json({"healthy": not wrong, "checks": checks, "findings": shown})
    else:
        for one in found:
            severity = wire.Finding.Severity.Name(one.severity).lower()
            show_text(f"{severity:<8} {one.subject}: {one.problem}\n         -> {one.advice}")
        show_text(f"Looked at: {', '.join(checks)}.")
        show_text(f"{len(wrong)} findings." if wrong else "Nothing is wrong.")
    if wrong:
        raise typer.Exit(1)


def _own_clock(told_ms: int, sent_ms: int, received_ms: int) -> Iterator[wire.Finding]:
    ahead_ms = max(sent_ms - told_ms, told_ms - received_ms, 0)
    if ahead_ms > CLOCK_MS_MAX:
        yield wire.Finding(
            severity=wire.Finding.WARNING,
            check="clocks",
            subject="this machine",
            problem=f"its clock differs by {ahead_ms / 1000:.1f} s from the admin instance's",
            advice="run an NTP client on all machines",
        )


def _ports(gateways: list[platform.Instance]) -> Iterator[wire.Finding]:
    for one in gateways:
        address = urlsplit(one.address)
        port = address.port or (443 if address.scheme == "https" else 80)
        try:
            socket.create_connection((address.hostname or "", port), CONNECT_TIMEOUT_S).close()
        except OSError as error:
            yield wire.Finding(
                severity=wire.Finding.PROBLEM,
                check="ports",
                subject=f"gateway {one.instance_id}",
                problem=f"{one.address} cannot be reached from this machine: {error.strerror or error}",
                advice="open the port, or set the address that clients reach (--advertised-url)",
            )


def _nats(monitor: str | None) -> Iterator[wire.Finding]:
    if monitor is None:
        yield wire.Finding(
            severity=wire.Finding.UNSEEN,
            check="nats",
            subject="nats",
            problem="its sync_interval was not looked at",
            advice="give its monitoring port (http_port there): --nats-monitor http://host:8222",
        )
        return
    if not monitor.startswith(("http://", "https://")):
        give_up(f"{monitor!r}: the monitoring port is http://host:port", USAGE)
    try:
        with urllib.request.urlopen(f"{monitor.rstrip('/')}/jsz?config=1", timeout=CONNECT_TIMEOUT_S) as told:  # noqa: S310 - the scheme was checked
            config: dict[str, Any] = json.load(told).get("config") or {}
    except (OSError, ValueError) as error:
        give_up(f"{monitor} does not answer as NATS's monitoring port does: {error}")
    if not config.get("sync_always"):
        seconds = int(config.get("sync_interval", 0)) / 1e9
        yield wire.Finding(
            severity=wire.Finding.PROBLEM,
            check="nats",
            subject="nats",
            problem=f"it syncs its files every {seconds:g} s: a crash can lose messages that were answered",
            advice="set sync_interval: always in its jetstream block",
        )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
