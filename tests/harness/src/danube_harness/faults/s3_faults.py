"""A proxy before an S3 server that answers some requests wrongly, as networks and busy servers do."""

from __future__ import annotations

import io
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from enum import StrEnum

from aiohttp import ClientError, ClientSession, web

from danube_harness.servers.server import HOST

BODY_BYTES_MAX = 64 << 20
_HOP_BY_HOP = {
    "connection",
    "expect",
    "keep-alive",
    "transfer-encoding",
    "te",
    "trailer",
    "upgrade",
    "date",
    "server",
}


# Connections end in the middle of everything here: no news.
_quiet = logging.getLogger(__name__)
_quiet.setLevel(logging.CRITICAL)


class S3Fault(StrEnum):
    """How a request goes wrong."""

    SLOW_DOWN = "503 before anything is done"
    LOST_ANSWER = "carried out, and the connection cut instead of the answer"
    CUT_BODY = "the answer's body ends halfway"


class S3FaultProxy:
    """Passes requests on to ``endpoint``; ``choose`` is asked for the fault of each, or None."""

    def __init__(self, endpoint: str) -> None:
        self._upstream = endpoint
        self.choose: Callable[[web.Request], S3Fault | None] = lambda _: None
        self.faults = 0
        self.endpoint = ""

    @classmethod
    @asynccontextmanager
    async def run(cls, endpoint: str) -> AsyncIterator[S3FaultProxy]:
        """Listen on a free port as long as the context lasts."""
        proxy = cls(endpoint)
        async with ClientSession(auto_decompress=False) as session:

            async def handle(request: web.Request) -> web.StreamResponse:
                try:
                    return await proxy._handle(request, session)
                except (ClientError, ConnectionError):
                    return _cut_off(request)  # the server or the client is away

            app = web.Application(client_max_size=BODY_BYTES_MAX)
            app.router.add_route("*", "/{path:.*}", handle)
            runner = web.AppRunner(app, shutdown_timeout=0, logger=_quiet)
            await runner.setup()
            site = web.TCPSite(runner, HOST, 0)
            await site.start()
            proxy.endpoint = f"http://{HOST}:{runner.addresses[0][1]}"
            try:
                yield proxy
            finally:
                await runner.cleanup()

    def fail_first(self, count: int, fault: S3Fault, *, method: str, query: str = "") -> None:
        """The first ``count`` requests of ``method`` whose query holds ``query`` meet the fault."""
        left = count

        def choose(request: web.Request) -> S3Fault | None:
            nonlocal left
            if left and request.method == method and query in request.query_string:
                left -= 1
                return fault
            return None

        self.choose = choose

    async def _handle(self, request: web.Request, session: ClientSession) -> web.StreamResponse:
        body = await request.read()
        fault = self.choose(request)
        self.faults += fault is not None
        if fault is S3Fault.SLOW_DOWN:
            return web.Response(status=503, body=b"<Error><Code>SlowDown</Code></Error>")
        async with session.request(
            request.method,
            f"{self._upstream}{request.raw_path}",
            data=io.BytesIO(body),
            headers={
                name: value for name, value in request.headers.items() if name.lower() not in _HOP_BY_HOP
            },
        ) as answer:
            content = await answer.read()
            headers = [(n, v) for n, v in answer.headers.items() if n.lower() not in _HOP_BY_HOP]
            status = answer.status
        if fault is S3Fault.LOST_ANSWER:
            return _cut_off(request)
        response = web.StreamResponse(status=status, headers=headers)
        if request.method == "HEAD":
            response.content_length = int(dict(headers).get("Content-Length", 0))
            await response.prepare(request)
            return response
        response.content_length = len(content)
        await response.prepare(request)
        if fault is S3Fault.CUT_BODY:
            await response.write(content[: len(content) // 2])
            return _cut_off(request)
        await response.write(content)
        return response


def _cut_off(request: web.Request) -> web.StreamResponse:
    """Close the connection; the response that a handler must return goes nowhere."""
    if request.transport is not None:
        request.transport.close()
    return web.Response()
