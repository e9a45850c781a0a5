"""Tokens of a test's own issuer, and channels that send them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import jwt

SECRET = "a secret of the tests, longer than 32 bytes"
ADMIN = "root"
"""A super administrator's name."""


def token(name: str, *, ttl_s: float = 600, secret: str = SECRET, **claims: Any) -> str:
    """Return a token of a user as `danube-admin security tokens create` makes it."""
    now = time.time()
    made = {
        "sub": name,
        "iss": "danube-auth",
        "iat": int(now),
        "exp": now + ttl_s,
        "principal_type": "user",
        "principal_name": name,
    }
    return jwt.encode(made | claims, secret, algorithm="HS256")


def bearer(credential: str) -> tuple[tuple[str, str], ...]:
    """Return the metadata of a call with a token or an API key."""
    return (("authorization", f"Bearer {credential}"),)


def secret_file(folder: Path, secret: str = SECRET) -> Path:
    """Write the secret that tokens are checked with."""
    file = folder / "token.secret"
    file.write_text(secret)
    return file
