"""Bare handlers behind the platform's own front: what a call costs without what the gateway does.

``python -m tests.benchmarks.echo_server empty|echo`` serves as a process and prints its address. ``empty``
answers SendMessage with a constant, as a gateway that does nothing; ``echo`` with the request's own bytes.
"""

from __future__ import annotations

import asyncio
import sys

import uvloop

from danube_common.rpc.port import Call, Methods
from danube_common.rpc.server import RpcServer
from danube_proto import danube_api_pb2 as api

MESSAGE_BYTES_MAX = 64 << 20
CALLS_MAX = 100_000


async def create_producer(call: Call) -> bytes:
    """Take any producer."""
    request = api.ProducerRequest.FromString(call.request)
    return api.ProducerResponse(producer_id=1, producer_name=request.producer_name).SerializeToString()


async def empty(_call: Call) -> bytes:
    """Answer with a constant."""
    return b"\x08\x01\x10\x01"


async def echo(call: Call) -> bytes:
    """Answer with the request."""
    return call.request


async def main() -> None:
    """Serve on a free port, which is printed."""
    methods = Methods(
        unary={
            "/danube.ProducerService/CreateProducer": create_producer,
            "/danube.ProducerService/SendMessage": {"empty": empty, "echo": echo}[sys.argv[1]],
        }
    )
    server = RpcServer(methods, message_bytes_max=MESSAGE_BYTES_MAX, concurrent_calls_max=CALLS_MAX)
    print(await server.start("127.0.0.1:0"), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main())
