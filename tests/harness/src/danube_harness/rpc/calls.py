"""An RPC server for a test's own methods, and calls of gRPC's client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import grpc
import grpc.aio

from danube_common.rpc.port import Call, Methods
from danube_common.rpc.server import RpcServer

NOTICE_S = 10.0
"""For a busy machine; below the keepalive, which is another way to notice."""

Served = tuple[RpcServer, str]
Serve = Callable[..., Awaitable[Served]]


@asynccontextmanager
async def serving() -> AsyncIterator[Serve]:
    """Give a function that serves methods on a free port; its servers stop with the context."""
    servers: list[RpcServer] = []

    async def start(methods: Methods, **limits: Any) -> Served:
        server = RpcServer(methods, **{"message_bytes_max": 1 << 20, "concurrent_calls_max": 100} | limits)
        servers.append(server)
        return server, await server.start("127.0.0.1:0")

    yield start
    for server in servers:
        await server.stop(0)


def connect(addr: str, options: Any = ()) -> Any:
    """Return a channel: Any, because the stubs of grpcio do not know that serializers may be left out."""
    return grpc.aio.insecure_channel(addr, options=options)


async def status_of(call: Any) -> tuple[grpc.StatusCode, str, dict[str, Any]]:
    """Return code, text and trailers of a call that fails."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        trailers = cast("Any", error.trailing_metadata() or ())
        return (
            error.code(),
            error.details() or "",
            {str(key): value for key, value in trailers if key != "content-length"},
        )
    raise AssertionError("the call did not fail")


class Idle:
    """A stream that sends one message, then nothing, and tells when its finally has run."""

    def __init__(self) -> None:
        self.closed = asyncio.Event()

    async def __call__(self, _call: Call) -> AsyncIterator[bytes]:
        try:
            yield b"first"
            await asyncio.Event().wait()
        finally:
            self.closed.set()
