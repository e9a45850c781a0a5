"""One service of the platform as a process that a test starts, hurts and starts again."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from danube_harness.child_process import ChildProcess
from danube_harness.faults.tcp_proxy import TcpProxy
from danube_standalone.programs import FREE, SERVICE_MODULES, keep_port, readiness

LISTENS = {"gateway": "--grpc-addr", "admin": "--grpc-addr"}
"""The flag of the port that others connect to, by kind."""


class ServiceProcess(ChildProcess):
    """One instance of a service. Its identity and its addresses outlive its process.

    Args:
        kind: gateway, topic-owner, storage or admin.
        name: unique, e.g. ``gateway-2``.
        instance_id: its identity.
        directory: gets its output and its ready file.
        flags: its command line beyond identity and addresses.
        lines: the proxies it reaches its servers through, if it can be cut off.
    """

    start_timeout_s = 60.0
    poll_interval_s = 0.05

    def __init__(
        self,
        kind: str,
        name: str,
        instance_id: str,
        directory: Path,
        flags: Sequence[str],
        lines: Sequence[TcpProxy] = (),
    ) -> None:
        super().__init__(name, directory)
        self.kind = kind
        self.instance_id = instance_id
        self._ready_file = directory / f"{name}.json"
        self._flags = tuple(flags)
        self._lines = tuple(lines)
        self._addresses: Mapping[str, str] = {}

    @property
    def grpc_addr(self) -> str:
        """``host:port`` of its gRPC server."""
        return self._addresses["grpc_addr"]

    @property
    def http_url(self) -> str:
        """URL of its health and metrics server."""
        return self._addresses["http_url"]

    @property
    def environment(self) -> dict[str, str]:
        """The variables that it starts with."""
        return {**os.environ, **(self._environment or {})}

    def run_from(self, sources: Sequence[Path]) -> None:
        """Run the code in these import folders from its next start on; none: what is installed."""
        path = {"PYTHONPATH": os.pathsep.join(map(str, sources))} if sources else {}
        self._environment = {**os.environ, **path}

    def cut_off(self) -> None:
        """Partition it from its servers: what is under way arrives after `heal`."""
        assert self._lines, f"{self.name} was started without lines that can be cut"
        for line in self._lines:
            line.part()

    def heal(self) -> None:
        """The end of a `cut_off`."""
        for line in self._lines:
            line.heal()

    def _command(self) -> Sequence[str | Path]:
        self._ready_file.unlink(missing_ok=True)
        return [
            *(sys.executable, "-m", SERVICE_MODULES[self.kind], "--instance-id", self.instance_id),
            *("--ready-file", str(self._ready_file), *self._listen_flags(), *self._flags),
        ]

    async def _problem(self) -> str | None:
        if not self._ready_file.exists():
            return "it announced no addresses"
        self._addresses = {k: str(v) for k, v in json.loads(self._ready_file.read_bytes()).items()}
        return await readiness(self.http_url)

    def _listen_flags(self) -> list[str]:
        """Free ports the first time, then the same ones, so that clients find it again."""
        had = self._addresses
        flags = ["--http-addr", keep_port(FREE, had["http_url"]) if had else FREE]
        if self.kind in LISTENS:
            flags += [LISTENS[self.kind], keep_port(FREE, had["grpc_addr"]) if had else FREE]
        return flags
