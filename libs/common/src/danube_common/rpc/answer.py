"""The answer to one call, from its headers to its trailers, and the refusal of what is no gRPC call."""

from __future__ import annotations

from typing import Final

import structlog
from h2corn import HTTPResponseStart, HTTPResponseTrailers, HTTPScope, Send, SendMessage

from danube_common.rpc.call_head import CallHead
from danube_common.rpc.grpc_framing import ENCODINGS, Headers, status_headers
from danube_common.rpc.port import RpcError, StatusCode

_CONTENT_TYPE: Final = (b"content-type", b"application/grpc")
_OPENING: Final[Headers] = [_CONTENT_TYPE, (b"grpc-accept-encoding", ENCODINGS)]
_OK: Final[Headers] = [(b"grpc-status", b"0")]
OPENING_EVENT: Final[HTTPResponseStart] = {
    "type": "http.response.start",
    "status": 200,
    "headers": _OPENING,
    "trailers": True,
}
"""What begins an answer that has messages."""
OK_EVENT: Final[HTTPResponseTrailers] = {"type": "http.response.trailers", "headers": _OK}
"""What ends it."""

_log: structlog.stdlib.BoundLogger = structlog.get_logger("danube.rpc")


class ClientLeft(Exception):
    """The answer cannot be sent any more."""


class Answer:
    """The response of one call, from its headers to its trailers."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._opened = False

    async def open_now(self) -> None:
        """Send the headers without waiting for the first message."""
        await self._open()
        await self._put({"type": "http.response.body", "body": b"", "more_body": True})

    async def _put(self, event: SendMessage) -> None:
        try:
            await self._send(event)
        except OSError as error:
            raise ClientLeft from error

    async def _open(self) -> None:
        if not self._opened:
            self._opened = True
            await self._put(OPENING_EVENT)

    async def write(self, messages: bytes) -> None:
        """Send messages with their prefixes, in one piece."""
        if not self._opened:
            await self._open()
        await self._put({"type": "http.response.body", "body": messages, "more_body": True})

    async def end(self, error: RpcError | None) -> None:
        """Send the status: in the headers, if these were not sent yet, else in the trailers."""
        status = _OK if error is None else _headers_of(error)
        if not self._opened:
            headers = [*_OPENING, *status]
            await self._put({"type": "http.response.start", "status": 200, "headers": headers})
            await self._put({"type": "http.response.body"})
            return
        await self._put({"type": "http.response.body"})
        await self._put({"type": "http.response.trailers", "headers": status})


def _headers_of(error: RpcError) -> Headers:
    try:
        headers, large = status_headers(error)
    except ValueError as malformed:
        _log.error("rpc_status_malformed", code=error.code.name, error=str(malformed))
        return status_headers(RpcError(StatusCode.INTERNAL, "internal error"))[0]
    if large:
        _log.error("rpc_trailers_left_out", code=error.code.name, trailers=large)
    return headers


def refusal_of_http(scope: HTTPScope, head: CallHead) -> tuple[int, str] | None:
    """Return status and text for what is no gRPC call."""
    if head.is_usual and scope["http_version"] == "2" and scope["method"] == "POST":
        return None
    headers = head.headers
    kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if scope["http_version"] != "2":
        return 505, "this port speaks gRPC, which needs HTTP/2\n"
    if kind not in (b"application/grpc", b"application/grpc+proto"):
        return 415, "this port speaks gRPC: the content type must be application/grpc\n"
    if scope["method"] != "POST":
        return 405, "this port speaks gRPC: calls are POST requests\n"
    if b"trailers" not in headers.get(b"te", b""):
        return 400, "this port speaks gRPC: calls have the header te: trailers\n"
    return None


async def send_text(send: Send, status: int, text: str) -> None:
    """Answer without gRPC."""
    headers = [(b"content-type", b"text/plain; charset=utf-8")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text.encode()})
