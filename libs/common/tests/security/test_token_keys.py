from __future__ import annotations

import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given
from hypothesis import strategies as st

from danube_common.errors import InvalidInput
from danube_common.security.token_keys import KEYS_BYTES_MAX, key_set, public_keys, secret_keys

EC = ec.generate_private_key(ec.SECP256R1())
RSA = rsa.generate_private_key(65537, 2048)


def pem(key: Any) -> bytes:
    data: bytes = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return data


def jwk(key: Any, **more: object) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(
        jwt.get_algorithm_by_name("RS256" if key is RSA else "ES256").to_jwk(key)
    )
    return made | more


def test_one_file_may_hold_several_public_keys() -> None:
    found = public_keys(pem(EC) + pem(RSA) + pem(ed25519.Ed25519PrivateKey.generate()))
    assert [key.algorithm for key in found] == ["ES256", "RS256", "EdDSA"]
    assert len({key.fingerprint for key in found}) == 3


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "no PEM"),
        (EC.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), "private key"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "no public key"),
        (pem(ec.generate_private_key(ec.SECP384R1())), "P-256"),
        (pem(rsa.generate_private_key(65537, 1024)), "2048 bits"),  # noqa: S505 - to be refused
        (pem(EC) * 33, "33 PEM"),
        (b"{}", "no list"),
        (b'{"keys": []}', "no key for"),
        (b'{"keys": {}}', "no list"),
        (b"{" * 50_000, "not JSON"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_the_reason(data: bytes, reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason):
        public_keys(data)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"short", "at least 32"),
        (b"\n\n", "no secret"),
        (pem(EC), "PEM key, not a secret"),
        (b"x" * 40 + b"\n" + b"short", "at least 32"),
    ],
)
def test_a_secret_that_can_be_guessed_is_refused_and_not_told(data: bytes, reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason) as refused:
        secret_keys(data)
    assert "short" not in str(refused.value)


def test_a_key_set_gives_no_secrets_private_keys_or_keys_of_another_use() -> None:
    public = {name: value for name, value in jwk(EC, kid="good").items() if name != "d"}
    entries = [
        {"kty": "oct", "k": "c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0IHNlY3JldA", "alg": "HS256"},
        jwk(EC, kid="private"),
        public | {"use": "enc"},
        public | {"alg": "HS256"},
        public | {"x": "broken"},
        "no key",
        {},
        public,
    ]
    found = key_set(json.dumps({"keys": entries}).encode())
    assert [(key.kid, key.algorithm) for key in found] == [("good", "ES256")]


def test_a_key_set_has_a_bound() -> None:
    with pytest.raises(InvalidInput, match="more than"):
        key_set(b" " * (KEYS_BYTES_MAX + 1))
    with pytest.raises(InvalidInput, match="more than 32 keys"):
        key_set(json.dumps({"keys": [{}] * 33}).encode())


@given(st.binary(max_size=300))
def test_any_bytes_are_keys_or_refused(data: bytes) -> None:
    for read in (secret_keys, public_keys, key_set):
        try:
            read(data)
        except InvalidInput:
            continue
