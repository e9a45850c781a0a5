"""What a process tells about itself and its machine at ``/about``, for ``danube-admin doctor``."""

from __future__ import annotations

import resource
import shutil
import time
from pathlib import Path
from typing import Any

from danube_common.runtime.config import ServiceConfig
from danube_common.runtime.tls_config import TlsConfig
from danube_common.runtime.version import platform_version


def about(service: str, config: ServiceConfig) -> dict[str, Any]:
    """Return the facts as they are now. Blocks for a look at the disk; what cannot be told is left out."""
    facts: dict[str, Any] = {
        "service": service,
        "instance_id": config.instance_id,
        "version": platform_version(),
        "now_ms": time.time_ns() // 1_000_000,
        "open_files_max": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
    }
    directory = getattr(config, "data_dir", None)
    if isinstance(directory, Path):
        facts |= _disk(directory)
    ports = (config.http_tls, getattr(config, "tls", None))
    files = [port.cert_file for port in ports if isinstance(port, TlsConfig) and port.cert_file is not None]
    ends = [end for file in files if (end := _end_of(file)) is not None]
    return facts | ({"certificate_expires_ms": min(ends)} if ends else {})


def _disk(directory: Path) -> dict[str, Any]:
    while not directory.exists() and directory != directory.parent:
        directory = directory.parent  # it is made when the first segment is
    try:
        usage = shutil.disk_usage(directory)
    except OSError:
        return {}
    return {"disk_free_bytes": usage.free, "disk_bytes": usage.total}


def _end_of(file: Path) -> int | None:
    """Return when a certificate expires, in ms since the epoch."""
    from cryptography import x509  # noqa: PLC0415 - slow to import, and only ports with TLS need it

    try:
        certificate = x509.load_pem_x509_certificate(file.read_bytes())
    except (OSError, ValueError):
        return None
    return int(certificate.not_valid_after_utc.timestamp() * 1000)
