"""Spans of calls."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Collection
from contextlib import aclosing, nullcontext
from typing import Any, Final, cast

from danube_common.rpc.port import Call, Framed, Methods, Opened, StreamHandler, UnaryHandler, answered
from danube_common.tracing.context import ATTRIBUTE, TraceContext, parse_context
from danube_common.tracing.current import within
from danube_common.tracing.tracer import Span, Tracer

NO_METHODS: Final = frozenset[str]()


def trace_calls(methods: Methods, tracer: Tracer, *, but: Collection[str] = NO_METHODS) -> None:
    """Let unary calls and server streams that have a sampled ``traceparent`` be spans of that trace.

    For a part of the other unary calls one is begun (`Tracer.begins`).

    Args:
        methods: of a port.
        tracer: of the process.
        but: the methods that are left as they are.
    """
    for name, handler in methods.unary.items():
        if name not in but:
            methods.unary[name] = _traced(name, handler, tracer)
    for name, stream in methods.stream.items():
        if name not in but:
            methods.stream[name] = _traced_stream(name, stream, tracer)


def _traced_stream(name: str, handler: StreamHandler, tracer: Tracer) -> StreamHandler:
    async def answer(call: Call) -> AsyncIterator[bytes | list[bytes] | Framed | Opened]:
        parent = _context_of(call)
        span = _start(name, parent, tracer) if parent is not None and parent.sampled else None
        with nullcontext() if span is None else within(span):
            async with aclosing(cast("AsyncGenerator[Any, None]", handler(call))) as messages:
                async for message in messages:
                    yield message

    return answer


def _traced(name: str, handler: UnaryHandler, tracer: Tracer) -> UnaryHandler:
    async def answer(call: Call) -> bytes:
        parent = _context_of(call)
        span = None
        if parent.sampled if parent is not None else tracer.begins():
            span = _start(name, parent, tracer)
        if span is None:
            return await answered(handler, call)
        with within(span):
            return await answered(handler, call)

    return answer


def _start(name: str, parent: TraceContext | None, tracer: Tracer) -> Span | None:
    return tracer.start(
        name.rpartition("/")[2], parent, rpc__system="grpc", rpc__method=name.removeprefix("/")
    )


def _context_of(call: Call) -> TraceContext | None:
    text = call.metadata.get(ATTRIBUTE)
    return parse_context(text) if isinstance(text, str) else None
