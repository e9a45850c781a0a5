"""Spans of what is published: each message that came alone, batches, and the frames that are appended."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Awaitable, Iterable, Sequence
from dataclasses import replace
from itertools import islice
from typing import TypeVar

from danube_common.log.port import Appended
from danube_common.model.bundle import Bundle
from danube_common.model.position import position_of
from danube_common.rpc.port import Call, UnaryHandler, answered
from danube_common.tracing.context import find_contexts, has_context, with_context
from danube_common.tracing.current import within
from danube_common.tracing.marks import MARKS_MAX, Mark
from danube_common.tracing.tracer import Span, Tracer
from danube_common.wire.frame import decode_frame
from danube_gateway.publish.producers import Producer
from danube_gateway.publish.ready_batch import Body, ReadyBatch

T = TypeVar("T")


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
    with within(span):
        return await answer


def joined_marks(batches: Sequence[ReadyBatch]) -> Sequence[Mark]:
    """Return the marks of batches that go in one section, MARKS_MAX at most."""
    if not any(batch.marks for batch in batches):
        return ()
    joined: list[Mark] = []
    before = 0
    for batch in batches:
        joined += (Mark(before + place, context) for place, context in batch.marks)
        before += batch.count
    return joined[:MARKS_MAX]


class PublishTraces:
    """The spans of a gateway's frames and batches. Without a tracer no message is looked at."""

    def __init__(self, tracer: Tracer | None = None) -> None:
        self._tracer = tracer

    def marked(self, body: Body, indexes: Iterable[int]) -> Sequence[Mark]:
        """Return the marks of the messages with a recorded trace, of those whose indexes a client gave."""
        if self._tracer is None:
            return ()
        marks: list[Mark] = []
        base = 4 * len(body.ends)
        for index in islice(indexes, MARKS_MAX):
            if index < len(body.ends):
                start = base + (body.ends[index - 1] if index else 0)
                found = find_contexts(body.data, start, base + body.ends[index])
                if found and found[-1][1].sampled:
                    marks.append(Mark(index, found[-1][1]))
        return marks

    def find(self, frame: bytes) -> Sequence[Mark]:
        """Search a frame of messages that came alone for those with a recorded trace."""
        if self._tracer is None or not has_context(frame):
            return ()
        marks: list[Mark] = []
        for number, section in enumerate(decode_frame(frame).sections):
            for at, context in find_contexts(section.messages):
                if context.sampled:
                    marks.append(Mark(position_of(0, number, bisect_right(section.ends, at)), context))
        return marks[:MARKS_MAX]

    async def appended(
        self, appending: Awaitable[Appended], bundle: Bundle, frame: bytes, marks: Sequence[Mark]
    ) -> Appended:
        """Await the append of a frame, with a span in the trace of the first mark that links the others."""
        span = self._start("append", marks, danube__bundle=str(bundle), danube__frame__bytes=len(frame))
        return await (appending if span is None else _spanned(appending, span))

    def published(self, batch: ReadyBatch, producer: Producer) -> None:
        """Record that a batch is stored, with a span as `appended` has."""
        span = self._start(
            "publish",
            batch.marks,
            began_ns=time.time_ns() - int((time.perf_counter() - batch.began) * 1e9),
            messaging__system="danube",
            messaging__destination__name=producer.topic.name,
        )
        if span is not None:
            span.end()

    def _start(
        self, name: str, marks: Sequence[Mark], *, began_ns: int = 0, **attributes: str | int
    ) -> Span | None:
        if self._tracer is None:
            return None
        return self._tracer.start_of([mark.context for mark in marks], name, began_ns=began_ns, **attributes)
