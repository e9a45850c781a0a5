"""Credentials and certificates for etcd, read from the files that the configuration names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from danube_common.errors import InvalidInput
from danube_common.metadata.etcd_link import EtcdTls
from danube_common.runtime.config import ServiceConfig


@dataclass(frozen=True, slots=True)
class EtcdAccess:
    """Credentials for etcd. ``user`` and ``password`` are set together or not at all."""

    user: str | None
    password: str | None
    tls: EtcdTls | None

    def __repr__(self) -> str:
        return f"EtcdAccess(user={self.user!r}, tls={self.tls is not None})"


def etcd_access(config: ServiceConfig) -> EtcdAccess:
    """Read the credentials. Raises InvalidInput, naming the file that cannot be read."""
    password = config.etcd_password.get_secret_value() if config.etcd_password is not None else None
    if config.etcd_password_file is not None:
        password = _read(config.etcd_password_file).decode().rstrip("\r\n")
    tls = None
    if config.etcd_ca_file is not None:
        tls = EtcdTls(
            _read(config.etcd_ca_file),
            _read(config.etcd_cert_file) if config.etcd_cert_file is not None else None,
            _read(config.etcd_key_file) if config.etcd_key_file is not None else None,
        )
    return EtcdAccess(config.etcd_user or None, password, tls)


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise InvalidInput(f"cannot read {file}: {error.strerror}") from None
