"""Which messages of a bundle have a recorded trace: told by the log beside its frames, and on to gateways."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from typing import Final

from danube_common.bus.port import Bus
from danube_common.model.bundle import Bundle
from danube_common.model.position import position_of
from danube_common.model.run import Run
from danube_common.tracing.context import TraceContext, find_contexts
from danube_common.tracing.current import current_span, within
from danube_common.tracing.marks import MARKS_MAX, Mark, Marked, encode_marks, parse_marks
from danube_common.tracing.tracer import Tracer
from danube_common.wire.owner.protocol import traces_subject
from danube_topic_owner.delivery.dispatch import Outgoing

KNOWN_MAX: Final = 4096
"""Messages of a bundle whose traces are known, for subscriptions that get them later; beyond it the first
are forgotten."""


class DeliveryTraces:
    """The traces of one bundle's messages. Without marks in its log nothing is done for a delivery.

    Gateways are told of them ahead of the delivery, once: what does not arrive is not traced there.

    Args:
        bus: to gateways.
        bundle: the bundle.
        tracer: records when deliveries left here; None: only gateways are told.
    """

    def __init__(self, bus: Bus, bundle: Bundle, tracer: Tracer | None) -> None:
        self._bus = bus
        self._bundle = bundle
        self._tracer = tracer
        self._known = Marked[tuple[TraceContext, int]](KNOWN_MAX)

    def note(self, sequence: int, marks: str) -> None:
        """Note the marks of a frame of the log."""
        begin, now_ns = position_of(sequence, 0, 0), time.time_ns()
        for place, context in parse_marks(marks):
            self._known.note(begin + place, (context, now_ns))

    def note_archived(self, run: Run) -> None:
        """Search messages that were read from segments, which have no marks."""
        if self._tracer is None:
            return
        now_ns = time.time_ns()
        found = find_contexts(run.data, run.start, run.start + run.size)
        recorded = [(at, context) for at, context in found if context.sampled]
        for at, context in recorded:
            self._known.note(run.position_at(at), (context, now_ns))
        if recorded and (span := current_span()) is not None:
            span.link([context for _, context in recorded])

    def reading(self, topic: str) -> AbstractContextManager[object]:
        """Return the span of one read of the archive, for the part of the reads for which one is begun."""
        if self._tracer is None or not self._tracer.begins():
            return nullcontext()
        span = self._tracer.start(
            "catch-up", danube__bundle=str(self._bundle), messaging__destination__name=topic
        )
        return nullcontext() if span is None else within(span)

    def deliver(self, outgoing: Outgoing) -> None:
        """Record that a delivery leaves, and tell its gateway which of its messages have traces."""
        if not self._known:
            return
        marked = (each for run in outgoing.runs for each in self._known.between(run.first, run.last))
        found = list(islice(marked, MARKS_MAX))
        if not found:
            return
        marks = self._spanned(
            [Mark(position, context) for position, (context, _) in found],
            min(noted_ns for _, (_, noted_ns) in found),
            outgoing,
        )
        told = f"{outgoing.consumer_id:x} {encode_marks(marks)}".encode()
        self._bus.publish_at_once(traces_subject(outgoing.gateway), told)

    def _spanned(self, marks: list[Mark], noted_ns: int, outgoing: Outgoing) -> Sequence[Mark]:
        """Record the span of a delivery, from when its first message came; what is next continues it."""
        if self._tracer is None:
            return marks
        span = self._tracer.start_of(
            [mark.context for mark in marks],
            "dispatch",
            began_ns=noted_ns,
            danube__bundle=str(self._bundle),
            danube__messages=sum(len(run) for run in outgoing.runs),
        )
        if span is None:
            return marks
        span.end()
        trace_id = span.context.trace_id
        return [
            Mark(place, span.context if context.trace_id == trace_id else context) for place, context in marks
        ]
