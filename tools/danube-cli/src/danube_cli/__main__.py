"""The command line of ``danube-cli``."""

from __future__ import annotations

from typing import Annotated

import typer

from danube_cli import consume, produce, schema, subscribe
from danube_terminal.program import tool_version
from danube_terminal.streams import run
from danube_terminal.tls_options import Ca, Cert, Key, ServerName, TokenFile

# Plain help and errors: they stay one line each in logs, and rich is slow to import.
app = typer.Typer(
    name="danube-cli",
    help="Produce to and consume from Danube topics.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(help=produce.HELP)(produce.produce)
app.command(help=consume.HELP)(consume.consume)
app.command(help=subscribe.HELP)(subscribe.subscribe)
app.add_typer(schema.app, name="schema")


def show_version(asked: bool) -> None:
    """Print the version and end, if asked."""
    if asked:
        typer.echo(f"danube-cli {tool_version('danubepy-cli')}")
        raise typer.Exit


Version = Annotated[
    bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print the version, and end.")
]


@app.callback()
def root(
    ca: Ca = None,
    cert: Cert = None,
    key: Key = None,
    server_name: ServerName = None,
    token_file: TokenFile = None,
    version: Version = False,
) -> None:
    """Take the options that stand before a command."""


def main() -> None:
    """Run the command line."""
    run(app)


if __name__ == "__main__":
    main()
