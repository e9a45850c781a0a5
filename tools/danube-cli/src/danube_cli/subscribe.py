"""``danube-cli subscribe``: creates a subscription without a consumer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from danube_cli.address import DEFAULT_ADDR, DEFAULT_TOPIC, ServiceAddr, Topic
from danube_cli.consume import SubscriptionChoice, SubscriptionName, parse_start, type_of
from danube_cli.outcome import EXIT_CODES, OK, run
from danube_terminal.choices import UINT32_MAX
from danube_terminal.tls_options import tls

if TYPE_CHECKING:
    from danube_client import Start, SubscriptionType, Tls

HELP = f"""Create a subscription without a consumer: from then on it keeps what it did not acknowledge.

An existing subscription of the same type is left as it is.

\b
Examples:
  danube-cli subscribe -s http://127.0.0.1:6650 -t /default/jobs -m workers
  danube-cli subscribe -s http://127.0.0.1:6650 -t /default/jobs -m workers --from latest --prefetch 10

\b
{EXIT_CODES}
"""


def subscribe(
    context: typer.Context,
    subscription: SubscriptionName,
    service_addr: ServiceAddr = DEFAULT_ADDR,
    topic: Topic = DEFAULT_TOPIC,
    sub_type: Annotated[
        SubscriptionChoice, typer.Option("--sub-type", help="How its consumers will share its messages.")
    ] = SubscriptionChoice.shared,
    from_: Annotated[
        str | None,
        typer.Option("--from", metavar="START", help="Where it begins, in the words of consume --from."),
    ] = None,
    prefetch: Annotated[
        int | None,
        typer.Option(
            "--prefetch",
            metavar="N",
            min=1,
            max=UINT32_MAX,
            show_default=False,
            help="How many unacknowledged messages each consumer takes at once that asks for no prefetch of"
            " its own; if absent, as many as the platform gives.",
        ),
    ] = None,
) -> None:
    """Check the options and run the command."""
    if sub_type is SubscriptionChoice.key_shared:
        raise typer.BadParameter(
            "a key-shared subscription is created by its first consumer: danube-cli consume",
            param_hint="'--sub-type'",
        )
    start = None if from_ is None else parse_start(from_)
    raise typer.Exit(
        run(
            _create(
                service_addr.split(","),
                tls(context),
                topic,
                subscription,
                type_of(sub_type),
                start,
                prefetch or 0,
            )
        )
    )


async def _create(
    addresses: list[str],
    security: Tls | None,
    topic: str,
    subscription: str,
    kind: SubscriptionType,
    start: Start | None,
    prefetch: int,
) -> int:
    from danube_client import connect  # noqa: PLC0415 - slow to import

    async with connect(*addresses, tls=security) as client:
        created = await client.create_subscription(
            topic, subscription, type=kind, initial_position=start, prefetch=prefetch
        )
    typer.echo(f"Subscription {subscription} {'created' if created else 'exists already'}")
    return OK
