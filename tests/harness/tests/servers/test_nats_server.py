from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from danube_harness.servers.nats_server import NatsServer

ORPHAN_PROGRAM = """
import asyncio, os, sys
from pathlib import Path
from danube_harness.servers.nats_server import NatsServer

async def main():
    async with NatsServer.run(Path(sys.argv[1])) as server:
        print(server.pid, flush=True)
        os.kill(os.getpid(), 9)

asyncio.run(main())
"""


async def greeting(url: str) -> bytes:
    host, port = url.removeprefix("nats://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    line = await reader.readline()
    writer.close()
    await writer.wait_closed()
    return line


async def test_a_server_takes_connections_once_it_runs(nats_server: NatsServer) -> None:
    assert (await greeting(nats_server.url)).startswith(b"INFO ")


async def test_a_killed_server_comes_back_on_the_same_port(nats_server: NatsServer) -> None:
    url, pid = nats_server.url, nats_server.pid
    await nats_server.kill()
    with pytest.raises(ConnectionRefusedError):
        await greeting(url)
    await nats_server.restart()
    assert nats_server.url == url
    assert nats_server.pid != pid
    assert (await greeting(url)).startswith(b"INFO ")


async def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file where the directory should be")
    with pytest.raises(RuntimeError, match="ended before it was ready"):
        async with NatsServer.run(tmp_path):
            pass


async def test_a_server_dies_with_the_process_that_started_it(tmp_path: Path) -> None:
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", ORPHAN_PROGRAM, tmp_path, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await parent.communicate()
    assert parent.returncode == -9
    watched = int(output)
    # A pid descriptor becomes readable when the process ends, also for a process that is not our child.
    try:
        descriptor = os.pidfd_open(watched)
    except ProcessLookupError:
        return
    gone = asyncio.Event()
    asyncio.get_running_loop().add_reader(descriptor, gone.set)
    try:
        async with asyncio.timeout(10):
            await gone.wait()
    finally:
        asyncio.get_running_loop().remove_reader(descriptor)
        os.close(descriptor)
