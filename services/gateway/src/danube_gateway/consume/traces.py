"""Spans of what is delivered and acknowledged."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Final

from danube_common.model.run import Run
from danube_common.tracing.context import TraceContext, find_contexts
from danube_common.tracing.marks import Mark, Marked
from danube_common.tracing.tracer import Tracer
from danube_gateway.consume.ack_forwarder import AckForwarder, Delivered, Span
from danube_gateway.consume.source import Source
from danube_gateway.consume.unacked import Unacked

TRACED_MAX: Final = 1000
"""Traced messages of a subscription that are to come, and those that await their acknowledgement; beyond it
the first are forgotten."""


class TracedSource(Source):
    """A `Source` with a span for each delivery and acknowledgement of a message that has a trace."""

    def __init__(
        self, delivered: Delivered, forwarder: AckForwarder, unacked: Unacked | None, tracer: Tracer
    ) -> None:
        super().__init__(delivered, forwarder, unacked)
        self._tracer = tracer
        self._announced = Marked[TraceContext](TRACED_MAX)
        self._awaited = Marked[tuple[TraceContext, int]](TRACED_MAX)

    def announce(self, marks: Iterable[Mark]) -> None:
        """Note traces of messages that are about to come, as their owner tells."""
        for position, context in marks:
            self._announced.note(position, context)

    def hand_out(self, stream: object, batch: list[Run]) -> list[Run]:
        """See `Source.hand_out`."""
        taken = super().hand_out(stream, batch)
        if self.unacked is None:  # non-reliable messages have no positions to be announced by
            for run in taken:
                for _, context in find_contexts(run.data, run.start, run.start + run.size):
                    if context.sampled:
                        self._delivered(0, context)
        elif self._announced:
            for run in taken:
                for position, context in self._announced.between(run.first, run.last):
                    self._announced.take(position)
                    self._delivered(position, context)
        return taken

    def accept(self, position: int) -> bool:
        """See `Source.accept`."""
        accepted = super().accept(position)
        if accepted and self._awaited:
            self._acknowledged(position)
        return accepted

    def accept_spans(self, stream: object, spans: list[Span]) -> None:
        """See `Source.accept_spans`."""
        super().accept_spans(stream, spans)
        if self._awaited:
            for first, last in spans:
                for position, _ in self._awaited.between(first, last):
                    self._acknowledged(position)

    def _delivered(self, position: int, parent: TraceContext) -> None:
        context = self._record("deliver", position, parent)
        if position and context is not None:
            self._awaited.note(position, (context, time.time_ns()))

    def _acknowledged(self, position: int) -> None:
        """Record the span of an acknowledgement: it lasts from the delivery on."""
        if (awaited := self._awaited.take(position)) is not None:
            delivered, delivered_ns = awaited
            self._record("ack", position, delivered, began_ns=delivered_ns)

    def _record(
        self, name: str, position: int, parent: TraceContext, began_ns: int = 0
    ) -> TraceContext | None:
        span = self._tracer.start(
            name,
            parent,
            began_ns=began_ns,
            messaging__system="danube",
            messaging__destination__name=self.delivered.topic,
            messaging__consumer__group__name=self.delivered.subscription,
            danube__position=position,
        )
        if span is None:
            return None
        span.end()
        return span.context
