"""Policies as command-line options."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated

import typer

from danube_proto.danube_platform_pb2 import Policies
from danube_terminal.choices import UINT32_MAX


def _option(name: str, metavar: str, what: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(name, metavar=metavar, min=0, max=UINT32_MAX, help=what)
    return option


@dataclass(frozen=True, slots=True)
class PolicyOptions:
    """The policies given on the command line; None keeps what is set."""

    max_producers_per_topic: Annotated[
        int | None, _option("--max-producers-per-topic", "N", "Producers of a topic.")
    ] = None
    max_subscriptions_per_topic: Annotated[
        int | None, _option("--max-subscriptions-per-topic", "N", "Subscriptions of a topic.")
    ] = None
    max_consumers_per_topic: Annotated[
        int | None, _option("--max-consumers-per-topic", "N", "Consumers of a topic.")
    ] = None
    max_consumers_per_subscription: Annotated[
        int | None, _option("--max-consumers-per-subscription", "N", "Consumers of a subscription.")
    ] = None
    max_publish_rate: Annotated[
        int | None, _option("--max-publish-rate", "N", "Messages per second published to a topic.")
    ] = None
    max_dispatch_rate: Annotated[
        int | None, _option("--max-dispatch-rate", "N", "Messages per second delivered from a topic.")
    ] = None
    max_subscription_dispatch_rate: Annotated[
        int | None,
        _option("--max-subscription-dispatch-rate", "N", "Messages per second delivered to a subscription."),
    ] = None
    max_message_size: Annotated[int | None, _option("--max-message-size", "BYTES", "Bytes of a payload.")] = (
        None
    )
    max_retained_mb: Annotated[
        int | None,
        _option("--max-retained-mb", "MB", "Kept of a topic; beyond it the oldest go, acknowledged or not."),
    ] = None
    clear: Annotated[bool, typer.Option("--clear", help="Remove what was set here before.")] = False

    def to_wire(self) -> Policies:
        """Return the message that sets the given policies. Raises BadParameter if nothing would change."""
        given = {name: value for name, value in asdict(self).items() if name != "clear" and value is not None}
        if not given and not self.clear:
            raise typer.BadParameter("give the policies to set, or --clear to inherit all of them")
        return Policies(**given)
