"""Real S3 servers on free ports: SeaweedFS, and moto's."""

from __future__ import annotations

import asyncio
import os
import sysconfig
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import StrEnum
from pathlib import Path

import aiohttp

from danube_harness.process_death import die_with_parent
from danube_harness.servers.etcd_server import HOST, free_ports

START_TIMEOUT_S = 30.0
START_ATTEMPTS_MAX = 3
PROBE_INTERVAL_S = 0.05
PROBE_TIMEOUT_S = 2.0
OUTPUT_BYTES_SHOWN = 4000
BUCKET = "segments"
REGION = "us-east-1"
ACCESS_KEY = "test"
SECRET_KEY = "test-secret"

_WEED_PORTS = ("s3", "master", "volume", "filer", "admin")


class S3Kind(StrEnum):
    """The servers differ: moto forgets everything when it ends, and does not complete uploads atomically."""

    SEAWEED = "seaweedfs"
    MOTO = "moto"


class S3Server:
    """One server process with the bucket BUCKET; its port stays the same across `kill` and `restart`."""

    def __init__(self, kind: S3Kind, directory: Path) -> None:
        self.kind = kind
        self._directory = directory
        self._ports = free_ports(2 * len(_WEED_PORTS))
        self._process: Process | None = None

    @classmethod
    @asynccontextmanager
    async def run(cls, kind: S3Kind, directory: Path) -> AsyncIterator[S3Server]:
        """Start a server that keeps everything under ``directory``; kill it at the end."""
        server = cls(kind, directory)
        for attempt in range(1, START_ATTEMPTS_MAX + 1):
            try:
                await server.start()
                break
            except RuntimeError:
                # Another process may have taken a port between looking for one and listening on it.
                if attempt == START_ATTEMPTS_MAX:
                    raise
                server = cls(kind, directory)
        try:
            yield server
        finally:
            if server._process is not None:
                await server.kill()

    @property
    def endpoint(self) -> str:
        """What clients connect to, e.g. ``http://127.0.0.1:40123``."""
        return f"http://{HOST}:{self._ports[0]}"

    @property
    def environment(self) -> dict[str, str]:
        """Variables by which a client of the usual chain finds credentials that the server takes."""
        return {
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    @property
    def pid(self) -> int:
        """The running server's process id."""
        assert self._process is not None, "the server is not running"
        return self._process.pid

    @property
    def output(self) -> str:
        """The last of what the server wrote."""
        return self._output_file.read_text(errors="replace")[-OUTPUT_BYTES_SHOWN:]

    async def start(self) -> None:
        """Start, or start again after `kill`; returns when the bucket exists."""
        assert self._process is None, "the server is already running"
        with self._output_file.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                *self._command(),
                stdin=DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self._directory,
                # Credentials of the test's own client would become the server's, which takes any without.
                env={
                    name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "S3_"))
                },
                preexec_fn=die_with_parent,
            )
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await self._make_bucket(self._process)
        except BaseException:
            await self.kill()
            raise

    async def kill(self) -> None:
        """SIGKILL, as a crash would end it; returns when the process is gone."""
        assert self._process is not None, "the server is not running"
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
        self._process = None

    async def restart(self) -> None:
        """Same ports, same directory; kills the server first if it runs."""
        if self._process is not None:
            await self.kill()
        await self.start()

    @property
    def _output_file(self) -> Path:
        return self._directory / "server.log"

    def _command(self) -> list[str]:
        scripts = Path(sysconfig.get_path("scripts"))
        if self.kind is S3Kind.MOTO:
            return [str(scripts / "moto_server"), "-H", HOST, "-p", str(self._ports[0])]
        data = self._directory / "data"
        data.mkdir(exist_ok=True)
        ports = zip(_WEED_PORTS, self._ports[::2], self._ports[1::2], strict=True)
        return [
            str(scripts / "weed"),
            "mini",
            f"-dir={data}",
            f"-ip={HOST}",
            f"-ip.bind={HOST}",
            "-webdav=false",
            "-admin.ui=false",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            *(
                f"-{name}.port{of}={port}"
                for name, *both in ports
                for of, port in zip(("", ".grpc"), both, strict=True)
            ),
        ]

    async def _make_bucket(self, process: Process) -> None:
        # An unsigned request is enough for both, and needs no client that the tests are about.
        authorization = f"AWS {ACCESS_KEY}:unsigned"
        timeout = aiohttp.ClientTimeout(total=PROBE_TIMEOUT_S)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while process.returncode is None:
                try:
                    async with session.put(
                        f"{self.endpoint}/{BUCKET}", headers={"Authorization": authorization}
                    ) as answer:
                        if answer.status in {200, 409}:
                            return
                except (aiohttp.ClientError, TimeoutError):
                    pass
                await asyncio.sleep(PROBE_INTERVAL_S)
        raise RuntimeError(f"{self.kind} ended before it was ready:\n{self.output}")
