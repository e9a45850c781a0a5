"""Adapts a handler over protobuf messages to the RPC seam's bytes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from google.protobuf.message import Message

from danube_admin_service.api.errors import failure, precise_statuses
from danube_common.errors import CorruptData
from danube_common.rpc.port import Call, StatusCode, UnaryHandler
from danube_common.rpc.protobuf_strict import parse_strict
from danube_proto.danube_api_pb2 import UNKNOWN_ERROR, ErrorType

Q = TypeVar("Q", bound=Message)


def unary(
    request_type: type[Q],
    handler: Callable[[Q], Awaitable[Message]],
    require: Callable[[Call, Q], None] | None = None,
) -> UnaryHandler:
    """Serve ``handler``; bytes that are no ``request_type`` are refused before the handler sees them.

    ``require`` asks for permissions that the table of methods does not know, with `Call.require`.
    """

    async def answer(call: Call) -> bytes:
        try:
            request = parse_strict(request_type, call.request)
        except CorruptData as error:
            raise failure(str(error), code=StatusCode.INVALID_ARGUMENT) from None
        if require is not None:
            require(call, request)
        return (await handler(request)).SerializeToString()

    return answer


def precise(
    request_type: type[Q],
    handler: Callable[[Q], Awaitable[Message]],
    unknown: ErrorType = UNKNOWN_ERROR,
    require: Callable[[Call, Q], None] | None = None,
) -> UnaryHandler:
    """Serve ``handler`` as `unary` does, for a method that no v0.2 client knows: see `precise_statuses`."""

    async def answer(request: Q) -> Message:
        async with precise_statuses(unknown):
            return await handler(request)

    return unary(request_type, answer, require)
