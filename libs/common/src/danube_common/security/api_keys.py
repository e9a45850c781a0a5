"""API keys: bearer credentials for those who have no issuer of tokens. Pure.

A key is ``dk_``, its id and a secret of 256 random bits. Only a digest of the secret is stored; with so many
random bits a plain SHA-256 cannot be reversed.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from typing import Final

import msgspec

PREFIX: Final = "dk_"
KEYS_MAX: Final = 10_000
"""Keys of a cluster."""

_FORM: Final = re.compile(r"dk_([0-9a-f]{16})_([A-Za-z0-9_-]{43})")


class ApiKey(msgspec.Struct, frozen=True):
    """A key as it is stored. Times are Unix milliseconds; ``expires_ms`` 0 is never."""

    key_id: str
    digest: str
    principal_type: str
    principal_name: str
    description: str = ""
    created_ms: int = 0
    expires_ms: int = 0


def new_key() -> tuple[str, str, str]:
    """Return a new key as it is sent, its id and the digest to store."""
    key_id, secret = secrets.token_hex(8), secrets.token_urlsafe(32)
    return f"{PREFIX}{key_id}_{secret}", key_id, _digest(secret)


def split(key: str) -> tuple[str, str] | None:
    """Return a key's id and the digest of its secret; None if the text has not the form of a key."""
    match = _FORM.fullmatch(key)
    return (match[1], _digest(match[2])) if match else None


def is_same(digest: str, stored: str) -> bool:
    """Compare digests in a time that does not depend on them."""
    return hmac.compare_digest(digest, stored)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
