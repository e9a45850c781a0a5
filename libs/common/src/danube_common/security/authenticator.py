"""Finds out who calls: by a bearer token, an API key or a certificate."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import structlog
from cryptography import x509

from danube_common.errors import InvalidInput
from danube_common.runtime.auth_config import AuthConfig
from danube_common.security import api_keys
from danube_common.security.identity import Identity, PrincipalType
from danube_common.security.key_set_url import KeySetUrl
from danube_common.security.policies import SecurityPolicies
from danube_common.security.token_keys import (
    KEYS_BYTES_MAX,
    TokenKey,
    fingerprints,
    public_keys,
    secret_keys,
)
from danube_common.security.tokens import TokenRefused, TokenRules, Verified, verify_token

FILES_POLL_S: Final = 2.0
"""How soon a change of a file with keys is seen."""
NEVER: Final = float("inf")
BEARER: Final = "bearer "
_API_KEY: Final = "api key "
_CERTIFICATE: Final = "certificate"

_log: structlog.stdlib.BoundLogger = structlog.get_logger("danube.security")


class Authenticator:
    """Checks credentials against the keys of the configuration and the API keys of the cluster.

    Args:
        config: the files, URL and claims.
        policies: knows the API keys.
        now_s: the wall clock.
    """

    def __init__(
        self, config: AuthConfig, policies: SecurityPolicies, now_s: Callable[[], float] = time.time
    ) -> None:
        self._config = config
        self._policies = policies
        self._now_s = now_s
        self._rules = TokenRules(config.issuer, config.audience)
        self._files = [
            (path, parse)
            for path, parse in (
                (config.secret_key_file, secret_keys),
                (config.public_key_file, public_keys),
            )
            if path is not None
        ]
        self._seen: list[bytes] = []
        self._from_files: list[TokenKey] = []
        self._url = KeySetUrl(config.jwks_url) if config.jwks_url else None
        self._keys: Sequence[TokenKey] = ()
        self._fingerprints: frozenset[str] = frozenset()

    async def start(self) -> None:
        """Read the keys. Raises InvalidInput for files that cannot be used; a URL may answer later."""
        self._seen = self._contents()
        self._from_files = self._parsed(self._seen)
        if self._url is not None:
            await self._url.refresh()
        self._take()

    async def run(self) -> None:
        """Follow changes of the files and of what the URL answers, until cancelled."""
        while True:
            await asyncio.sleep(FILES_POLL_S)
            try:
                now = self._contents()
                if now != self._seen:
                    self._seen, self._from_files = now, self._parsed(now)
                    _log.info("token_keys_read_again", keys=len(self._from_files))
            except InvalidInput as error:
                _log.error("token_keys_refused", error=str(error))
            if self._url is not None and self._url.is_old():
                await self._url.refresh()
            self._take()

    async def close(self) -> None:
        """Close what is open."""
        if self._url is not None:
            await self._url.close()

    async def identify(self, authorization: str | None, certificate: str | None) -> Verified:
        """Return who calls.

        Args:
            authorization: the header of this name; None without one.
            certificate: the client's certificate as PEM, which TLS has checked; None without one.

        Raises:
            TokenRefused: nobody that is known.
        """
        if authorization is not None:
            if authorization[: len(BEARER)].lower() != BEARER:
                raise TokenRefused("the authorization is no bearer token")
            token = authorization[len(BEARER) :].strip()
            if token.startswith(api_keys.PREFIX):
                return self._of_api_key(token)
            return await self._of_token(token)
        if certificate is not None and self._config.client_cert_identity != "none":
            return _of_certificate(certificate, self._config.client_cert_identity)
        raise TokenRefused("a bearer token is needed: authorization: Bearer <token>")

    def still_holds(self, verified: Verified) -> bool:
        """Return whether what was verified is neither revoked nor expired."""
        source = verified.fingerprint
        if self._now_s() >= verified.expires_s:
            return False
        if source.startswith(_API_KEY):
            return self._policies.api_key(source.removeprefix(_API_KEY), self._now_s()) is not None
        return source == _CERTIFICATE or source in self._fingerprints

    async def _of_token(self, token: str) -> Verified:
        try:
            return verify_token(token, self._keys, self._rules, self._now_s())
        except TokenRefused as refused:
            if not refused.unknown_key or self._url is None or not self._url.may_ask():
                raise
        # The issuer may have begun to sign with a new key.
        await self._url.refresh()
        self._take()
        return verify_token(token, self._keys, self._rules, self._now_s())

    def _of_api_key(self, token: str) -> Verified:
        parts = api_keys.split(token)
        key = self._policies.api_key(parts[0], self._now_s()) if parts else None
        if parts is None or key is None or not api_keys.is_same(parts[1], key.digest):
            raise TokenRefused("the API key is unknown, revoked or expired")
        identity = Identity.of(key.principal_type, key.principal_name)
        return Verified(identity, key.expires_ms / 1000 or NEVER, f"{_API_KEY}{key.key_id}")

    def _contents(self) -> list[bytes]:
        return [_read(path) for path, _ in self._files]

    def _parsed(self, contents: list[bytes]) -> list[TokenKey]:
        keys: list[TokenKey] = []
        for (path, parse), data in zip(self._files, contents, strict=True):
            try:
                keys += parse(data)
            except InvalidInput as error:
                raise InvalidInput(f"{path}: {error}") from None
        return keys

    def _take(self) -> None:
        self._keys = [*self._from_files, *(self._url.keys if self._url is not None else ())]
        self._fingerprints = fingerprints(self._keys)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(KEYS_BYTES_MAX + 1)
    except OSError as error:
        raise InvalidInput(f"cannot read {path}: {error.strerror}") from None
    if len(data) > KEYS_BYTES_MAX:
        raise InvalidInput(f"{path} has more than {KEYS_BYTES_MAX} bytes")
    return data


def _of_certificate(pem: str, part: str) -> Verified:
    try:
        certificate = x509.load_pem_x509_certificate(pem.encode())
        name = certificate.subject.rfc4514_string() if part == "subject" else _alternative_name(certificate)
        identity = Identity.of(PrincipalType.CERTIFICATE, name)
    except (ValueError, InvalidInput):
        raise TokenRefused(f"the certificate has no usable {part}") from None
    expires_s = certificate.not_valid_after_utc.timestamp()
    return Verified(identity, expires_s, _CERTIFICATE)


def _alternative_name(certificate: x509.Certificate) -> str:
    """Return the first URI of the alternative names, else the first DNS name, else the first address."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ""
    for kind in (x509.UniformResourceIdentifier, x509.DNSName, x509.RFC822Name):
        if found := names.get_values_for_type(kind):
            return found[0]
    return ""
