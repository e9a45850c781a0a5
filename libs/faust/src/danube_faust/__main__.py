"""``danube-faust``: Faust's commands, and those that are of Danube."""

from __future__ import annotations

from faust.cli.faust import cli

import danube_faust.command  # noqa: F401 - registers itself


def run() -> None:
    """Execute a command."""
    cli()


if __name__ == "__main__":
    run()
