"""``danube-cli consume``: its options and their checks."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from danube_cli.address import DEFAULT_ADDR, DEFAULT_TOPIC, ServiceAddr, Topic
from danube_cli.outcome import EXIT_CODES, run
from danube_cli.printing import Format, OutputChoice, OutputForm, Raw, form
from danube_terminal.choices import UINT32_MAX
from danube_terminal.option_groups import agreed, spelling
from danube_terminal.tls_options import tls

if TYPE_CHECKING:
    from danube_client import Start, SubscriptionType

QUIET_S = 2.0


class SubscriptionChoice(StrEnum):
    """Subscription types as words of the command line."""

    exclusive = "exclusive"
    shared = "shared"
    fail_over = "fail-over"
    key_shared = "key-shared"


class ErrorChoice(StrEnum):
    """What to do with a message that does not fit the topic's schema."""

    show = "show"
    skip = "skip"
    stop = "stop"


SubscriptionName = Annotated[
    str,
    typer.Option("--subscription", "-m", metavar="NAME", help="The subscription: each gets every message."),
]

HELP = f"""Receive the messages of a topic, print them and acknowledge them.

A message is acknowledged after it was printed. JSON is printed as it came. A message that does not fit the
topic's schema is reported on stderr, and the exit code is 5; --on-error says what else happens.

When the connection is lost, the consumer subscribes again until it succeeds, and says so on stderr when it is
away and when it is back. It ends when the topic is deleted or another consumer takes over its name. Messages
that expired before they were read, or that a non-reliable topic dropped because no consumer was connected or
had room, are reported on stderr, and the exit code is 4. An interrupt ends the
command with a summary on stderr.

\b
Examples:
  danube-cli consume -s http://127.0.0.1:6650 -t /default/news -m my_subscription
  danube-cli consume -s http://127.0.0.1:6650 -m my_exclusive --sub-type exclusive -n reader-1
  danube-cli consume -s http://127.0.0.1:6650 -t /default/events -m export --exit-at-end --raw > events.txt
  danube-cli consume -s http://127.0.0.1:6650 -t /default/events -m sample --max 10 -o json | jq .payload
  danube-cli consume -s http://127.0.0.1:6650 -t /default/events -m tail --from latest
  danube-cli consume -s http://127.0.0.1:6650 -t /default/events -m look --from -100 --exit-at-end
  danube-cli consume -s http://127.0.0.1:6650 -t /default/events -m replay --from 2026-11-23T10:00:00Z
  danube-cli consume -s http://127.0.0.1:6650 -t /default/events -m audit --from 2h
  danube-cli consume -s http://127.0.0.1:6650 -t /default/events -m table -f '%o %k %p\\n'
  danube-cli consume -s http://127.0.0.1:6650 -m eu --sub-type key-shared --key-filter 'eu-*'

\b
{EXIT_CODES}
"""


def consume(
    context: typer.Context,
    subscription: SubscriptionName,
    service_addr: ServiceAddr = DEFAULT_ADDR,
    topic: Topic = DEFAULT_TOPIC,
    consumer: Annotated[
        str | None,
        typer.Option(
            "--consumer",
            "-n",
            metavar="NAME",
            help="The consumer's name; if absent, a new one. A second consumer of a name takes over from the"
            " first.",
        ),
    ] = None,
    sub_type: Annotated[
        SubscriptionChoice,
        typer.Option("--sub-type", help="How the consumers of a new subscription share its messages."),
    ] = SubscriptionChoice.shared,
    key_filter: Annotated[
        list[str] | None,
        typer.Option(
            "--key-filter",
            metavar="GLOB",
            help="With --sub-type key-shared: take only keys like this, with * and ?; may be repeated.",
        ),
    ] = None,
    from_: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="START",
            help="Where a new subscription begins: earliest (the default), latest, -N (the last N messages),"
            " a position, a time like 2026-11-23T10:00:00Z (UTC if it does not say), or how long ago: 90s,"
            " 15m, 2h, 7d. An existing one goes on at its cursor.",
        ),
    ] = None,
    max_messages: Annotated[
        int | None, typer.Option("--max", metavar="N", min=1, help="End after so many messages.")
    ] = None,
    exit_at_end: Annotated[
        bool, typer.Option("--exit-at-end", help="End when no message has come for --quiet-time.")
    ] = False,
    quiet_time: Annotated[
        float | None,
        typer.Option(
            "--quiet-time", metavar="SECS", min=0.001, help=f"See --exit-at-end; {QUIET_S:g} if absent."
        ),
    ] = None,
    output: OutputForm = OutputChoice.text,
    format_: Format = None,
    on_error: Annotated[
        ErrorChoice,
        typer.Option(
            "--on-error",
            help="A message that does not fit the schema is printed escaped and acknowledged (show), only"
            " acknowledged (skip), or ends the command and is not acknowledged (stop). The forms text and"
            " json look at the schema.",
        ),
    ] = ErrorChoice.show,
    prefetch: Annotated[
        int | None,
        typer.Option(
            "--prefetch",
            metavar="N",
            min=1,
            max=UINT32_MAX,
            help="Take at most so many unacknowledged messages at once; if absent, as many as the platform"
            " gives.",
        ),
    ] = None,
    reconnect: Annotated[
        bool,
        typer.Option("--reconnect/--no-reconnect", help="Whether to come back when the connection is lost."),
    ] = True,
    raw: Raw = False,
    consumer_name: Annotated[str | None, spelling("--consumer-name")] = None,
) -> None:
    """Check the options and run the command."""
    if key_filter and sub_type is not SubscriptionChoice.key_shared:
        raise typer.BadParameter("goes with --sub-type key-shared only", param_hint="'--key-filter'")
    if quiet_time is not None and not exit_at_end:
        raise typer.BadParameter("goes with --exit-at-end", param_hint="'--quiet-time'")
    unchecked = raw or format_ is not None or output is OutputChoice.length_prefixed
    if unchecked and on_error is not ErrorChoice.show:
        raise typer.BadParameter(
            "goes with --output text or json: other forms print every message", param_hint="'--on-error'"
        )

    from danube_cli.receiving import Job, receive  # noqa: PLC0415

    job = Job(
        addresses=service_addr.split(","),
        tls=tls(context),
        topic=topic,
        subscription=subscription,
        consumer_name=agreed("--consumer", consumer, consumer_name) if consumer or consumer_name else None,
        type=type_of(sub_type),
        key_filters=key_filter or [],
        start=None if from_ is None else parse_start(from_),
        form=form(output, format_, raw=raw),
        on_error=on_error,
        prefetch=prefetch,
        reconnect=reconnect,
        count_max=max_messages,
        quiet_s=(quiet_time or QUIET_S) if exit_at_end else None,
    )
    raise typer.Exit(run(receive(job)))


def parse_start(text: str) -> Start:
    """Return the start position that ``--from`` names."""
    from danube_client import Start  # noqa: PLC0415 - slow to import, help needs nothing of it

    try:
        return Start.parse(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="'--from'") from None


def type_of(choice: SubscriptionChoice) -> SubscriptionType:
    """Return the subscription type of a word of the command line."""
    from danube_client import SubscriptionType  # noqa: PLC0415 - as above

    return {
        SubscriptionChoice.exclusive: SubscriptionType.EXCLUSIVE,
        SubscriptionChoice.shared: SubscriptionType.SHARED,
        SubscriptionChoice.fail_over: SubscriptionType.FAILOVER,
        SubscriptionChoice.key_shared: SubscriptionType.KEY_SHARED,
    }[choice]
