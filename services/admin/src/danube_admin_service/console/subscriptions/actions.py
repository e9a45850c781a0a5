"""What is done to subscriptions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from google.protobuf.message import Message

from danube_admin_service.console.access import calls
from danube_admin_service.console.action import Action, subscription_page, topic_page
from danube_admin_service.console.forms import Form, number, seconds, start_of
from danube_common.errors import InvalidInput
from danube_proto import danube_admin_pb2 as admin
from danube_proto import danube_platform_pb2 as platform

POISON_POLICIES: Final = {"block": admin.Block, "drop": admin.Drop, "dead-letter": admin.DeadLetter}


def _failure_policy(form: Form) -> Message:
    if (poison := POISON_POLICIES.get(form["poison_policy"])) is None:
        raise InvalidInput(f"a poison policy is one of {', '.join(POISON_POLICIES)}")
    policy = admin.SubscriptionFailurePolicy(
        max_redelivery_count=number(form["max_redelivery_count"].strip(), "the number of redeliveries"),
        ack_timeout_ms=1000 * seconds(form["ack_timeout"], "the timeout of acknowledgements"),
        base_redelivery_delay_ms=1000 * seconds(form["base_delay"], "the first delay"),
        max_redelivery_delay_ms=1000 * seconds(form["max_delay"], "the longest delay"),
        backoff_strategy=admin.Exponential,
        poison_policy=poison,
    )
    if form["dead_letter_topic"].strip():
        policy.dead_letter_topic = form["dead_letter_topic"].strip()
    return admin.SetSubscriptionFailurePolicyRequest(
        topic=form["topic"], subscription=form["subscription"], failure_policy=policy
    )


SUBSCRIPTION_ACTIONS: Final[Mapping[str, Action]] = {
    "unsubscribe": Action(
        f"{calls.TOPIC}/Unsubscribe",
        lambda form: admin.SubscriptionRequest(topic=form["topic"], subscription=form["subscription"]),
        lambda form: f"Subscription {form['subscription']} was deleted.",
        topic_page,
        confirm="subscription",
    ),
    "reset-subscription": Action(
        calls.RESET,
        lambda form: platform.ResetSubscriptionRequest(
            topic=form["topic"], subscription=form["subscription"], start=start_of(form)
        ),
        lambda form: f"The cursor of {form['subscription']} was moved.",
        subscription_page,
        confirm="subscription",
    ),
    "set-failure-policy": Action(
        f"{calls.TOPIC}/SetSubscriptionFailurePolicy",
        _failure_policy,
        lambda form: f"What happens when a delivery of {form['subscription']} fails was changed.",
        subscription_page,
    ),
}
