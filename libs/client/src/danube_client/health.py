"""Asks the platform now and then whether it still knows a producer or consumer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from danube_client.connection import Connection
from danube_client.errors import CallError, Closed
from danube_proto import danube_api_pb2 as wire

INTERVAL_S = 5.0
# One unanswered question may be a hiccup.
FAILURES_MAX = 2

ClientType = wire.HealthCheckRequest.ClientType


async def watch(
    place: Callable[[], tuple[Connection, int]],
    client: ClientType,
    interval_s: float,
    on_lost: Callable[[], None],
) -> None:
    """Asks every ``interval_s`` until cancelled or the connection is closed.

    Args:
        place: where the producer or consumer is now, and its id there.
        client: which of the two it is.
        interval_s: the pause between an answer and the next question.
        on_lost: called when the platform does not know the id, or has stopped answering.
    """
    failures = 0
    request_id = 0
    while True:
        connection, identity = place()
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
