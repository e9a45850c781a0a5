"""``danube-cli profile``: names for platforms."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from danube_cli import profiles
from danube_cli.address import profile_names
from danube_cli.outcome import FAILED, complain
from danube_terminal.choices import Form, Output

HELP = """Names for platforms, with their addresses and credentials.

A profile is used with danube-cli -p NAME before the command, with the variable DANUBE_PROFILE, or, if it is
the default, where no address is given. The profiles are in danube/profiles.json of the user's configuration
($XDG_CONFIG_HOME, else ~/.config), which only the user can read. It has no tokens, only the names of their
files.

\b
Examples:
  danube-cli profile add prod --url https://danube.example:6650 --ca ca.pem --token-file prod.token
  danube-cli -p prod produce -t /default/news -m hello
  danube-cli profile default prod
  danube-cli profile list
  danube-cli profile remove prod
"""

app = typer.Typer(help=HELP, no_args_is_help=True, rich_markup_mode=None)


Name = Annotated[str, typer.Argument(metavar="NAME", autocompletion=profile_names)]


def _file(flag: str, help_text: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(
        flag, metavar="FILE", exists=True, dir_okay=False, readable=True, resolve_path=True, help=help_text
    )
    return option


@contextmanager
def _told() -> Iterator[None]:
    """End the command with one line if the profiles cannot be used."""
    try:
        yield
    except profiles.ProfilesError as error:
        complain(f"Error: {error}")
        raise typer.Exit(FAILED) from None


@app.command(
    help="""Add a profile.

\b
Examples:
  danube-cli profile add local --url http://127.0.0.1:6650 --default
  danube-cli profile add prod --url https://danube.example:6650 --ca ca.pem --token-file prod.token
"""
)
def add(
    name: Annotated[str, typer.Argument(metavar="NAME")],
    url: Annotated[
        str,
        typer.Option(
            "--url", metavar="URL", help="The gateway; several, by commas, stand in for one another."
        ),
    ],
    ca: Annotated[Path | None, _file("--ca", "Authorities to trust for https:// addresses (PEM).")] = None,
    cert: Annotated[Path | None, _file("--cert", "This client's certificate (PEM), with --key.")] = None,
    key: Annotated[Path | None, _file("--key", "The key of --cert (PEM).")] = None,
    server_name: Annotated[
        str | None,
        typer.Option(
            "--server-name",
            metavar="NAME",
            help="The name in the platform's certificate, if not the host of the address.",
        ),
    ] = None,
    token_file: Annotated[Path | None, _file("--token-file", "File with the token to send.")] = None,
    default: Annotated[bool, typer.Option("--default", help="Use it where no address is given.")] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="In the place of a profile of this name.")
    ] = False,
) -> None:
    """Add a profile."""
    from danube_client import InvalidAddress  # noqa: PLC0415 - slow to import
    from danube_client.connection import normalized  # noqa: PLC0415

    if not name:
        raise typer.BadParameter("is empty", param_hint="'NAME'")
    if (cert is None) != (key is None):
        raise typer.BadParameter("need each other", param_hint="'--cert' and '--key'")
    try:
        for address in url.split(","):
            normalized(address)
    except InvalidAddress as error:
        raise typer.BadParameter(str(error), param_hint="'--url'") from None
    with _told():
        known = profiles.load()
        if name in known.by_name and not replace:
            raise profiles.ProfilesError(
                f"profile {name!r} exists already: add it with --replace, or remove it"
            )
        files = {"ca": ca, "cert": cert, "key": key, "token_file": token_file}
        paths = {option: str(file) for option, file in files.items() if file is not None}
        known.by_name[name] = profiles.Profile(url, server_name=server_name, **paths)
        if default:
            known.default = name
        profiles.save(known)
    typer.echo(f"Profile {name} added")


@app.command(
    "list",
    help="""List the profiles; the default one has a star.

\b
Examples:
  danube-cli profile list
  danube-cli profile list -o json
""",
)
def list_(
    output: Output = Form.table,
) -> None:
    """List the profiles."""
    with _told():
        known = profiles.load()
    for name, profile in sorted(known.by_name.items()):
        if output is Form.json:
            typer.echo(json.dumps({"name": name, "default": name == known.default, **profile.given()}))
        else:
            typer.echo(f"{'*' if name == known.default else ' '} {name}  {profile.url}")


@app.command(
    help="""Remove a profile.

\b
Examples:
  danube-cli profile remove prod
"""
)
def remove(name: Name) -> None:
    """Remove a profile."""
    with _told():
        known = profiles.load()
        known.remove(name)
        profiles.save(known)
    typer.echo(f"Profile {name} removed")


@app.command(
    help="""Make a profile the default one; without a name, none is.

\b
Examples:
  danube-cli profile default prod
  danube-cli profile default
"""
)
def default(
    name: Annotated[str | None, typer.Argument(metavar="NAME", autocompletion=profile_names)] = None,
) -> None:
    """Choose the default profile."""
    with _told():
        known = profiles.load()
        if name is not None:
            known.named(name)
        known.default = name
        profiles.save(known)
    typer.echo(f"Profile {name} is the default" if name else "No profile is the default")
