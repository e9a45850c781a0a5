"""Calls with a trace and an id that logs carry."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Final

from structlog.contextvars import bound_contextvars

from danube_common.rpc.port import Call, Methods, UnaryHandler, answered
from danube_common.tracing.context import ATTRIBUTE, TraceContext, parse_context
from danube_common.tracing.tracer import Tracer

ID_HEADER: Final = "x-request-id"
ID_CHARACTERS_MAX: Final = 64


def add_call_ids(methods: Methods, tracer: Tracer | None, *, but: Collection[str] = ()) -> None:
    """Let what is logged in a unary call have its ``call``, and its trace if it has one.

    The id of a call is the caller's ``x-request-id``, or made here. Calls with a sampled ``traceparent`` in
    their metadata are spans of that trace; for a part of the others one is begun (`Tracer.begins`).

    Args:
        methods: of a port.
        tracer: None: there are no traces.
        but: the methods of single messages, which are left as they are.
    """
    for name, handler in methods.unary.items():
        if name not in but:
            methods.unary[name] = _with_id(name, handler, tracer)


def _with_id(name: str, handler: UnaryHandler, tracer: Tracer | None) -> UnaryHandler:
    span_name = name.rpartition("/")[2]

    async def answer(call: Call) -> bytes:
        with bound_contextvars(call=_call_id(call)):
            if tracer is None:
                return await answered(handler, call)
            with _spanned(tracer, span_name, call, name):
                return await answered(handler, call)

    return answer


@contextmanager
def _spanned(tracer: Tracer, span_name: str, call: Call, method: str) -> Iterator[None]:
    parent = _context_of(call)
    span = None
    if parent.sampled if parent is not None else tracer.begins():
        span = tracer.start(span_name, parent, rpc__system="grpc", rpc__method=method.removeprefix("/"))
    if span is None:
        yield
        return
    error: BaseException | None = None
    try:
        with bound_contextvars(
            trace_id=f"{span.context.trace_id:032x}", span_id=f"{span.context.span_id:016x}"
        ):
            yield
    except BaseException as raised:
        error = raised
        raise
    finally:
        span.end(error)


def _context_of(call: Call) -> TraceContext | None:
    text = call.metadata.get(ATTRIBUTE)
    return parse_context(text) if isinstance(text, str) else None


def _call_id(call: Call) -> str:
    given = call.metadata.get(ID_HEADER)
    if isinstance(given, str) and given.isprintable():
        return given[:ID_CHARACTERS_MAX]
    return secrets.token_hex(4)
