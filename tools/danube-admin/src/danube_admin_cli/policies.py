"""The policies as command-line options."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated

import typer

from danube_proto.danube_platform_pb2 import Policies

UINT32_MAX = 2**32 - 1


def _option(name: str, metavar: str, what: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(name, metavar=metavar, min=0, max=UINT32_MAX, help=what)
    return option


MaxProducersPerTopic = Annotated[
    int | None, _option("--max-producers-per-topic", "N", "Producers of a topic.")
]
MaxSubscriptionsPerTopic = Annotated[
    int | None, _option("--max-subscriptions-per-topic", "N", "Subscriptions of a topic.")
]
MaxConsumersPerTopic = Annotated[
    int | None, _option("--max-consumers-per-topic", "N", "Consumers of a topic.")
]
MaxConsumersPerSubscription = Annotated[
    int | None, _option("--max-consumers-per-subscription", "N", "Consumers of a subscription.")
]
MaxPublishRate = Annotated[
    int | None, _option("--max-publish-rate", "N", "Messages per second published to a topic.")
]
MaxDispatchRate = Annotated[
    int | None, _option("--max-dispatch-rate", "N", "Messages per second delivered from a topic.")
]
MaxSubscriptionDispatchRate = Annotated[
    int | None,
    _option("--max-subscription-dispatch-rate", "N", "Messages per second delivered to a subscription."),
]
MaxMessageSize = Annotated[int | None, _option("--max-message-size", "BYTES", "Bytes of a payload.")]
MaxRetainedMb = Annotated[
    int | None,
    _option("--max-retained-mb", "MB", "Kept of a topic; beyond it the oldest go, acknowledged or not."),
]
Clear = Annotated[bool, typer.Option("--clear", help="First forget what was set here before.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenPolicies:
    """The policies given on the command line; None is inherited."""

    max_producers_per_topic: int | None
    max_subscriptions_per_topic: int | None
    max_consumers_per_topic: int | None
    max_consumers_per_subscription: int | None
    max_publish_rate: int | None
    max_dispatch_rate: int | None
    max_subscription_dispatch_rate: int | None
    max_message_size: int | None
    max_retained_mb: int | None

    def to_wire(self, *, clear: bool) -> Policies:
        """The message that sets these.

        Raises:
            typer.BadParameter: there is nothing to change.
        """
        given = {name: value for name, value in asdict(self).items() if value is not None}
        if not given and not clear:
            raise typer.BadParameter("give the policies to set, or --clear to inherit all of them")
        return Policies(**given)
