"""How a client and the platform recognize each other: TLS, for ``https://`` addresses, and tokens."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import grpc

PathLike = str | os.PathLike[str]


class _Tokens(grpc.AuthMetadataPlugin):
    """Asks for the token with each call."""

    def __init__(self, token: Callable[[], str]) -> None:
        self._token = token

    def __call__(self, _context: grpc.AuthMetadataContext, callback: grpc.AuthMetadataPluginCallback) -> None:
        """Give the metadata of one call, or the error that keeps it from being made."""
        try:
            callback((_authorization(self._token()),), None)
        except Exception as error:  # noqa: BLE001 - it belongs to the caller of the method
            callback((), error)


@dataclass(frozen=True, slots=True)
class Tls:
    """How the platform is recognized, and how it recognizes this client.

    Args:
        ca_file: certificates of the authorities to trust, as PEM; those that come with gRPC if absent.
        cert_file: this client's certificate, then those of its authorities, as PEM.
        key_file: the key of ``cert_file``, as PEM.
        server_name: the name that the platform's certificate must have, if not the host of the address.
        token: a bearer token or an API key, sent with each call; or a function that returns the present one,
            called by gRPC in threads of its own. Without ``https://`` it is sent to this machine only.

    Raises:
        ValueError: a certificate without its key, or a key without its certificate.
    """

    ca_file: PathLike | None = None
    cert_file: PathLike | None = None
    key_file: PathLike | None = None
    server_name: str | None = None
    token: str | Callable[[], str] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("a certificate and its key need each other")

    @property
    def is_needed(self) -> bool:
        """Whether more than a token was given, so that addresses must be ``https://`` ones."""
        return any((self.ca_file, self.cert_file, self.server_name))

    def credentials(self, *, in_metadata: bool = False) -> grpc.ChannelCredentials:
        """Read the files. With ``in_metadata`` calls are told what `metadata` returns. Raises OSError."""
        ca, key, cert = (
            None if file is None else Path(file).read_bytes()
            for file in (self.ca_file, self.key_file, self.cert_file)
        )
        return self._with_token(grpc.ssl_channel_credentials(ca, key, cert), in_metadata)

    def local_credentials(self, *, in_metadata: bool = False) -> grpc.ChannelCredentials:
        """Return what sends the token without TLS; gRPC refuses it to any machine but this."""
        return self._with_token(grpc.local_channel_credentials(), in_metadata)

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Return what to tell each call: a token that stays. For credentials gRPC starts a thread a call."""
        return (_authorization(self.token),) if isinstance(self.token, str) else ()

    def _with_token(self, channel: grpc.ChannelCredentials, in_metadata: bool) -> grpc.ChannelCredentials:
        if self.token is None or (in_metadata and isinstance(self.token, str)):
            return channel
        if isinstance(self.token, str):
            call = grpc.access_token_call_credentials(self.token)
        else:
            call = grpc.metadata_call_credentials(_Tokens(self.token))
        return grpc.composite_channel_credentials(channel, call)

    def channel_options(self) -> tuple[tuple[str, str], ...]:
        """Return what a channel must be told beside its credentials."""
        return (("grpc.ssl_target_name_override", self.server_name),) if self.server_name else ()


def _authorization(token: str) -> tuple[str, str]:
    return ("authorization", f"Bearer {token}")
