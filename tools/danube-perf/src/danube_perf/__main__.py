"""The command line of ``danube-perf``."""

from __future__ import annotations

from typing import Annotated

import typer

from danube_perf import commands
from danube_terminal.option_groups import spread
from danube_terminal.program import tool_version

# Plain help and errors: they stay one line each in logs, and rich is slow to import.
app = typer.Typer(
    name="danube-perf",
    help="Measure a Danube platform: rates, latencies, lost and repeated messages.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(help=commands.PRODUCE_HELP)(spread(commands.produce))
app.command(help=commands.CONSUME_HELP)(spread(commands.consume))
app.command(help=commands.E2E_HELP)(spread(commands.e2e))
app.command(help=commands.FANOUT_HELP)(spread(commands.fanout))
app.command(help=commands.TOPICS_HELP)(spread(commands.topics))


def show_version(asked: bool) -> None:
    """Print the version and end, if asked."""
    if asked:
        typer.echo(f"danube-perf {tool_version('danubepy-perf')}")
        raise typer.Exit


Version = Annotated[
    bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print the version, and end.")
]


@app.callback()
def root(version: Version = False) -> None:
    """Take the options that stand before a command."""


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
