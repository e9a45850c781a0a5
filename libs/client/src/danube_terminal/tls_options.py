"""The options of TLS and the token, which come before the command: ``danube-cli --ca ca.pem produce ...``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from danube_client.tls import Tls


TOKEN_VARIABLES = ("DANUBE_TOKEN", "DANUBE_ADMIN_TOKEN", "DANUBE_ADMIN_API_KEY")
TOKEN_CHARACTERS_MAX = 16 * 1024


def _file(flag: str, variables: list[str], help_text: str) -> Any:
    return typer.Option(
        flag, envvar=variables, metavar="FILE", exists=True, dir_okay=False, readable=True, help=help_text
    )


Ca = Annotated[
    Path | None,
    _file(
        "--ca",
        ["DANUBE_CA", "DANUBE_ADMIN_CA"],
        "Authorities to trust for https:// addresses (PEM); gRPC's own if absent.",
    ),
]
Cert = Annotated[
    Path | None,
    _file("--cert", ["DANUBE_CERT", "DANUBE_ADMIN_CERT"], "This client's certificate (PEM), with --key."),
]
Key = Annotated[Path | None, _file("--key", ["DANUBE_KEY", "DANUBE_ADMIN_KEY"], "The key of --cert (PEM).")]
ServerName = Annotated[
    str | None,
    typer.Option(
        "--server-name",
        envvar=["DANUBE_SERVER_NAME", "DANUBE_ADMIN_DOMAIN"],
        metavar="NAME",
        help="The name in the platform's certificate, if not the host of the address.",
    ),
]
TokenFile = Annotated[
    Path | None,
    _file(
        "--token-file",
        ["DANUBE_TOKEN_FILE"],
        "File with the token or API key to send; else the variable DANUBE_TOKEN.",
    ),
]


def tls(context: typer.Context) -> Tls | None:
    """Return what the options before the command ask for; None if they were not given.

    Raises:
        typer.BadParameter: a certificate without its key, or a key without its certificate.
    """
    given = context.find_root().params
    ca, cert, key, name = (given.get(option) for option in ("ca", "cert", "key", "server_name"))
    if (cert is None) != (key is None):
        raise typer.BadParameter("need each other", param_hint="'--cert' and '--key'")
    token = _token(given.get("token_file"))
    if not any((ca, cert, key, name, token)):
        return None
    from danube_client.tls import Tls  # noqa: PLC0415 - slow to import

    return Tls(ca, cert, key, name, token)


def _token(file: Path | None) -> str | None:
    """Return the token of the file, else of the first variable that is set. Raises typer.BadParameter."""
    if file is None:
        return next((found for name in TOKEN_VARIABLES if (found := os.environ.get(name))), None)
    try:
        with file.open(encoding="ascii") as opened:
            token = opened.read(TOKEN_CHARACTERS_MAX).strip()
    except (OSError, UnicodeDecodeError):
        token = ""
    if not token or not token.isprintable() or " " in token:
        raise typer.BadParameter(f"{file} holds no token", param_hint="'--token-file'")
    return token
