"""The keys that tokens are checked with: secrets, public keys as PEM, and JSON Web Key Sets. Pure.

Each key fixes the one algorithm that it is used with. What a token's header says only chooses among the keys,
so neither ``alg: none`` nor a public key taken for a secret can pass.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
)

from danube_common.errors import UNDECODABLE, InvalidInput

KEYS_MAX: Final = 32
"""Keys in one file or set."""
SECRET_BYTES_MIN: Final = 32
"""A shorter secret of HS256 can be guessed from one token."""
RSA_BITS_MIN: Final = 2048
KEYS_BYTES_MAX: Final = 256 * 1024
"""Of a file or an answer with keys."""

_PEM_KEY: Final = re.compile(rb"-----BEGIN PUBLIC KEY-----.*?-----END PUBLIC KEY-----", re.DOTALL)
_JWK_ALGORITHMS: Final = {"RSA": "RS256", "EC": "ES256", "OKP": "EdDSA"}


@dataclass(frozen=True, slots=True)
class TokenKey:
    """One key. ``fingerprint`` tells keys apart without being a secret; ``kid`` is None if it has no name."""

    algorithm: str
    key: Any
    fingerprint: str
    kid: str | None = None


def secret_keys(data: bytes) -> list[TokenKey]:
    """Read secrets of HS256, one a line; the first one signs. Raises InvalidInput, which names no secret."""
    if b"-----BEGIN" in data:
        raise InvalidInput("it holds a PEM key, not a secret: public keys belong into another file")
    secrets = [line.strip() for line in data.splitlines() if line.strip()]
    if not secrets:
        raise InvalidInput("it holds no secret")
    if len(secrets) > KEYS_MAX:
        raise InvalidInput(f"it holds more than {KEYS_MAX} secrets")
    if any(len(secret) < SECRET_BYTES_MIN for secret in secrets):
        raise InvalidInput(f"a secret has at least {SECRET_BYTES_MIN} bytes: openssl rand -base64 48")
    return [TokenKey("HS256", secret, _digest(secret)) for secret in secrets]


def public_keys(data: bytes) -> list[TokenKey]:
    """Read public keys: PEM blocks, or a JSON Web Key Set. Raises InvalidInput."""
    if data.lstrip().startswith(b"{"):
        return key_set(data)
    if b"PRIVATE KEY-----" in data:
        raise InvalidInput("it holds a private key: the platform needs the public one only")
    blocks = _PEM_KEY.findall(data)
    if not blocks or len(blocks) > KEYS_MAX:
        raise InvalidInput(f"it holds {len(blocks) or 'no'} PEM public keys, from 1 to {KEYS_MAX} are taken")
    return [_public(_load(block)) for block in blocks]


def key_set(data: bytes) -> list[TokenKey]:
    """Read a JSON Web Key Set; secrets and unknown kinds of keys are left out. Raises InvalidInput."""
    if len(data) > KEYS_BYTES_MAX:
        raise InvalidInput(f"the key set has more than {KEYS_BYTES_MAX} bytes")
    try:
        document = json.loads(data)
    except UNDECODABLE:
        raise InvalidInput("the key set is not JSON") from None
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise InvalidInput('the key set has no list "keys"')
    if len(entries) > KEYS_MAX:
        raise InvalidInput(f"the key set has more than {KEYS_MAX} keys")
    keys = [key for entry in entries if (key := _of_jwk(entry)) is not None]
    if not keys:
        raise InvalidInput("the key set has no key for RS256, ES256 or EdDSA")
    return keys


def _of_jwk(entry: Any) -> TokenKey | None:
    if not isinstance(entry, dict) or entry.get("use", "sig") != "sig" or "d" in entry:
        return None
    algorithm = _JWK_ALGORITHMS.get(str(entry.get("kty")))
    if algorithm is None or entry.get("alg", algorithm) not in (algorithm, "Ed25519"):
        return None
    kid = entry.get("kid")
    try:
        key = jwt.PyJWK(entry, algorithm).key
        return _public(key, kid if isinstance(kid, str) else None)
    except (jwt.PyJWTError, InvalidInput, UnsupportedAlgorithm, TypeError, *UNDECODABLE):
        return None


def _load(block: bytes) -> Any:
    try:
        return load_pem_public_key(block)
    except (ValueError, UnsupportedAlgorithm):
        raise InvalidInput("a PEM block in it is no public key") from None


def _public(key: Any, kid: str | None = None) -> TokenKey:
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size < RSA_BITS_MIN:
            raise InvalidInput(f"an RSA key has at least {RSA_BITS_MIN} bits")
        algorithm = "RS256"
    elif isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        algorithm = "ES256"
    elif isinstance(key, ed25519.Ed25519PublicKey):
        algorithm = "EdDSA"
    else:
        raise InvalidInput("a public key is RSA, of the curve P-256, or Ed25519")
    return TokenKey(
        algorithm,
        key,
        _digest(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)),
        kid,
    )


def _digest(data: bytes) -> str:
    return hashlib.sha256(b"danube token key " + data).hexdigest()


def fingerprints(keys: Iterable[TokenKey]) -> frozenset[str]:
    """Return what tells these keys from others."""
    return frozenset(key.fingerprint for key in keys)
