"""Spans of what is published: each message that came alone, batches, and the frames that are appended."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final, TypeVar

from danube_common.log.port import Appended, BundleLog
from danube_common.model.bundle import Bundle
from danube_common.model.position import sequence_of
from danube_common.rpc.port import Call, UnaryHandler, answered
from danube_common.tracing.context import TraceContext, find_contexts, with_context
from danube_common.tracing.tracer import Span, Tracer
from danube_gateway.publish.producers import Producer
from danube_gateway.publish.ready_batch import ReadyBatch

T = TypeVar("T")
OnStored = Callable[[ReadyBatch, int], None]
FOUND_FRAMES_MAX: Final = 64
"""Frames whose contexts are kept until their batches are answered."""


def sampled(data: bytes) -> list[TraceContext]:
    """Return the contexts in ``data`` whose traces are recorded."""
    return [context for _, context in find_contexts(data) if context.sampled]


def traced_send(handler: UnaryHandler, tracer: Tracer) -> UnaryHandler:
    """Return the handler of SendMessage with a span for each message that has a trace.

    A trace that is begun here goes with the message, as its attribute.
    """

    def send(call: Call) -> Awaitable[bytes] | bytes:
        found = find_contexts(call.request)
        parent = found[0][1] if found else None
        span = None
        if parent.sampled if parent is not None else tracer.begins():
            span = tracer.start("publish", parent, messaging__system="danube")
        if span is None:
            return handler(call)
        if parent is None:
            call = replace(call, request=with_context(call.request, span.context))
        return _spanned(answered(handler, call), span)

    return send


async def _spanned(answer: Awaitable[T], span: Span) -> T:
    """Await the answer, and end the span with it."""
    error: BaseException | None = None
    try:
        return await answer
    except BaseException as raised:
        error = raised
        raise
    finally:
        span.end(error)


class TracedLog:
    """A `BundleLog` with a span for each frame that it appends of which a message has a trace."""

    def __init__(self, log: BundleLog, tracer: Tracer) -> None:
        self._log = log
        self._tracer = tracer
        self._found: OrderedDict[tuple[Bundle, int], list[TraceContext]] = OrderedDict()
        self.open = log.open
        self.bounds = log.bounds
        self.read = log.read
        self.follow = log.follow
        self.purge = log.purge

    async def append(self, bundle: Bundle, frame: bytes, *, frame_id: str, timeout_s: float) -> Appended:
        """See `BundleLog.append`."""
        appending = self._log.append(bundle, frame, frame_id=frame_id, timeout_s=timeout_s)
        contexts = sampled(frame)
        if not contexts:
            return await appending
        first, *others = contexts
        span = self._tracer.start(
            "append", first, others, danube__bundle=str(bundle), danube__frame__bytes=len(frame)
        )
        appended = await (appending if span is None else _spanned(appending, span))
        if len(self._found) >= FOUND_FRAMES_MAX:
            self._found.popitem(last=False)
        self._found[bundle, appended.sequence] = contexts
        return appended

    def traced_stored(self, on_stored: OnStored, producer: Producer) -> OnStored:
        """Return ``on_stored`` with a span for the batches of a frame, which links all traces."""

        def stored(batch: ReadyBatch, position: int) -> None:
            # The frame was searched already; that of a non-reliable topic is not appended.
            frame = producer.bundle, sequence_of(position)
            contexts = self._found.pop(frame, None) if position else sampled(batch.body.data)
            if contexts:
                first, *others = contexts
                span = self._tracer.start(
                    "publish",
                    first,
                    others,
                    began_ns=time.time_ns() - int((time.perf_counter() - batch.began) * 1e9),
                    messaging__system="danube",
                    messaging__destination__name=producer.topic.name,
                )
                if span is not None:
                    span.end()
            on_stored(batch, position)

        return stored
