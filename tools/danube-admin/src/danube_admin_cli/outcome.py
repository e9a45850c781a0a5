"""Exit codes and error messages of commands."""

from __future__ import annotations

import sys
from typing import NoReturn

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
