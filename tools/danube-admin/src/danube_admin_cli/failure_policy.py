"""``danube-admin topics set-failure-policy`` and ``topics get-failure-policy``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Annotated, Any

import typer

from danube_admin_cli.commands import Session
from danube_admin_cli.printing import show_json, show_section
from danube_admin_cli.topic_options import Topic, topic_name
from danube_proto import danube_admin_pb2 as wire
from danube_terminal.choices import UINT32_MAX, Form

SERVICE = "/danube_admin.TopicAdmin"
DAY_MS = 24 * 3600 * 1000

SET_HELP = """Set what a reliable subscription does with messages that its consumers fail to process.

What is not given stays as it is. A change holds at once, also for messages that failed before: with more
redeliveries allowed, or another poison policy, blocked messages go on. Of a partitioned topic, every
partition is meant. Prints the policy then in force.

A delivery fails when a consumer says so (nack), or makes no progress with it for the acknowledgement
timeout. A message that failed more often than the redeliveries allowed is poison. block keeps it and, in
exclusive and failover subscriptions, delivers nothing behind it; drop acknowledges it; dead-letter
publishes it to another topic, which is created if it is missing.

\b
Examples:
  danube-admin topics set-failure-policy /default/orders -s billing --max-redelivery-count 10
  danube-admin topics set-failure-policy /default/orders -s billing --ack-timeout-ms 0
  danube-admin topics set-failure-policy /default/orders -s billing --poison-policy dead-letter \\
    --dead-letter-topic /default/orders-failed
"""
GET_HELP = """Show what a reliable subscription does with messages that its consumers fail to process.

\b
Examples:
  danube-admin topics get-failure-policy /default/orders -s billing
  danube-admin topics get-failure-policy /default/orders -s billing -o json | jq .poison_policy
"""

Subscription = Annotated[str, typer.Option("--subscription", "-s", metavar="NAME")]


class Backoff(StrEnum):
    """How the delay grows with the attempts."""

    fixed = "fixed"
    exponential = "exponential"


class Poison(StrEnum):
    """What becomes of a message that failed too often."""

    dead_letter = "dead-letter"
    dead_letter_of_the_original = "dead_letter"
    block = "block"
    drop = "drop"


_BACKOFF = {Backoff.fixed: wire.Fixed, Backoff.exponential: wire.Exponential}
_POISON = {
    Poison.dead_letter: wire.DeadLetter,
    Poison.dead_letter_of_the_original: wire.DeadLetter,
    Poison.block: wire.Block,
    Poison.drop: wire.Drop,
}


def _dead_letter_topic(text: str | None) -> str | None:
    return topic_name(text) if text else text


@dataclass(frozen=True, slots=True)
class FailurePolicyOptions:
    """The parts of a policy that are given on the command line; None keeps what is set."""

    max_redelivery_count: Annotated[
        int | None,
        typer.Option(
            "--max-redelivery-count", metavar="N", min=0, max=UINT32_MAX, help="Redeliveries before poison."
        ),
    ] = None
    ack_timeout_ms: Annotated[
        int | None,
        typer.Option(
            "--ack-timeout-ms", metavar="MS", min=0, max=DAY_MS, help="Time without progress; 0 is off."
        ),
    ] = None
    base_redelivery_delay_ms: Annotated[
        int | None,
        typer.Option(
            "--base-redelivery-delay-ms", metavar="MS", min=0, max=DAY_MS, help="The wait after one failure."
        ),
    ] = None
    max_redelivery_delay_ms: Annotated[
        int | None,
        typer.Option("--max-redelivery-delay-ms", metavar="MS", min=0, max=DAY_MS, help="The longest wait."),
    ] = None
    backoff_strategy: Annotated[
        Backoff | None, typer.Option("--backoff-strategy", help="Whether the wait doubles each time.")
    ] = None
    dead_letter_topic: Annotated[
        str | None,
        typer.Option(
            "--dead-letter-topic",
            metavar="TOPIC",
            callback=_dead_letter_topic,
            help="Where dead-letter puts poison; '' for none.",
        ),
    ] = None
    poison_policy: Annotated[
        Poison | None, typer.Option("--poison-policy", help="What becomes of poison.")
    ] = None

    def to_wire(self) -> dict[str, Any]:
        """Return the fields to set. Raises BadParameter if there is none."""
        given = {name: value for name, value in asdict(self).items() if value is not None}
        if not given:
            raise typer.BadParameter("give what is to be set")
        if self.backoff_strategy is not None:
            given["backoff_strategy"] = _BACKOFF[self.backoff_strategy]
        if self.poison_policy is not None:
            given["poison_policy"] = _POISON[self.poison_policy]
        return given


def set_failure_policy(
    session: Session, topic: Topic, subscription: Subscription, policy: FailurePolicyOptions
) -> None:
    """Set what a subscription does with messages that fail."""
    changes = policy.to_wire()
    wanted = wire.SubscriptionFailurePolicy()
    wanted.CopyFrom(_ask(session, topic, subscription).failure_policy)
    for field, value in changes.items():
        setattr(wanted, field, value)
    if not wanted.dead_letter_topic:
        wanted.ClearField("dead_letter_topic")
    request = wire.SetSubscriptionFailurePolicyRequest(
        topic=topic, subscription=subscription, failure_policy=wanted
    )
    session.call(f"{SERVICE}/SetSubscriptionFailurePolicy", request, wire.SubscriptionResponse)
    get_failure_policy(session, topic, subscription)


def get_failure_policy(session: Session, topic: Topic, subscription: Subscription) -> None:
    """Show what a subscription does with messages that fail."""
    answer = _ask(session, topic, subscription)
    policy = answer.failure_policy
    shown: dict[str, Any] = {
        "topic": topic,
        "subscription": subscription,
        "max_redelivery_count": policy.max_redelivery_count,
        "ack_timeout_ms": policy.ack_timeout_ms,
        "base_redelivery_delay_ms": policy.base_redelivery_delay_ms,
        "max_redelivery_delay_ms": policy.max_redelivery_delay_ms,
        "backoff_strategy": _word(_BACKOFF, policy.backoff_strategy),
        "dead_letter_topic": policy.dead_letter_topic or None,
        "poison_policy": _word(_POISON, policy.poison_policy),
    }
    if session.form is Form.json:
        show_json(shown | {"poison_policy": shown["poison_policy"].replace("-", "_")})
        return
    lines = {name: "none" if value is None else str(value) for name, value in list(shown.items())[2:]}
    show_section(f"Failure policy of {subscription} on {topic}:", lines)


def _ask(session: Session, topic: str, subscription: str) -> wire.GetSubscriptionFailurePolicyResponse:
    return session.call(
        f"{SERVICE}/GetSubscriptionFailurePolicy",
        wire.SubscriptionRequest(topic=topic, subscription=subscription),
        wire.GetSubscriptionFailurePolicyResponse,
    )


def _word(words: Mapping[Any, int], number: int) -> str:
    return next((str(word) for word, each in words.items() if each == number), str(number))
