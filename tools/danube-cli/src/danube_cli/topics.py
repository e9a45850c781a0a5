"""``danube-cli topics``: the topics of a platform, at the client port."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from danube_cli.address import DEFAULT_ADDR, ServiceAddr
from danube_cli.outcome import EXIT_CODES, OK, run
from danube_terminal.choices import Form, Output
from danube_terminal.tls_options import tls

if TYPE_CHECKING:
    from danube_client import Tls

LIST_HELP = f"""List the topics of a namespace, or those that match a pattern.

A partitioned topic is one of them, with the number of its partitions. With -o json each is an object in a
line of its own.

\b
Examples:
  danube-cli topics list
  danube-cli topics list orders -s http://127.0.0.1:6650
  danube-cli topics list '/default/order*' -o json | jq .topic

\b
{EXIT_CODES}
"""

app = typer.Typer(help="The topics of a platform.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def topics() -> None:
    """Have commands below it, though there is one only."""


@app.command("list", help=LIST_HELP)
def list_(
    context: typer.Context,
    pattern: Annotated[
        str, typer.Argument(metavar="PATTERN", help="A namespace, or /namespace/glob with * and ?.")
    ] = "default",
    service_addr: ServiceAddr = DEFAULT_ADDR,
    output: Output = Form.table,
) -> None:
    """List topics."""
    raise typer.Exit(run(_list(service_addr.split(","), tls(context), pattern, output)))


async def _list(addresses: list[str], security: Tls | None, pattern: str, output: Form) -> int:
    from danube_client import connect  # noqa: PLC0415 - slow to import

    async with connect(*addresses, tls=security) as client:
        found = await client.topics(pattern)
    width = max((len(topic.name) for topic in found), default=0)
    for topic in found:
        if output is Form.json:
            facts = {"topic": topic.name, "partitions": topic.partitions, "reliable": topic.reliable}
            typer.echo(json.dumps(facts, ensure_ascii=False))
            continue
        kind = "reliable" if topic.reliable else "non-reliable"
        parts = f", {topic.partitions} partitions" if topic.partitions else ""
        typer.echo(f"{topic.name:{width}}  {kind}{parts}")
    return OK
