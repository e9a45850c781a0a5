"""A server of its own process for test_floods: what floods cost it is seen from outside."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator

from danube_common.rpc.port import Call, Methods
from danube_common.rpc.server import RpcServer

CALLS_MAX = 400
REQUEST_S_MAX = 1.5
MESSAGE_BYTES_MAX = 1 << 20


async def _echo(call: Call) -> bytes:
    return call.request


async def _idle(_call: Call) -> AsyncIterator[bytes]:
    yield b"first"
    await asyncio.Event().wait()


async def _serve() -> None:
    server = RpcServer(
        Methods({"/a.B/Echo": _echo}, {"/a.B/Idle": _idle}),
        message_bytes_max=MESSAGE_BYTES_MAX,
        concurrent_calls_max=CALLS_MAX,
        request_s_max=REQUEST_S_MAX,
    )
    sys.stdout.write(await server.start("127.0.0.1:0") + "\n")
    sys.stdout.flush()
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await server.stop(0)


if __name__ == "__main__":
    asyncio.run(_serve())
