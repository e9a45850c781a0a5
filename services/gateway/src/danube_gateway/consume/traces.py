"""Spans of what is delivered and acknowledged."""

from __future__ import annotations

import time
from bisect import bisect_left, bisect_right, insort
from typing import Final

from danube_common.model.run import Run
from danube_common.tracing.context import TraceContext, find_contexts
from danube_common.tracing.tracer import Tracer
from danube_gateway.consume.ack_forwarder import AckForwarder, Delivered, Span
from danube_gateway.consume.source import Source
from danube_gateway.consume.unacked import Unacked

DELIVERED_MAX: Final = 1000
"""Traced messages of a subscription whose acknowledgement is awaited; beyond it the first are forgotten."""


class TracedSource(Source):
    """A `Source` with a span for each delivery and acknowledgement of a message that has a trace."""

    def __init__(
        self, delivered: Delivered, forwarder: AckForwarder, unacked: Unacked | None, tracer: Tracer
    ) -> None:
        super().__init__(delivered, forwarder, unacked)
        self._tracer = tracer
        self._awaited: dict[int, tuple[TraceContext, int]] = {}
        self._positions: list[int] = []
        """Those of ``_awaited``, ascending."""

    def hand_out(self, stream: object, batch: list[Run]) -> list[Run]:
        """See `Source.hand_out`."""
        taken = super().hand_out(stream, batch)
        for run in taken:
            for at, context in find_contexts(run.data, run.start, run.start + run.size):
                if context.sampled:
                    self._delivered(run, at, context)
        return taken

    def accept(self, position: int) -> bool:
        """See `Source.accept`."""
        accepted = super().accept(position)
        if accepted and position in self._awaited:
            self._acknowledged(position)
        return accepted

    def accept_spans(self, stream: object, spans: list[Span]) -> None:
        """See `Source.accept_spans`."""
        super().accept_spans(stream, spans)
        if self._awaited:
            for first, last in spans:
                begin = bisect_left(self._positions, first)
                for position in self._positions[begin : bisect_right(self._positions, last)]:
                    self._acknowledged(position)

    def _delivered(self, run: Run, at: int, parent: TraceContext) -> None:
        index = bisect_right(run.ends, at, run.low, run.high) - run.low
        position = run.first + index if run.first else 0
        span = self._tracer.start(
            "deliver",
            parent,
            messaging__system="danube",
            messaging__destination__name=self.delivered.topic,
            messaging__consumer__group__name=self.delivered.subscription,
            danube__position=position,
        )
        if span is None:
            return
        span.end()
        if position and self.unacked is not None:
            if position not in self._awaited:
                insort(self._positions, position)
            self._awaited[position] = span.context, time.time_ns()
            if len(self._positions) > DELIVERED_MAX:
                del self._awaited[self._positions.pop(0)]

    def _acknowledged(self, position: int) -> None:
        """Record the span of an acknowledgement: it lasts from the delivery on."""
        parent, delivered_ns = self._awaited.pop(position)
        del self._positions[bisect_left(self._positions, position)]
        span = self._tracer.start(
            "ack",
            parent,
            began_ns=delivered_ns,
            messaging__system="danube",
            messaging__destination__name=self.delivered.topic,
            messaging__consumer__group__name=self.delivered.subscription,
            danube__position=position,
        )
        if span is not None:
            span.end()
