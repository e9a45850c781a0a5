"""The standard health service, ``grpc.health.v1.Health``: what probes, balancers and clients of gRPC ask.

Protocol: https://github.com/grpc/grpc/blob/master/doc/health-checking.md
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Final

from grpc_health.v1 import health_pb2 as pb

from danube_common.rpc.port import Call, Methods, RpcError, StatusCode
from danube_common.rpc.protobuf_strict import parse_strict

CHECK_METHOD: Final = "/grpc.health.v1.Health/Check"
POLL_S: Final = 0.5
"""How soon watchers hear of a change."""
NAME_CHARACTERS_MAX: Final = 100
"""A longer name is cut in a message."""

_SERVING: Final[int] = pb.HealthCheckResponse.SERVING
_NOT_SERVING: Final[int] = pb.HealthCheckResponse.NOT_SERVING
_SERVICE_UNKNOWN: Final[int] = pb.HealthCheckResponse.SERVICE_UNKNOWN


class HealthService:
    """Tells whether the process serves, under the empty name and under the name of each of its services.

    Args:
        ready: whether calls are answered as they should be; asked often, so it must not block.
    """

    def __init__(self, ready: Callable[[], bool]) -> None:
        self._ready = ready
        self._methods = Methods()
        self._told = _NOT_SERVING
        self._changed = asyncio.Event()

    def register(self, methods: Methods) -> None:
        """Add the service to ``methods``, whose services are those it knows."""
        self._methods = methods
        methods.unary[CHECK_METHOD] = self._check
        methods.unary["/grpc.health.v1.Health/List"] = self._list
        methods.stream["/grpc.health.v1.Health/Watch"] = self._watch

    async def run(self) -> None:
        """Tell watchers of changes, until cancelled."""
        while True:
            self.refresh()
            await asyncio.sleep(POLL_S)

    def refresh(self) -> None:
        """Look whether the status has changed, and tell watchers at once if so."""
        if (now := self._status()) != self._told:
            self._told = now
            self._changed.set()
            self._changed = asyncio.Event()

    def _status(self) -> int:
        return _SERVING if self._ready() else _NOT_SERVING

    def _is_known(self, service: str) -> bool:
        return not service or service in self._methods.services()

    async def _check(self, call: Call) -> bytes:
        service = parse_strict(pb.HealthCheckRequest, call.request).service
        if not self._is_known(service):
            raise RpcError(
                StatusCode.NOT_FOUND, f"there is no service {service[:NAME_CHARACTERS_MAX]!r} here"
            )
        return _response(self._status())

    async def _list(self, call: Call) -> bytes:
        parse_strict(pb.HealthListRequest, call.request)
        status = pb.HealthCheckResponse(status=self._status())
        statuses = dict.fromkeys(("", *self._methods.services()), status)
        return bytes(pb.HealthListResponse(statuses=statuses).SerializeToString())

    async def _watch(self, call: Call) -> AsyncIterator[bytes]:
        service = parse_strict(pb.HealthCheckRequest, call.request).service
        if not self._is_known(service):
            yield _response(_SERVICE_UNKNOWN)
            await asyncio.Event().wait()  # the services of a process do not change
        self.refresh()
        last = None
        while True:
            changed = self._changed
            if self._told != last:
                last = self._told
                yield _response(last)
            await changed.wait()


def _response(status: int) -> bytes:
    return bytes(pb.HealthCheckResponse(status=status).SerializeToString())
