"""The command line of a tool: its typer application, and the option ``--version``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from danube_terminal.program import tool_version


def command_line(tool: str, help_text: str, **settings: Any) -> typer.Typer:
    """Return the application of a tool, without commands. ``settings`` are further ones of typer."""
    # Plain help and errors: they stay one line each in logs, and rich is slow to import.
    return typer.Typer(
        name=tool,
        help=help_text,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        **settings,
    )


def _show_version(context: typer.Context, asked: bool) -> None:
    """Print the version and end, if asked."""
    if asked:
        tool = str(context.command.name)
        typer.echo(f"{tool} {tool_version(tool)}")
        raise typer.Exit


Version = Annotated[
    bool,
    typer.Option(
        "--version", "-V", callback=_show_version, is_eager=True, help="Print the version, and end."
    ),
]
