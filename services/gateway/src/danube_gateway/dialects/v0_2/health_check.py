"""``danube.HealthCheck``: whether a producer or consumer still exists."""

from __future__ import annotations

from danube_common.errors import InvalidInput, Unavailable
from danube_common.rpc.port import Call, Methods
from danube_common.rpc.protobuf_strict import parse_strict
from danube_gateway.consume.sessions import Sessions
from danube_gateway.publish.producers import Producers
from danube_proto import danube_api_pb2 as api

OWNER_TIMEOUT_S = 2.0
"""Clients ping every 5 s and never again after an error, so no answer from the owner counts as OK."""


class HealthCheck:
    """Answers health checks after asking the owner."""

    def __init__(self, producers: Producers, sessions: Sessions) -> None:
        self._exists = (producers.exists, sessions.exists)

    def register(self, methods: Methods) -> None:
        """Add the service's method."""
        methods.unary["/danube.HealthCheck/HealthCheck"] = self.health_check

    async def health_check(self, call: Call) -> bytes:
        """Answer OK if the producer or consumer exists, else CLOSE."""
        request = parse_strict(api.HealthCheckRequest, call.request)
        if request.client not in (0, 1):
            raise InvalidInput(f"client {request.client} is neither Producer nor Consumer")
        try:
            exists = await self._exists[request.client](request.id, OWNER_TIMEOUT_S)
        except Unavailable:
            exists = True
        statuses = api.HealthCheckResponse.ClientStatus
        response = api.HealthCheckResponse(status=statuses.OK if exists else statuses.CLOSE)
        return response.SerializeToString()
