"""The configuration of TLS on a listening port."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from danube_common.runtime.section import Section


class TlsConfig(Section):
    """PEM files; they are read again when they change."""

    cert_file: Path | None = Field(
        default=None, description="the certificate, then those of its authorities, as PEM; turns TLS on"
    )
    key_file: Path | None = Field(default=None, description="the key of cert-file, as PEM, not encrypted")
    client_ca_file: Path | None = Field(
        default=None,
        description="certificates of the authorities that clients' ones are checked with",
    )
    client_certs: Literal["optional", "required"] = Field(
        default="required", description="whether clients must have a certificate, with client-ca-file"
    )

    @model_validator(mode="after")
    def _check_files(self) -> Self:
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file need each other")
        if self.client_ca_file is not None and self.cert_file is None:
            raise ValueError("client_ca_file needs cert_file")
        return self

    @property
    def enabled(self) -> bool:
        """Whether the port speaks TLS, and nothing else."""
        return self.cert_file is not None

    @property
    def files(self) -> list[Path]:
        """The files that are given."""
        return [file for file in (self.cert_file, self.key_file, self.client_ca_file) if file is not None]
