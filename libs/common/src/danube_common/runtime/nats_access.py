"""Credentials and certificates for NATS, read from the files that the configuration names."""

from __future__ import annotations

import ssl

from danube_common.errors import InvalidInput
from danube_common.nats.access import NatsAccess
from danube_common.runtime.config import ServiceConfig


def nats_access(config: ServiceConfig) -> NatsAccess:
    """Read the credentials. Raises InvalidInput, naming the file that cannot be used."""
    password = config.nats_password.get_secret_value() if config.nats_password is not None else ""
    if config.nats_password_file is not None:
        try:
            password = config.nats_password_file.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not text"
            raise InvalidInput(f"cannot read {config.nats_password_file}: {reason}") from None
    return NatsAccess(config.nats_user, password, _tls(config))


def _tls(config: ServiceConfig) -> ssl.SSLContext | None:
    if config.nats_ca_file is None:
        return None
    try:
        context = ssl.create_default_context(cafile=config.nats_ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if config.nats_cert_file is not None:
            context.load_cert_chain(config.nats_cert_file, config.nats_key_file)
    except (OSError, ssl.SSLError) as error:
        raise InvalidInput(f"TLS to NATS cannot be used: {error}") from None
    return context
