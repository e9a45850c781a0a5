"""TLS towards the platform, for addresses that begin with ``https://``."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import grpc

PathLike = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class Tls:
    """How the platform is recognized, and how it recognizes this client.

    Args:
        ca_file: certificates of the authorities to trust, as PEM; those that come with gRPC if absent.
        cert_file: this client's certificate, then those of its authorities, as PEM.
        key_file: the key of ``cert_file``, as PEM.
        server_name: the name that the platform's certificate must have, if not the host of the address.

    Raises:
        ValueError: a certificate without its key, or a key without its certificate.
    """

    ca_file: PathLike | None = None
    cert_file: PathLike | None = None
    key_file: PathLike | None = None
    server_name: str | None = None

    def __post_init__(self) -> None:
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("a certificate and its key need each other")

    def credentials(self) -> grpc.ChannelCredentials:
        """Read the files. Raises OSError."""
        ca, key, cert = (
            None if file is None else Path(file).read_bytes()
            for file in (self.ca_file, self.key_file, self.cert_file)
        )
        return grpc.ssl_channel_credentials(ca, key, cert)

    def channel_options(self) -> tuple[tuple[str, str], ...]:
        """Return what a channel must be told beside its credentials."""
        return (("grpc.ssl_target_name_override", self.server_name),) if self.server_name else ()
