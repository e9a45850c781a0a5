"""Exit codes and error messages of commands."""

from __future__ import annotations

import sys
from typing import Annotated, NoReturn

import typer

FAILED = 1
USAGE = 2
UNREACHABLE = 3

EXIT_CODES = """Exit codes: 0 done; 1 something failed or was refused; 2 wrong usage;
3 the admin service cannot be reached or is not ready."""


def give_up(reason: str, code: int = FAILED) -> NoReturn:
    """End the command with one line on stderr.

    Raises:
        typer.Exit: always.
    """
    sys.stderr.write(f"Error: {' '.join(reason.split())}\n")
    raise typer.Exit(code)


Yes = Annotated[
    bool, typer.Option("--yes", "-y", "--confirm", help="Do not ask; needed where there is no terminal.")
]


def confirm(question: str, *, yes: bool) -> None:
    """Ask on a terminal whether to go on, unless ``yes``.

    Raises:
        typer.Abort: the answer is no.
        typer.Exit: there is no terminal to ask on.
    """
    if yes:
        return
    if sys.stdin is None or not sys.stdin.isatty():
        give_up(f"{question} There is no terminal to ask on: say --yes", USAGE)
    typer.confirm(question, abort=True, err=True)
