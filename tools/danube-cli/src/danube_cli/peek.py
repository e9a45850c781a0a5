"""``danube-cli peek``: looks at messages of a topic."""

from __future__ import annotations

from typing import Annotated

import typer

from danube_cli.address import DEFAULT_ADDR, DEFAULT_TOPIC, ServiceAddr, Topic
from danube_cli.consume import parse_start
from danube_cli.outcome import EXIT_CODES, run
from danube_cli.printing import Format, OutputChoice, OutputForm, Raw, form
from danube_terminal.choices import UINT64_MAX
from danube_terminal.tls_options import tls

HELP = f"""Print some messages of a reliable topic, without a subscription and without any effect.

Nothing is acknowledged, no cursor moves, and messages are kept as long as without it. Of a topic with
partitions each one is looked at.

\b
Examples:
  danube-cli peek -t /default/orders
  danube-cli peek -t /default/orders --from earliest --max 1 -o json | jq .payload
  danube-cli peek -t /default/orders --from 15m -f '%o %k %p\\n'

\b
{EXIT_CODES}
"""


def peek(
    context: typer.Context,
    service_addr: ServiceAddr = DEFAULT_ADDR,
    topic: Topic = DEFAULT_TOPIC,
    from_: Annotated[
        str,
        typer.Option("--from", metavar="START", help="Where to begin, in the words of consume --from."),
    ] = "-10",
    max_messages: Annotated[
        int,
        typer.Option("--max", metavar="N", min=1, max=UINT64_MAX, help="So many messages of each partition."),
    ] = 10,
    output: OutputForm = OutputChoice.text,
    format_: Format = None,
    raw: Raw = False,
) -> None:
    """Check the options and run the command."""
    from danube_cli.reading import Job, read  # noqa: PLC0415 - slow to import, help needs nothing of it

    job = Job(
        addresses=service_addr.split(","),
        tls=tls(context),
        topic=topic,
        start=parse_start(from_),
        end=None,
        count_max=max_messages,
        form=form(output, format_, raw=raw),
        into=None,
    )
    raise typer.Exit(run(read(job)))
