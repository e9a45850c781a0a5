"""Health checks: ask periodically whether the platform still knows a producer or consumer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from danube_client.connection import Connection
from danube_client.errors import CallError, Closed
from danube_proto import danube_api_pb2 as wire

INTERVAL_S = 5.0
# A single unanswered check may be a short network fault.
FAILURES_MAX = 2

ClientType = wire.HealthCheckRequest.ClientType


async def watch(
    location: Callable[[], tuple[Connection, int]],
    client: ClientType,
    interval_s: float,
    on_lost: Callable[[], None],
) -> None:
    """Check every ``interval_s`` until cancelled or until the connection is closed.

    Args:
        location: returns the current connection and the id of the producer or consumer.
        client: whether it is a producer or a consumer.
        interval_s: seconds between an answer and the next check.
        on_lost: called when the platform does not know the id, or FAILURES_MAX checks in a row failed.
    """
    failures = 0
    request_id = 0
    while True:
        connection, identity = location()
        request_id += 1
        request = wire.HealthCheckRequest(request_id=request_id, client=client, id=identity)
        try:
            answer = await connection.health_check(request)
        except Closed:
            return
        except CallError:
            failures += 1
            lost = failures >= FAILURES_MAX
        else:
            failures = 0
            lost = answer.status == wire.HealthCheckResponse.CLOSE
        if lost:
            failures = 0
            on_lost()
        await asyncio.sleep(interval_s)
