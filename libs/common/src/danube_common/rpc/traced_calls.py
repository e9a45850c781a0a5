"""Spans of calls."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from danube_common.rpc.port import Call, Methods, UnaryHandler, answered
from danube_common.tracing.context import ATTRIBUTE, TraceContext, parse_context
from danube_common.tracing.current import within
from danube_common.tracing.tracer import Tracer

NO_METHODS: Final = frozenset[str]()


def trace_calls(methods: Methods, tracer: Tracer, *, but: Collection[str] = NO_METHODS) -> None:
    """Let unary calls with a sampled ``traceparent`` in their metadata be spans of that trace.

    For a part of the others one is begun (`Tracer.begins`).

    Args:
        methods: of a port.
        tracer: of the process.
        but: the methods of single messages, which are left as they are.
    """
    for name, handler in methods.unary.items():
        if name not in but:
            methods.unary[name] = _traced(name, handler, tracer)


def _traced(name: str, handler: UnaryHandler, tracer: Tracer) -> UnaryHandler:
    span_name = name.rpartition("/")[2]

    async def answer(call: Call) -> bytes:
        parent = _context_of(call)
        span = None
        if parent.sampled if parent is not None else tracer.begins():
            span = tracer.start(span_name, parent, rpc__system="grpc", rpc__method=name.removeprefix("/"))
        if span is None:
            return await answered(handler, call)
        with within(span):
            return await answered(handler, call)

    return answer


def _context_of(call: Call) -> TraceContext | None:
    text = call.metadata.get(ATTRIBUTE)
    return parse_context(text) if isinstance(text, str) else None
