"""The configuration of authentication and authorization on a listening port."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from danube_common.runtime.address import split_address
from danube_common.runtime.config import Address, ServiceConfig
from danube_common.runtime.section import Section
from danube_common.runtime.tls_config import TlsConfig

_LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "::1")


def is_loopback(addr: str) -> bool:
    """Return whether only this machine reaches an address that is listened on."""
    host = split_address(addr)[0]
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _check_key_set_url(text: str) -> str:
    if not text:
        return text
    url = urlsplit(text)
    if url.scheme == "https" or (url.scheme == "http" and url.hostname in _LOOPBACK_HOSTS):
        return text
    raise ValueError("must be https://..., or http:// to this machine")


class AuthConfig(Section):
    """How callers prove who they are. Files with keys are read again when they change."""

    enabled: bool = Field(
        default=False, description="serve only callers with credentials, and only what their roles allow"
    )
    secret_key_file: Path | None = Field(
        default=None,
        description="secrets of HS256 tokens, one a line, at least 32 bytes each",
    )
    public_key_file: Path | None = Field(
        default=None, description="public keys of RS256, ES256 and EdDSA tokens: PEM, or a JSON Web Key Set"
    )
    jwks_url: Annotated[str, AfterValidator(_check_key_set_url)] = Field(
        default="", description="https:// URL of the issuer's JSON Web Key Set"
    )
    issuer: str = Field(default="", description="iss that tokens must have; empty: any")
    audience: str = Field(default="", description="aud that tokens must have; empty: any")
    client_cert_identity: Literal["none", "subject", "san"] = Field(
        default="none",
        description="take the identity from this part of a client's certificate, if it has no token",
    )
    super_admins: list[str] = Field(
        default=[], description="who may do everything: user:NAME, service_account:NAME, certificate:NAME"
    )
    calls_per_identity_max: int | None = Field(
        default=None,
        ge=1,
        description="unary calls, and streams, of one caller at one time; default: half of the port's bound",
    )
    audit_file: Path | None = Field(
        default=None, description="file for one line of JSON per denial and administrative call; - is stdout"
    )
    audit_required: bool = Field(
        default=False, description="refuse administrative calls while the audit file cannot be written"
    )

    @model_validator(mode="after")
    def _check_use(self) -> Self:
        given = self.model_fields_set - {"enabled"}
        if given and not self.enabled:
            raise ValueError(f"{min(given)} needs enabled = true")
        if self.audit_required and self.audit_file is None:
            raise ValueError("audit_required needs audit_file")
        return self


class GuardedPortConfig(ServiceConfig):
    """The configuration of a service with a port for clients or administrators."""

    grpc_addr: Address = Field(default="127.0.0.1:0", description="listen address")
    tls: TlsConfig = TlsConfig()
    auth: AuthConfig = AuthConfig()
    connections_per_peer_max: int | None = Field(
        default=None,
        ge=1,
        description="connections from one address; default: half of all. A balancer in front is one address",
    )
    insecure: bool = Field(
        default=False, description="allow an address that others reach, without authentication"
    )

    @model_validator(mode="after")
    def _check_exposure(self) -> Self:
        if not (self.auth.enabled or self.insecure or is_loopback(self.grpc_addr)):
            raise ValueError(
                f"others reach grpc_addr {self.grpc_addr}, and nobody is asked for credentials: set "
                "auth.enabled, listen on 127.0.0.1, or say insecure"
            )
        return self
