"""Real S3 servers on free ports: SeaweedFS, and moto's."""

from __future__ import annotations

import os
import sysconfig
from contextlib import AbstractAsyncContextManager
from enum import StrEnum
from pathlib import Path

import aiohttp

from danube_harness.child_process import ChildProcess
from danube_harness.servers.server import HOST, free_ports, started

PROBE_TIMEOUT_S = 2.0
BUCKET = "segments"
REGION = "us-east-1"
ACCESS_KEY = "test"
SECRET_KEY = "test-secret"

_WEED_PORTS = ("s3", "master", "volume", "filer", "admin")


class S3Kind(StrEnum):
    """The servers differ: moto forgets everything when it ends, and does not complete uploads atomically."""

    SEAWEED = "seaweedfs"
    MOTO = "moto"


class S3Server(ChildProcess):
    """One server process with the bucket BUCKET; its port stays the same across `kill` and `restart`."""

    poll_interval_s = 0.05

    def __init__(self, kind: S3Kind, directory: Path) -> None:
        # Credentials of the test's own client would become the server's, which takes any without.
        variables = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "S3_"))}
        super().__init__(kind.value, directory, environment=variables)
        self.kind = kind
        self._ports = free_ports(2 * len(_WEED_PORTS))

    @classmethod
    def run(cls, kind: S3Kind, directory: Path) -> AbstractAsyncContextManager[S3Server]:
        """A started server that keeps everything under ``directory``, killed at the end."""
        return started(lambda _: cls(kind, directory))

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

    def _command(self) -> list[str]:
        scripts = Path(sysconfig.get_path("scripts"))
        if self.kind is S3Kind.MOTO:
            return [str(scripts / "moto_server"), "-H", HOST, "-p", str(self._ports[0])]
        data = self.directory / "data"
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

    async def _problem(self) -> str | None:
        # An unsigned request is enough for both kinds, and needs no client that the tests are about.
        headers = {"Authorization": f"AWS {ACCESS_KEY}:unsigned"}
        timeout = aiohttp.ClientTimeout(total=PROBE_TIMEOUT_S)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.put(f"{self.endpoint}/{BUCKET}", headers=headers) as answer,
            ):
                return None if answer.status in {200, 409} else f"making the bucket: {answer.status}"
        except (aiohttp.ClientError, TimeoutError) as error:
            return f"making the bucket: {error!r}"
