"""``danube-admin subscriptions``."""

from __future__ import annotations

from typing import Annotated

import typer

from danube_admin_cli.admin import Endpoint, Form, Output, admin, form_of
from danube_admin_cli.names import topic_name
from danube_admin_cli.plain import plain
from danube_admin_cli.printing import show_json, show_table
from danube_admin_cli.start import FORMS, parse_start
from danube_proto import danube_platform_pb2 as platform

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

PLACE_COLUMNS = {"topic": "TOPIC", "mark_delete": "ACKNOWLEDGED THROUGH"}

RESET_HELP = f"""Move a subscription back or forward.

Where to: {FORMS}. What is not retained any more cannot be had: earliest is then where it begins.

The streams of its consumers end; they go on from there when they subscribe again. Messages after the place
come again, also those that were acknowledged. Of a partitioned topic, every partition is moved.

\b
Examples:
  danube-admin subscriptions reset /default/orders billing --to earliest
  danube-admin subscriptions reset /default/orders billing --to -100
  danube-admin subscriptions reset /default/orders billing --to 2h
  danube-admin subscriptions reset /default/orders billing --to 2026-11-23T10:00:00Z -o json
"""


@app.callback()
def root() -> None:
    """One command is still a group of commands."""


@app.command("reset", help=RESET_HELP)
def reset(
    context: typer.Context,
    topic: Annotated[str, typer.Argument(metavar="TOPIC", callback=topic_name, help="/namespace/topic")],
    subscription: Annotated[str, typer.Argument(metavar="SUBSCRIPTION")],
    to: Annotated[str, typer.Option("--to", metavar="WHERE", help="Where it goes on; see above.")],
    endpoint: Endpoint = None,
    output: Output = None,
) -> None:
    try:
        start = parse_start(to)
    except typer.BadParameter as error:
        raise typer.BadParameter(error.message, param_hint="'--to'") from None
    with admin(context, endpoint) as call:
        answer = call(
            "/danube_platform.TopicDetails/ResetSubscription",
            platform.ResetSubscriptionRequest(topic=topic, subscription=subscription, start=start),
            platform.ResetSubscriptionResponse,
        )
    places = [plain(place) for place in answer.places]
    if form_of(context, output) is Form.json:
        show_json(places)
    else:
        rows = [{field: str(place[field]) for field in PLACE_COLUMNS} for place in places]
        show_table(Form.table, PLACE_COLUMNS, rows)
