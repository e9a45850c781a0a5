"""``danube-faust``: Faust's commands, and those that are of Danube."""

from __future__ import annotations

import click
from faust.cli.faust import cli

import danube_faust.command  # noqa: F401 - registers itself


def run() -> None:
    """Execute a command. The version is this distribution's, not Faust's."""
    cli.params = [option for option in cli.params if option.name != "version"]
    named = click.version_option(
        package_name="danubepy-faust", prog_name="danube-faust", message="%(prog)s %(version)s"
    )
    named(cli)()


if __name__ == "__main__":
    run()
