"""A bare `grpc.aio` server that answers every SendMessage with its own bytes: what the library alone costs.

Run as a process; prints its port.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

if TYPE_CHECKING:  # generic in the stubs only
    _Handler = grpc.RpcMethodHandler[bytes, bytes]

METHOD = "/danube.ProducerService/SendMessage"


async def echo(request: bytes, _context: Any) -> bytes:
    """The request as the answer."""
    return request


class Echo(grpc.GenericRpcHandler):
    """Answers every SendMessage with its request."""

    def service(self, details: grpc.HandlerCallDetails) -> _Handler | None:
        """The handler of SendMessage."""
        return grpc.unary_unary_rpc_method_handler(echo) if details.method == METHOD else None


async def main() -> None:
    """Serve on a free port, which is printed."""
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Echo(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main())
