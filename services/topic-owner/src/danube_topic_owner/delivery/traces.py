"""Which messages of a bundle have a recorded trace: told by the log beside its frames, and on to gateways."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Final

from danube_common.model.bundle import Bundle
from danube_common.model.position import position_of
from danube_common.model.run import Run
from danube_common.tracing.context import TraceContext, find_contexts
from danube_common.tracing.current import current_span, within
from danube_common.tracing.marks import MARKS_MAX, Mark, Marked, encode_marks_by_consumer, parse_marks
from danube_common.tracing.tracer import Tracer
from danube_topic_owner.delivery.dispatch import Outgoing

KNOWN_MAX: Final = 4096
"""Messages of a bundle whose traces are known, for subscriptions that get them later; beyond it the first
are forgotten."""


class DeliveryTraces:
    """The traces of one bundle's messages. Without marks in its log nothing is done for a delivery.

    Args:
        bundle: the bundle.
        tracer: records when deliveries left here; None: only gateways are told.
    """

    def __init__(self, bundle: Bundle, tracer: Tracer | None) -> None:
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

    def sent(self, pack: Sequence[Outgoing]) -> str:
        """Record that deliveries leave together, and return which of their messages have traces, as text."""
        found: list[tuple[int, int, TraceContext, int]] = []
        for outgoing in pack:
            for run in outgoing.runs:
                for position, (context, noted_ns) in self._known.between(run.first, run.last):
                    found.append((outgoing.consumer_id, position, context, noted_ns))
        if not found:
            return ""
        del found[MARKS_MAX:]
        span = None
        if self._tracer is not None:
            span = self._tracer.start_of(
                [context for _, _, context, _ in found],
                "dispatch",
                began_ns=min(noted_ns for *_, noted_ns in found),
                danube__bundle=str(self._bundle),
                danube__messages=sum(len(run) for outgoing in pack for run in outgoing.runs),
            )
        told: dict[int, list[Mark]] = {}
        for consumer_id, position, context, _ in found:
            # What is next continues the span, if the span is in its trace.
            goes_on = span is not None and span.context.trace_id == context.trace_id
            told.setdefault(consumer_id, []).append(
                Mark(position, span.context if span is not None and goes_on else context)
            )
        if span is not None:
            span.end()
        return encode_marks_by_consumer(told.items())

    def __bool__(self) -> bool:
        """Whether a message with a trace is known."""
        return bool(self._known)
