"""Attacks on tokens: what proves nothing is refused, whatever the token says of itself."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from danube_common.security.identity import Identity, PrincipalType
from danube_common.security.token_keys import TokenKey, public_keys, secret_keys
from danube_common.security.tokens import TokenRefused, TokenRules, verify_token

NOW = 1_700_000_000.0
SECRET = b"a secret of more than thirty-two bytes"
OTHER = b"another secret of more than thirty-two"
KEYS = secret_keys(SECRET)
RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()
CLAIMS: dict[str, Any] = {
    "sub": "alice",
    "principal_type": "user",
    "principal_name": "alice",
    "iss": "danube-auth",
    "aud": "danube",
    "exp": NOW + 60,
}
RULES = TokenRules("danube-auth", "danube")


def pem(key: Any) -> bytes:
    data: bytes = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return data


def token(key: Any = SECRET, algorithm: str = "HS256", headers: Any = None, **changes: Any) -> str:
    claims = {name: value for name, value in {**CLAIMS, **changes}.items() if value is not None}
    return jwt.encode(claims, key, algorithm=algorithm, headers=headers)


def raw(header: object, claims: object, key: bytes | None) -> str:
    """A token that no library would make."""
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (header, claims)]
    signed = b".".join(parts)
    signature = hmac.new(key, signed, hashlib.sha256).digest() if key is not None else b""
    return (signed + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()


@pytest.mark.parametrize(
    ("key", "algorithm", "keys"),
    [
        (SECRET, "HS256", KEYS),
        (RSA, "RS256", public_keys(pem(RSA))),
        (EC, "ES256", public_keys(pem(EC))),
        (ED, "EdDSA", public_keys(pem(ED))),
    ],
)
def test_a_token_of_each_algorithm_names_its_principal(
    key: Any, algorithm: str, keys: list[TokenKey]
) -> None:
    verified = verify_token(token(key, algorithm), keys, RULES, NOW)
    assert verified.identity == Identity(PrincipalType.USER, "alice")
    assert verified.expires_s == NOW + 60


def test_a_token_without_our_claims_is_of_the_user_that_its_subject_names() -> None:
    plain = token(principal_type=None, principal_name=None)
    assert verify_token(plain, KEYS, RULES, NOW).identity == Identity(PrincipalType.USER, "alice")


@pytest.mark.parametrize(
    ("attack", "reason"),
    [
        (token(exp=NOW), "expired"),
        (token(exp=None), "no expiry"),
        (token(exp="later"), "no time"),
        (token(exp=True), "no time"),
        (token(nbf=NOW + 60), "not valid yet"),
        (token(iss="somebody"), "another issuer"),
        (token(iss=None), "another issuer"),
        (token(aud="somebody"), "another audience"),
        (token(aud=None), "another audience"),
        (token(aud=["others", "still others"]), "another audience"),
        (token(OTHER), "no key"),
        (token(principal_type="certificate"), "no user or service account"),
        (token(principal_type="broker_internal"), "nobody"),
        (token(principal_type=7), "no user or service account"),
        (token(principal_name=""), "nobody"),
        (token(principal_name="a\nb"), "nobody"),
        (raw({"alg": "none"}, CLAIMS, None), "algorithm"),
        (raw({"alg": "None"}, CLAIMS, SECRET), "algorithm"),
        (raw({"alg": ["HS256"]}, CLAIMS, SECRET), "algorithm"),
        (raw({"typ": "JWT"}, CLAIMS, SECRET), "algorithm"),
        (raw({"alg": "HS256", "jwk": {"kty": "oct", "k": "AAAA"}}, CLAIMS, b"\0\0\0"), "no key"),
        (raw({"alg": "HS256"}, ["no", "claims"], SECRET), "malformed"),
        (raw({"alg": "HS256"}, CLAIMS, None), "no key"),
        (raw(["no", "header"], CLAIMS, SECRET), "no JSON Web Token"),
        ("x" * 9000, "more than 8192"),
        ("a.b.c", "no JSON Web Token"),
        ("", "no JSON Web Token"),
        (base64.urlsafe_b64encode(b"[" * 5000).decode() + ".e30.", "no JSON Web Token"),
    ],
)
def test_what_proves_nothing_is_refused(attack: str, reason: str) -> None:
    with pytest.raises(TokenRefused, match=reason):
        verify_token(attack, KEYS, RULES, NOW)


@pytest.mark.parametrize("key", [RSA, EC, ED])
def test_a_public_key_is_never_taken_for_a_secret(key: Any) -> None:
    for secret in (pem(key), pem(key).strip(), pem(key).replace(b"\n", b"")):
        forged = raw({"alg": "HS256"}, CLAIMS, secret)
        with pytest.raises(TokenRefused):
            verify_token(forged, public_keys(pem(key)), RULES, NOW)
        with pytest.raises(TokenRefused):
            verify_token(forged, [*public_keys(pem(key)), *KEYS], RULES, NOW)


def test_a_key_is_used_with_its_own_algorithm_only() -> None:
    """The header of another algorithm chooses among that algorithm's keys, of which there are none."""
    with pytest.raises(TokenRefused, match="no key"):
        verify_token(token(RSA, "RS256"), public_keys(pem(EC)), RULES, NOW)
    with pytest.raises(TokenRefused, match="none of"):
        verify_token(token(RSA, "PS256"), public_keys(pem(RSA)), RULES, NOW)


def test_while_a_secret_is_replaced_both_are_taken() -> None:
    both = secret_keys(OTHER + b"\n" + SECRET + b"\n")
    for key in (SECRET, OTHER):
        assert verify_token(token(key), both, RULES, NOW).identity.name == "alice"


@given(st.text(max_size=200))
def test_no_text_is_more_than_refused(text: str) -> None:
    with pytest.raises(TokenRefused):
        verify_token(text, KEYS, RULES, NOW)


def test_a_refusal_tells_nothing_of_the_token() -> None:
    attack = token(OTHER)
    with pytest.raises(TokenRefused) as refused:
        verify_token(attack, KEYS, RULES, NOW)
    assert not any(part in str(refused.value) for part in attack.split("."))
