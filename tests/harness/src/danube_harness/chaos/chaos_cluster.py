"""The programs of a standalone platform, with a proxy on every connection that a fault may hurt.

Each service reaches NATS, and clients reach each gateway, through a proxy of its own. The programs are the
launcher's and run under its supervisor, so they come back as they do for a user.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Self

from danube_harness.chaos.backing import Backing
from danube_harness.faults.tcp_proxy import TcpProxy
from danube_standalone.data_dir import DataDir
from danube_standalone.program import Addresses, Program
from danube_standalone.programs import (
    FREE,
    SERVICE_DEADLINE_S,
    Layout,
    http_addresses,
    nats,
    readiness,
    services,
)
from danube_standalone.supervisor import Supervisor

READY_S_MAX = 60.0
POLL_INTERVAL_S = 0.05
EVENTS_MAX = 10_000
DISK_BYTES_MAX = 512 << 20


@dataclass(frozen=True, slots=True)
class Size:
    """How many instances of each service run."""

    gateways: int = 2
    topic_owners: int = 2
    storages: int = 2
    admins: int = 1


def kind_of(name: str) -> str:
    """``gateway`` of ``gateway-2``; a kind is what several instances of a service have in common."""
    stem, _, number = name.rpartition("-")
    return stem if number.isdigit() else name


class ChaosCluster:
    """One platform whose processes and proxies a fault finds by name (e.g. ``gateway-2``).

    Attributes:
        directory: the platform's data directory.
        nats_lines: the proxy between each service and NATS.
        client_lines: the proxy between clients and each gateway.
        before_start: called once, by name, right before that program is started the next time.
        said: what the supervisor told, the last EVENTS_MAX lines.
        backing: disk and S3 of the storage service.
    """

    backing: Backing

    def __init__(self, directory: DataDir, arguments: Mapping[str, Sequence[str]]) -> None:
        self.directory = directory
        self.nats_lines: dict[str, TcpProxy] = {}
        self.client_lines: dict[str, TcpProxy] = {}
        self.before_start: dict[str, Callable[[], object]] = {}
        self.said: deque[str] = deque(maxlen=EVENTS_MAX)
        self._arguments = arguments
        self._nats = self._supervisor([self._with_flags(nats(directory, 0))])
        self._services = self._nats

    @classmethod
    @asynccontextmanager
    async def run(
        cls,
        directory: Path,
        size: Size | None = None,
        *,
        arguments: Mapping[str, Sequence[str]] | None = None,
        disk_bytes_max: int = DISK_BYTES_MAX,
    ) -> AsyncIterator[Self]:
        """Start everything in ``directory``; stop it at the end, whatever state it is in.

        Args:
            directory: becomes the platform's data directory.
            size: how many of each service.
            arguments: further command-line arguments, by kind of service.
            disk_bytes_max: for segments on disk.
        """
        data = DataDir.open(directory)
        cluster = cls(data, arguments or {})
        try:
            async with AsyncExitStack() as proxies:
                cluster.backing = await proxies.enter_async_context(
                    Backing.run(directory / "s3", data.segments, disk_bytes_max)
                )
                try:
                    await cluster._start(size or Size(), proxies)
                    yield cluster
                finally:
                    cluster.heal()
                    await cluster._services.stop()
                    await cluster._nats.stop()
        finally:
            data.close()

    @property
    def names(self) -> list[str]:
        """Every program's name, NATS included, whether it runs or is being started again."""
        return ["nats", *self.nats_lines]

    @property
    def gateway_urls(self) -> list[str]:
        """Where clients connect: each gateway's proxy."""
        return [f"http://{proxy.address}" for proxy in self.client_lines.values()]

    @property
    def admin_addrs(self) -> list[str]:
        """The administration ports."""
        addresses = self._services.addresses
        return [addresses[name]["grpc_addr"] for name in self.nats_lines if kind_of(name) == "admin"]

    @property
    def nats_url(self) -> str:
        """The NATS server itself, past every proxy, with the credentials of an operator."""
        password = (self.directory.path / "nats" / "operator.password").read_text()
        return self._nats.addresses["nats"]["url"].replace("://", f"://operator:{password}@")

    def log_file(self, name: str) -> Path:
        """What a program wrote."""
        return self.directory.logs / f"{name}.log"

    def pid(self, name: str) -> int | None:
        """The process of that name, if one runs."""
        return (self._nats.pids | self._services.pids).get(name)

    def signal(self, name: str, number: signal.Signals) -> bool:
        """Send a signal; False if no process of that name runs now."""
        pid = self.pid(name)
        if pid is None:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        return True

    async def until_ready(self, name: str, *, not_pid: int | None = None) -> None:
        """Returns when ``name`` runs (as another process than ``not_pid``) and serves. Unbounded."""
        while True:
            pid = self.pid(name)
            if pid is not None and pid != not_pid and await self._problem(name, pid) is None:
                return
            await asyncio.sleep(POLL_INTERVAL_S)  # another process's readiness has no event

    def heal(self) -> None:
        """End every fault: proxies pass, paused processes go on, disk and S3 work."""
        self.backing.heal()
        for proxy in (*self.nats_lines.values(), *self.client_lines.values()):
            proxy.heal()
        for name in self.names:
            self.signal(name, signal.SIGCONT)

    async def _problem(self, name: str, pid: int) -> str | None:
        if name == "nats":
            told = self._nats.addresses.get(name)
            announced = self.directory.run / f"nats-server_{pid}.ports"
            return None if told and announced.exists() else "not ready yet"
        addresses = self._services.addresses.get(name)
        if addresses is None or addresses["pid"] != str(pid):
            return "not ready yet"
        return await readiness(addresses["http_url"])

    async def _start(self, size: Size, proxies: AsyncExitStack) -> None:
        await self._nats.start()
        nats_addresses = self._nats.addresses["nats"]
        nats_addr = nats_addresses["url"].rpartition("/")[2]
        counts = {
            "gateway": size.gateways,
            "topic-owner": size.topic_owners,
            "storage": size.storages,
            "admin": size.admins,
        }
        layout = Layout(
            gateway_addr=FREE,
            admin_addr=FREE,
            http_addrs=http_addresses(FREE, counts),
            nats_port=0,
            counts=counts,
        )
        programs = []
        for program in services(self.directory, layout, nats_addresses):
            line = await proxies.enter_async_context(TcpProxy.run(lambda: nats_addr))
            self.nats_lines[program.name] = line
            given = ["--nats-url", f"nats://{line.address}"]
            if kind_of(program.name) == "gateway":
                client_line = await proxies.enter_async_context(
                    TcpProxy.run(self._grpc_addr_of(program.name))
                )
                self.client_lines[program.name] = client_line
                given += ["--advertised-url", f"http://{client_line.address}"]
            of_storage = kind_of(program.name) == "storage"
            if of_storage:
                given += self.backing.arguments
            environment = self.backing.environment if of_storage else {}
            programs.append(self._with_flags(program, given, environment))
        self._services = self._supervisor(programs)
        await self._services.start()

    def _grpc_addr_of(self, name: str) -> Callable[[], str]:
        return lambda: self._services.addresses[name]["grpc_addr"]

    def _with_flags(
        self,
        program: Program,
        given: Sequence[str] = (),
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> Program:
        """The launcher's program with further flags; the last of two equal flags holds."""

        def command(known: Addresses) -> Sequence[str]:
            own = program.command(known)
            self.before_start.pop(program.name, lambda: None)()
            variables = [f"{name}={value}" for name, value in environment.items()]
            return ("env", *variables, *own, *given, *self._arguments.get(kind_of(program.name), ()))

        return replace(program, command=command)

    def _supervisor(self, programs: Sequence[Program]) -> Supervisor:
        return Supervisor(
            [programs],
            lock_fd=self.directory.lock_fd,
            tell=self.said.append,
            ready_s_max=READY_S_MAX,
            stop_s_max=SERVICE_DEADLINE_S,
        )
