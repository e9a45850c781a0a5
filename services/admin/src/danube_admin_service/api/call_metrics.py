"""Counts the calls of each method by their status."""

from __future__ import annotations

import dataclasses

from prometheus_client import Counter

from danube_common.rpc.port import Call, Methods, RpcError, StatusCode, UnaryHandler, answered
from danube_common.runtime.metrics import Family, Metrics

FAULT = StatusCode.INTERNAL


def counted(methods: Methods, metrics: Metrics) -> Methods:
    """Return the methods, with each call counted in ``danube_admin_calls_total`` by method and status."""
    calls = metrics.counter("admin_calls", "Calls on the admin port.", ("method", "code"))
    unary = {name: _counting(name, handler, methods, calls) for name, handler in methods.unary.items()}
    return dataclasses.replace(methods, unary=unary)


def _counting(name: str, handler: UnaryHandler, methods: Methods, calls: Family[Counter]) -> UnaryHandler:
    async def answer(call: Call) -> bytes:
        code = StatusCode.CANCELLED
        try:
            data = await answered(handler, call)
            code = StatusCode.OK
            return data
        except Exception as error:  # noqa: BLE001 - the boundary: everything becomes a status
            status = error if isinstance(error, RpcError) else methods.on_error(error)
            code = status.code if status is not None else FAULT
            raise status or error from None
        finally:
            calls.labels(name, code.name).inc()

    return answer
