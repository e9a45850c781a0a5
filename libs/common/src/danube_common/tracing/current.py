"""The call and the span that the present task works for: their ids are logged, requests continue them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

from danube_common.tracing.tracer import Span


class HasIds(Protocol):
    """A call."""

    def ids(self) -> Mapping[str, str]:
        """Return what tells the call from others: ``call`` and, if its caller has a trace, ``trace_id``."""


_call: ContextVar[HasIds | None] = ContextVar("danube_call", default=None)
_span: ContextVar[Span | None] = ContextVar("danube_span", default=None)


def enter_call(call: HasIds) -> None:
    """Let the present task work for a call, to its end. Ids are made when they are asked for."""
    _call.set(call)


def leave_call() -> None:
    """Work for no call any more, where the same context goes on with other work."""
    _call.set(None)


def current_span() -> Span | None:
    """Return the span that the present task works for; None if there is none that has not ended."""
    span = _span.get()
    return span if span is not None and not span.ended_ns else None


def current_ids() -> dict[str, str]:
    """Return the ids of the present call and span; empty without."""
    call, span = _call.get(), current_span()
    found = dict(call.ids()) if call is not None else {}
    if span is not None:
        found |= {"trace_id": f"{span.context.trace_id:032x}", "span_id": f"{span.context.span_id:016x}"}
    return found


@contextmanager
def within(span: Span) -> Iterator[Span]:
    """Work for a span, and end it; it has failed if the work raises."""
    token = _span.set(span)
    error: BaseException | None = None
    try:
        yield span
    except BaseException as raised:
        error = raised
        raise
    finally:
        _span.reset(token)
        span.end(error)
