"""``danube-admin subscriptions``."""

from __future__ import annotations

from typing import Annotated

import typer

from danube_admin_cli.commands import Commands, Session
from danube_admin_cli.outcome import Yes, confirm
from danube_admin_cli.printing import show_json, show_table
from danube_admin_cli.topic_options import Topic
from danube_proto import danube_platform_pb2 as platform
from danube_terminal.choices import Form
from danube_terminal.plain import plain

commands = Commands()

COLUMNS = {"topic": "TOPIC", "mark_delete": "ACKNOWLEDGED THROUGH"}

RESET_HELP = """Move a subscription back or forward.

Where to: earliest, latest, -N (the last N messages), a position, a time such as 2026-11-23T10:00:00Z (UTC
if it does not say) or how long ago: 90s, 15m, 2h, 7d. If that message is no longer retained, the
subscription goes on at the oldest retained message.

The streams of its consumers end; they go on from there when they subscribe again. Later messages are
delivered again, also those that were acknowledged. Of a partitioned topic, every partition is moved.

\b
Examples:
  danube-admin subscriptions reset /default/orders billing --to earliest
  danube-admin subscriptions reset /default/orders billing --to -100
  danube-admin subscriptions reset /default/orders billing --to 2h
  danube-admin subscriptions reset /default/orders billing --to 2026-11-23T10:00:00Z -o json
"""


@commands.app.callback()
def root() -> None:
    """One command is still a group of commands."""


@commands.command("reset", help_text=RESET_HELP)
def reset(
    session: Session,
    topic: Topic,
    subscription: Annotated[str, typer.Argument(metavar="SUBSCRIPTION")],
    to: Annotated[str, typer.Option("--to", metavar="WHERE", help="Where it goes on; see above.")],
    yes: Yes = False,
) -> None:
    """Move a subscription's cursor back or forward."""
    from danube_client import Start  # noqa: PLC0415 - slow to import, help needs nothing of it

    try:
        start = Start.parse(to).to_wire()
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="'--to'") from None
    confirm(f"Move subscription {subscription} of {topic} to {to}?", yes=yes)
    answer = session.call(
        "/danube_platform.TopicDetails/ResetSubscription",
        platform.ResetSubscriptionRequest(topic=topic, subscription=subscription, start=start),
        platform.ResetSubscriptionResponse,
    )
    moved = [plain(each) for each in answer.places]
    if session.form is Form.json:
        show_json(moved)
    else:
        rows = [{field: str(each[field]) for field in COLUMNS} for each in moved]
        show_table(Form.table, COLUMNS, rows)
