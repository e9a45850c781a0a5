"""``danube-admin security tokens``: tokens of HS256, made and checked without a server."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import re
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from danube_admin_cli.admin import Output, form_of
from danube_admin_cli.outcome import USAGE, give_up
from danube_admin_cli.printing import show_json, show_text
from danube_terminal.choices import Form
from danube_terminal.option_groups import agreed, refused, spelling

SECRET_VARIABLE = "DANUBE_SECRET_KEY"  # noqa: S105 - a variable's name
SECRET_VARIABLES = (SECRET_VARIABLE, "DANUBE_JWT_SECRET_KEY")
"""The second one is the original's."""
SECRET_BYTES_MIN = 32
FILE_BYTES_MAX = 64 * 1024
TYPES = ("user", "service_account")
_UNITS_S = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_TTL = re.compile(r"([1-9][0-9]{0,8})([smhd]?)")

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

SecretFile = Annotated[
    Path | None,
    typer.Option(
        "--secret-key-file",
        metavar="FILE",
        help=f"File with the secret, the first line of several; else the variable {SECRET_VARIABLE}.",
    ),
]
VISIBLE = "an option is seen by everybody on this machine: "
SecretKey = Annotated[
    str | None,
    refused("--secret-key", f"{VISIBLE}give --secret-key-file FILE or the variable {SECRET_VARIABLE}"),
]
Endpoint = Annotated[str | None, spelling("--endpoint", expose_value=False)]
"""Nothing is asked there; scripts give it with every command."""
Token = Annotated[
    str | None, refused("--token", f"{VISIBLE}give the token on standard input, or the name of its file")
]


@app.command("create")
def create(
    context: typer.Context,
    subject: Annotated[str, typer.Option("--subject", help="Who the token is for.")],
    secret_key_file: SecretFile = None,
    ttl: Annotated[str, typer.Option("--ttl", help="How long it is valid: 90s, 15m, 8h, 30d.")] = "8760h",
    kind: Annotated[
        str, typer.Option("--type", metavar="TYPE", help="user or service_account.")
    ] = "service_account",
    issuer: Annotated[str, typer.Option("--issuer", help="Who issues it.")] = "danube-auth",
    audience: Annotated[
        str, typer.Option("--audience", help="Whom it is shown to, if that is checked.")
    ] = "",
    output: Output = None,
    _endpoint: Endpoint = None,
    _secret_key: SecretKey = None,
) -> None:
    """Create a token, and print it. It holds until it expires or the secret is replaced."""
    if kind not in TYPES:
        give_up(f"{kind!r} is none of {', '.join(TYPES)}", USAGE)
    if not subject or not subject.isprintable():
        give_up("a subject is printable text", USAGE)
    found = _TTL.fullmatch(ttl)
    if found is None:
        give_up(f"{ttl!r} is no time such as 90s, 15m, 8h or 30d", USAGE)
    secret = _secrets(secret_key_file)[0]
    now = int(time.time())
    claims: dict[str, Any] = {
        "iss": issuer,
        "sub": subject,
        "iat": now,
        "exp": now + int(found[1]) * _UNITS_S[found[2]],
        "principal_type": kind,
        "principal_name": subject,
    }
    if audience:
        claims["aud"] = audience
    signed = f"{_encoded({'alg': 'HS256', 'typ': 'JWT'})}.{_encoded(claims)}"
    token = f"{signed}.{_signature(signed, secret)}"
    if form_of(context, output) is Form.json:
        show_json({"token": token, "claims": claims})
    else:
        show_text(token)


@app.command("validate")
def validate(
    context: typer.Context,
    file: Annotated[
        Path | None,
        typer.Argument(metavar="[TOKEN_FILE]", help="File with the token; standard input if absent."),
    ] = None,
    secret_key_file: SecretFile = None,
    output: Output = None,
    _endpoint: Endpoint = None,
    _secret_key: SecretKey = None,
    _token: Token = None,
) -> None:
    """Check a token's signature and times, and show what it says. Exits with 1 if it is not valid."""
    token = (sys.stdin.read(FILE_BYTES_MAX) if file is None else _read(file)).strip()
    signed, _, signature = token.rpartition(".")
    header, claims = (_decoded(part) for part in [*signed.split("."), "", ""][:2])
    if not isinstance(claims, dict) or not isinstance(header, dict) or header.get("alg") != "HS256":
        give_up("this is no token of HS256")
    if not any(
        hmac.compare_digest(_signature(signed, secret).encode(), signature.encode())
        for secret in _secrets(secret_key_file)
    ):
        give_up("the token is signed with another secret")
    now, expires = time.time(), claims.get("exp")
    if not isinstance(expires, int | float) or now >= expires:
        give_up("the token has expired")
    begins = claims.get("nbf", 0)
    if not isinstance(begins, int | float) or begins > now:
        give_up("the token is not valid yet")
    if form_of(context, output) is Form.json:
        show_json({"valid": True, "claims": claims})
        return
    show_text("Valid: true")
    for name, value in claims.items():
        show_text(f"{name}: {value if isinstance(value, str) else json.dumps(value)}")


def _secrets(file: Path | None) -> list[bytes]:
    """Return the secrets of the file or the variable; the command ends if they cannot be used."""
    set_ = [text for name in SECRET_VARIABLES if (text := os.environ.get(name))]
    text = _read(file) if file is not None else agreed(SECRET_VARIABLE, *set_) if set_ else ""
    secrets = [line.strip().encode() for line in text.splitlines() if line.strip()]
    if not secrets:
        give_up(f"a secret is needed: --secret-key-file or {SECRET_VARIABLE}", USAGE)
    if any(len(secret) < SECRET_BYTES_MIN for secret in secrets) or "-----BEGIN" in text:
        give_up(f"a secret is a line of at least {SECRET_BYTES_MIN} bytes: openssl rand -base64 48", USAGE)
    return secrets


def _read(file: Path) -> str:
    try:
        with file.open(encoding="utf-8") as opened:
            return opened.read(FILE_BYTES_MAX)
    except (OSError, UnicodeDecodeError) as error:
        give_up(f"cannot read {file}: {getattr(error, 'strerror', None) or 'it is not text'}", USAGE)


def _encoded(part: object) -> str:
    return _base64(json.dumps(part, separators=(",", ":")).encode())


def _decoded(part: str) -> object:
    try:
        found: object = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (ValueError, RecursionError):
        return None
    return found


def _signature(signed: str, secret: bytes) -> str:
    return _base64(hmac.new(secret, signed.encode(), hashlib.sha256).digest())


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
