"""``danube-admin events``."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated, Final

import typer

from danube_admin_cli.commands import Commands, Session
from danube_admin_cli.printing import show_json, show_text
from danube_proto import danube_operations_pb2 as wire
from danube_terminal.choices import Form
from danube_terminal.plain import moment, plain

WATCH: Final = "/danube_operations.Events/Watch"
SECONDS_MAX: Final = 3600

EVENTS_HELP = """Follow what happens in the cluster: instances, owners of bundles, leaders, drains, faults.

It begins with the faults that there are, and ends with Ctrl-C or after --seconds. Faults are what the
admin service finds for doctor; it looks every 30 s.

\b
Examples:
  danube-admin events
  danube-admin events -o json | jq 'select(.kind == "owner-changed")'
"""
Seconds = Annotated[
    float | None, typer.Option("--seconds", min=0.1, max=SECONDS_MAX, metavar="S", help="End after so long.")
]


def add_to(commands: Commands) -> None:
    """Add the command."""
    commands.command("events", help_text=EVENTS_HELP)(events)


def events(session: Session, seconds: Seconds = None) -> None:
    """Follow what happens in the cluster."""
    with suppress(KeyboardInterrupt):
        for event in session.stream(WATCH, wire.WatchRequest(), wire.ClusterEvent, timeout_s=seconds):
            if session.form is Form.json:
                show_json(plain(event))
            else:
                show_text(f"{moment(event.at_ms)} {event.kind:<15} {event.subject}: {event.text}")
