"""The command line of ``danube-perf``."""

from __future__ import annotations

from danube_perf import commands
from danube_terminal.command_line import Version, command_line
from danube_terminal.option_groups import spread

app = command_line(
    "danube-perf",
    "Measure a Danube platform: rates, latencies, lost and repeated messages.",
    add_completion=False,
)
app.command(help=commands.PRODUCE_HELP)(spread(commands.produce))
app.command(help=commands.CONSUME_HELP)(spread(commands.consume))
app.command(help=commands.E2E_HELP)(spread(commands.e2e))
app.command(help=commands.FANOUT_HELP)(spread(commands.fanout))
app.command(help=commands.TOPICS_HELP)(spread(commands.topics))


@app.callback()
def root(version: Version = False) -> None:
    """Take the options that stand before a command."""


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
