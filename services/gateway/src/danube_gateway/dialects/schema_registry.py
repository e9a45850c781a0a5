"""``danube_schema.SchemaRegistry`` on the client port."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from danube_common.errors import Refused
from danube_common.rpc.port import Call, Methods, StatusCode, UnaryHandler
from danube_common.rpc.protobuf_strict import parse_strict
from danube_common.schemas.calls import SERVICE, Fields, RegistryCalls
from danube_gateway.dialects.errors import rpc_error
from danube_proto import danube_schema_pb2 as schema
from danube_proto.danube_api_pb2 import ErrorType


def register(calls: RegistryCalls, methods: Methods) -> None:
    """Add the service's methods. A refused schema is FAILED_PRECONDITION, which no client repeats."""
    by_name = calls.by_name()
    for method in schema.DESCRIPTOR.services_by_name["SchemaRegistry"].methods:
        methods.unary[f"/{SERVICE}/{method.name}"] = _handler(
            by_name[method.name], GetMessageClass(method.input_type), GetMessageClass(method.output_type)
        )


def _handler(
    call_of: Callable[[Any], Awaitable[Fields]], request: type[Message], response: type[Message]
) -> UnaryHandler:
    async def answer(call: Call) -> bytes:
        try:
            fields = await call_of(parse_strict(request, call.request))
        except Refused as error:
            raise rpc_error(StatusCode.FAILED_PRECONDITION, ErrorType.UNKNOWN_ERROR, str(error)) from None
        return response(**fields).SerializeToString()

    return answer
