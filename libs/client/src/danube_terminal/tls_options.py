"""The options of TLS, which come before the command: ``danube-cli --ca ca.pem produce ...``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from danube_client.tls import Tls


def _file(flag: str, variable: str, help_text: str) -> Any:
    return typer.Option(
        flag, envvar=variable, metavar="FILE", exists=True, dir_okay=False, readable=True, help=help_text
    )


Ca = Annotated[
    Path | None,
    _file("--ca", "DANUBE_CA", "Authorities to trust for https:// addresses (PEM); gRPC's own if absent."),
]
Cert = Annotated[Path | None, _file("--cert", "DANUBE_CERT", "This client's certificate (PEM), with --key.")]
Key = Annotated[Path | None, _file("--key", "DANUBE_KEY", "The key of --cert (PEM).")]
ServerName = Annotated[
    str | None,
    typer.Option(
        "--server-name",
        envvar="DANUBE_SERVER_NAME",
        metavar="NAME",
        help="The name in the platform's certificate, if not the host of the address.",
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
    if not any((ca, cert, key, name)):
        return None
    from danube_client.tls import Tls  # noqa: PLC0415 - slow to import

    return Tls(ca, cert, key, name)
