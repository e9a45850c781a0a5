"""Which platform a command speaks to, by an address, a profile, or the default; and of which topic."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from danube_cli import profiles
from danube_terminal.option_groups import agreed

DEFAULT_ADDR: Final = "http://127.0.0.1:6650"
DEFAULT_TOPIC: Final = "/default/test_topic"
FILES: Final = ("ca", "cert", "key", "token_file")


def profile_names(incomplete: str) -> list[str]:
    """Return the profiles that begin like this, for the completion of the shell."""
    try:
        return sorted(name for name in profiles.load().by_name if name.startswith(incomplete))
    except profiles.ProfilesError:
        return []


ProfileName = Annotated[
    str | None,
    typer.Option(
        "--profile",
        "-p",
        envvar="DANUBE_PROFILE",
        metavar="NAME",
        autocompletion=profile_names,
        help="The platform of this profile; see danube-cli profile.",
    ),
]


def resolved(context: typer.Context, given: str) -> str:
    """Return the address for ``--service-addr``, and let the profile that counts fill the options of TLS.

    A profile counts that is named; else the default one if no address is given, in the environment neither.
    So its token goes to no other address than its own, unless it is named beside one. An address that a group
    of commands was given is that of its command.

    Raises:
        typer.BadParameter: there is no such profile, or it names files that are gone.
    """
    above: str | None = context.parent.params.get("service_addr") if context.parent else None
    source = context.get_parameter_source("service_addr")
    if above is not None:
        on_both = source is not None and source.name == "COMMANDLINE"
        return agreed("--service-addr", above, given if on_both else None)
    root = context.find_root()
    name = root.params.get("profile")
    by_default = source is None or source.name == "DEFAULT"
    if context.resilient_parsing or (name is None and not by_default):
        return given
    try:
        known = profiles.load()
        name = name or known.default
        if name is None:
            return given
        profile = known.named(name)
    except profiles.ProfilesError as error:
        raise typer.BadParameter(str(error), param_hint="'--profile'") from None
    for option, value in profile.given().items():
        if option == "url" or root.params.get(option) is not None:
            continue
        if option in FILES and not Path(value).is_file():
            raise typer.BadParameter(
                f"there is no file {value}, the {option} of profile {name!r}", param_hint="'--profile'"
            )
        root.params[option] = Path(value) if option in FILES else value
    on_command_line = source is not None and source.name == "COMMANDLINE"
    return given if on_command_line else profile.url


ServiceAddr = Annotated[
    str,
    typer.Option(
        "--service-addr",
        "-s",
        envvar="DANUBE_SERVICE_ADDR",
        metavar="URL",
        callback=resolved,
        help="The gateway, e.g. http://127.0.0.1:6650; several, by commas, stand in for one another.",
    ),
]
Topic = Annotated[
    str,
    typer.Option(
        "--topic", "-t", metavar="TOPIC", help="/namespace/topic: all its partitions, if it has some."
    ),
]
