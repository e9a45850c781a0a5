"""JSON Web Tokens: checked and created. Pure: keys and time are given."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import jwt

from danube_common.errors import UNDECODABLE, DanubeError, InvalidInput
from danube_common.security.identity import Identity, PrincipalType
from danube_common.security.token_keys import TokenKey

TOKEN_CHARACTERS_MAX: Final = 8192
CLOCK_SKEW_S: Final = 5.0
"""How far in the future a token's first moment may lie. What has expired has expired."""
_ALGORITHMS: Final = ("HS256", "RS256", "ES256", "EdDSA")
_UNCHECKED: Final = dict.fromkeys(
    ("verify_exp", "verify_nbf", "verify_iat", "verify_aud", "verify_iss", "verify_sub", "verify_jti"), False
)
"""The claims are checked here, against the time that is given."""


class TokenRefused(DanubeError):
    """The token proves nothing. The text says why, and holds nothing of it.

    Attributes:
        unknown_key: whether another key might have accepted it.
    """

    def __init__(self, reason: str, *, unknown_key: bool = False) -> None:
        super().__init__(reason)
        self.unknown_key = unknown_key


@dataclass(frozen=True, slots=True)
class TokenRules:
    """What a token must say; an empty text is not asked for."""

    issuer: str = ""
    audience: str = ""


@dataclass(frozen=True, slots=True)
class Verified:
    """What a token proves, until when (Unix seconds), and by which key."""

    identity: Identity
    expires_s: float
    fingerprint: str


def verify_token(token: str, keys: Sequence[TokenKey], rules: TokenRules, now_s: float) -> Verified:
    """Check a token. Raises TokenRefused."""
    if len(token) > TOKEN_CHARACTERS_MAX:
        raise TokenRefused(f"the token has more than {TOKEN_CHARACTERS_MAX} characters")
    try:
        header = jwt.get_unverified_header(token)
    except (jwt.PyJWTError, TypeError, *UNDECODABLE):
        raise TokenRefused("the token is no JSON Web Token") from None
    algorithm, kid = header.get("alg"), header.get("kid")
    if algorithm not in _ALGORITHMS:
        raise TokenRefused(f"the token's algorithm is none of {', '.join(_ALGORITHMS)}")
    fitting = [key for key in keys if key.algorithm == algorithm and (kid is None or key.kid in (None, kid))]
    for key in fitting:
        try:
            claims = jwt.decode(token, key.key, algorithms=[key.algorithm], options=_UNCHECKED)  # type: ignore[arg-type]
        except jwt.InvalidSignatureError:
            continue
        except (jwt.PyJWTError, TypeError, *UNDECODABLE):
            raise TokenRefused("the token is malformed") from None
        return _checked(claims, rules, now_s, key.fingerprint)
    raise TokenRefused("the token is signed with no key that is known here", unknown_key=True)


def _checked(claims: dict[str, Any], rules: TokenRules, now_s: float, fingerprint: str) -> Verified:
    expires_s = _time(claims, "exp")
    if expires_s is None:
        raise TokenRefused("the token has no expiry")
    if now_s >= expires_s:
        raise TokenRefused("the token has expired")
    begins_s = _time(claims, "nbf")
    if begins_s is not None and begins_s > now_s + CLOCK_SKEW_S:
        raise TokenRefused("the token is not valid yet")
    if rules.issuer and claims.get("iss") != rules.issuer:
        raise TokenRefused("the token is of another issuer")
    audience = claims.get("aud")
    if rules.audience and rules.audience not in (audience if isinstance(audience, list) else [audience]):
        raise TokenRefused("the token is for another audience")
    kind = claims.get("principal_type", PrincipalType.USER.value)
    name = claims.get("principal_name", claims.get("sub"))
    if not isinstance(kind, str) or not isinstance(name, str) or kind == PrincipalType.CERTIFICATE:
        raise TokenRefused("the token names no user or service account")
    try:
        return Verified(Identity.of(kind, name), expires_s, fingerprint)
    except InvalidInput as error:
        raise TokenRefused(f"the token names nobody: {error}") from None


def _time(claims: dict[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise TokenRefused(f"the token's {name} is no time")
    return float(value)
