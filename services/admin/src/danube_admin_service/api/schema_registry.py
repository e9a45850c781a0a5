"""``danube_schema.SchemaRegistry`` on the admin port."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from danube_admin_service.api.unary import precise
from danube_common.rpc.port import UnaryHandler
from danube_common.schemas.calls import SERVICE, Fields, RegistryCalls
from danube_proto import danube_schema_pb2 as schema


class SchemaRegistryAdmin:
    """Serves the registry's calls; each failure has its own status."""

    def __init__(self, calls: RegistryCalls) -> None:
        self._calls = calls.by_name()

    def methods(self) -> dict[str, UnaryHandler]:
        """Return the service's methods."""
        return {
            f"/{SERVICE}/{method.name}": precise(
                GetMessageClass(method.input_type),
                _handler(self._calls[method.name], GetMessageClass(method.output_type)),
            )
            for method in schema.DESCRIPTOR.services_by_name["SchemaRegistry"].methods
        }


def _handler(
    call_of: Callable[[Any], Awaitable[Fields]], response: type[Message]
) -> Callable[[Message], Awaitable[Message]]:
    async def answer(request: Message) -> Message:
        return response(**await call_of(request))

    return answer
