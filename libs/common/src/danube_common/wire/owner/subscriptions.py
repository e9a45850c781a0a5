"""Subscriptions: their cursors, failure policies, bounds and losses."""

from __future__ import annotations

import msgspec

from danube_common.model.failure_policy import FailurePolicy
from danube_common.model.subscription import StartPosition, SubscriptionType
from danube_common.wire.envelope import Done, Request

MAX_UNACKED_MESSAGES = 10_000
"""The largest bound of unacknowledged messages that can be set for a subscription."""


class SubscriptionFound(msgspec.Struct, tag="subscription", frozen=True):
    """``created``: whether it is new; ``mark_delete``: positions up to it are acknowledged or skipped."""

    subscription: str
    created: bool
    mark_delete: int


class CreateSubscription(Request[SubscriptionFound], tag="create-subscription", frozen=True):
    """Create a subscription without a consumer. Reply: SubscriptionFound; an existing one keeps its cursor.

    Errors: AlreadyExists (of another type), InvalidInput (the start is invalid, or a non-reliable topic is
    given another start than earliest or latest), LimitExceeded, NotFound (topic), Unavailable.

    Each consumer that asks for no prefetch of its own takes ``prefetch`` unacknowledged messages; 0 leaves it
    to the owner.
    """

    topic: str
    subscription: str
    subscription_type: SubscriptionType
    start: StartPosition = StartPosition()
    prefetch: int = 0


class ResetSubscription(Request[SubscriptionFound], tag="reset-subscription", frozen=True):
    """Move a cursor forward or back. Reply: SubscriptionFound.

    Acknowledged messages after the new cursor are delivered again. The owner ends the streams of the
    subscription's consumers; a new stream starts at the new cursor.
    Errors: InvalidInput (the start is invalid), NotFound, Refused (a non-reliable topic), Unavailable.
    """

    topic: str
    subscription: str
    start: StartPosition


class SubscriptionInfo(msgspec.Struct, frozen=True):
    """A subscription and its connected consumers."""

    name: str
    subscription_type: SubscriptionType
    consumers: list[str]


class Subscriptions(msgspec.Struct, tag="subscriptions", frozen=True):
    """The subscriptions of a topic."""

    subscriptions: list[SubscriptionInfo]


class ListSubscriptions(Request[Subscriptions], tag="list-subscriptions", frozen=True):
    """List the subscriptions of a topic. Reply: Subscriptions. Errors: NotFound (topic)."""

    topic: str


class Unsubscribe(Request[Done], tag="unsubscribe", frozen=True):
    """Delete a subscription and its cursor.

    Reply: Done. Errors: NotFound, Refused (a consumer is connected).
    """

    topic: str
    subscription: str


class SetFailurePolicy(Request[Done], tag="set-failure-policy", frozen=True):
    """Give a subscription another failure policy, which also decides on what failed before. Reply: Done.

    Errors: InvalidInput (the policy cannot be kept), NotFound, Refused (a non-reliable topic).
    """

    topic: str
    subscription: str
    policy: FailurePolicy


class FailurePolicyFound(msgspec.Struct, tag="failure-policy", frozen=True):
    """The failure policy of a subscription, and its type."""

    policy: FailurePolicy
    subscription_type: SubscriptionType


class GetFailurePolicy(Request[FailurePolicyFound], tag="get-failure-policy", frozen=True):
    """Ask for a subscription's failure policy. Reply: FailurePolicyFound.

    Errors: NotFound, Refused (a non-reliable topic).
    """

    topic: str
    subscription: str


class SetDispatchConfig(Request[Done], tag="set-dispatch-config", frozen=True):
    """Bound the unacknowledged messages of a subscription, of all its consumers together. Reply: Done.

    A lower bound than before takes back nothing that was sent.

    Errors: InvalidInput (not 1 to MAX_UNACKED_MESSAGES), NotFound, Refused (a non-reliable topic).
    """

    topic: str
    subscription: str
    max_unacked_messages: int


class DispatchConfigFound(msgspec.Struct, tag="dispatch-config", frozen=True):
    """What was set for a subscription; 0 is the owner's bound."""

    max_unacked_messages: int


class GetDispatchConfig(Request[DispatchConfigFound], tag="get-dispatch-config", frozen=True):
    """Ask for what `SetDispatchConfig` has set. Reply: DispatchConfigFound.

    Errors: NotFound, Refused (a non-reliable topic).
    """

    topic: str
    subscription: str


class LossTotals(msgspec.Struct, tag="loss-totals", frozen=True):
    """Messages that a subscription lost, and how many were told of.

    They count over its life (a lower bound) or, for a non-reliable topic, since its present owner serves it.
    """

    lost: int
    told: int


class TellLosses(Request[LossTotals], tag="tell-losses", frozen=True):
    """Ask how many messages a subscription lost, and report a total that a consumer was told of.

    Reply: LossTotals. Errors: NotFound.

    Attributes:
        told: the total that consumers know of; a total below an earlier one changes nothing.
    """

    topic: str
    subscription: str
    told: int = 0
