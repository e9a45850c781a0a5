"""``danube-admin topics set-dispatch-config`` and ``get-dispatch-config``."""

from __future__ import annotations

from typing import Annotated

import typer

from danube_admin_cli.commands import Session
from danube_admin_cli.printing import show_figures, show_success
from danube_admin_cli.topic_options import Topic
from danube_proto import danube_admin_pb2 as wire

SERVICE = "/danube_admin.TopicAdmin"
MAX_UNACKED = 10_000

Subscription = Annotated[str, typer.Option("--subscription", "-s", metavar="NAME")]

SET_HELP = """Bound the unacknowledged messages of a reliable subscription, of all its consumers together.

It holds at once, also while consumers are connected, and for all partitions of a topic. What was sent already
is not taken back.

\b
Example:
  danube-admin topics set-dispatch-config /orders/new -s billing --max-unacked-messages 100
"""


def set_config(
    session: Session,
    topic: Topic,
    subscription: Subscription,
    bound: Annotated[int, typer.Option("--max-unacked-messages", metavar="N", min=1, max=MAX_UNACKED)],
) -> None:
    """Bound the unacknowledged messages of a subscription."""
    request = wire.SetSubscriptionDispatchConfigRequest(
        topic=topic,
        subscription=subscription,
        dispatch_config=wire.SubscriptionDispatchConfig(max_unacked_messages=bound),
    )
    answer = session.call(f"{SERVICE}/SetSubscriptionDispatchConfig", request, wire.SubscriptionResponse)
    show_success(session.form, "Dispatch Config Set", success=answer.success)


def get_config(session: Session, topic: Topic, subscription: Subscription) -> None:
    """Show the bound of a subscription's unacknowledged messages; 0 is that of the topic owner."""
    request = wire.SubscriptionRequest(topic=topic, subscription=subscription)
    answer = session.call(
        f"{SERVICE}/GetSubscriptionDispatchConfig", request, wire.GetSubscriptionDispatchConfigResponse
    )
    bound = answer.dispatch_config.max_unacked_messages
    show_figures(session.form, {"topic": topic, "subscription": subscription, "max_unacked_messages": bound})
