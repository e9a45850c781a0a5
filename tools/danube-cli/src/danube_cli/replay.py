"""``danube-cli replay``: reads a part of a topic again, and prints it or sends it to another topic."""

from __future__ import annotations

from typing import Annotated

import typer

from danube_cli.address import DEFAULT_ADDR, DEFAULT_TOPIC, ServiceAddr, Topic
from danube_cli.consume import parse_start
from danube_cli.outcome import EXIT_CODES, run
from danube_cli.printing import Format, OutputChoice, OutputForm, Raw, form
from danube_terminal.choices import UINT64_MAX
from danube_terminal.tls_options import tls

END = "end"

HELP = f"""Read a reliable topic again, without a subscription, and print it or send it to another topic.

It begins at a position, a time or the last N messages, and ends at a position or where the topic ends when it
begins. Partitions are read one after the other; a position belongs to one of them, so name that one (-t
TOPIC-part-0).

With --into each message is sent on with its payload, key and attributes. It gets a new position, producer and
time. A new topic is reliable and has the schema of the one that is read.

\b
Examples:
  danube-cli replay -t /default/orders --from 2026-11-23T10:00:00Z -o json > orders.jsonl
  danube-cli replay -t /default/orders --from 67108864 --to 67108999 --raw
  danube-cli replay -t /default/orders --from -1000 --into /default/orders-again

\b
{EXIT_CODES}
"""


def replay(
    context: typer.Context,
    service_addr: ServiceAddr = DEFAULT_ADDR,
    topic: Topic = DEFAULT_TOPIC,
    from_: Annotated[
        str,
        typer.Option("--from", metavar="START", help="Where to begin, in the words of consume --from."),
    ] = "earliest",
    to: Annotated[
        str, typer.Option("--to", metavar="END", help="The last position; or end, that of the topic.")
    ] = END,
    into: Annotated[
        str | None, typer.Option("--into", metavar="TOPIC", help="Send them to this topic, print nothing.")
    ] = None,
    max_messages: Annotated[
        int | None,
        typer.Option("--max", metavar="N", min=1, max=UINT64_MAX, help="At most so many of each partition."),
    ] = None,
    output: OutputForm = OutputChoice.text,
    format_: Format = None,
    raw: Raw = False,
) -> None:
    """Check the options and run the command."""
    if into is not None and (raw or format_ is not None or output is not OutputChoice.text):
        raise typer.BadParameter("prints nothing: no --output, --format or --raw", param_hint="'--into'")
    if into == topic:
        raise typer.BadParameter("is the topic that is read", param_hint="'--into'")
    if to != END and not (to.isascii() and to.isdigit() and len(to) <= 19):
        raise typer.BadParameter(f"{to!r} is neither a position nor 'end'", param_hint="'--to'")

    from danube_cli.reading import Job, read  # noqa: PLC0415 - slow to import, help needs nothing of it

    job = Job(
        addresses=service_addr.split(","),
        tls=tls(context),
        topic=topic,
        start=parse_start(from_),
        end=None if to == END else int(to),
        count_max=max_messages,
        form=form(output, format_, raw=raw),
        into=into,
    )
    raise typer.Exit(run(read(job)))
