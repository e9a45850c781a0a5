"""The command line of ``danube-cli``."""

from __future__ import annotations

from danube_cli import consume, peek, produce, profile, replay, schema, subscribe, topics
from danube_cli.address import ProfileName
from danube_terminal.command_line import Version, command_line
from danube_terminal.option_groups import spread
from danube_terminal.streams import run
from danube_terminal.tls_options import Ca, Cert, Key, ServerName, TokenFile

HELP = """Produce to and consume from Danube topics.

\b
Examples:
  danube-cli produce -t /default/news -m hello
  danube-cli consume -t /default/news -m readers --exit-at-end
  danube-cli peek -t /default/news -o json
  danube-cli topics list
  danube-cli profile add prod --url https://danube.example:6650 --token-file prod.token
  danube-cli -p prod consume -t /default/news -m readers
  danube-cli --install-completion
"""

app = command_line("danube-cli", HELP)
app.command(help=produce.HELP)(spread(produce.produce))
app.command(help=consume.HELP)(consume.consume)
app.command(help=subscribe.HELP)(subscribe.subscribe)
app.command(help=peek.HELP)(peek.peek)
app.command(help=replay.HELP)(replay.replay)
app.add_typer(topics.app, name="topics")
app.add_typer(schema.app, name="schema")
app.add_typer(profile.app, name="profile")


@app.callback()
def root(
    profile: ProfileName = None,
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
