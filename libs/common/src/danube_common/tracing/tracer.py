"""Makes spans, and hands those that have ended to whoever keeps them."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from danube_common.tracing.context import TraceContext

SPANS_PER_S_MAX: Final = 100
"""Spans that a process makes in a second. What is beyond is counted and left out: spans take a busy
process about a millisecond of CPU each second at most, whatever part of the messages its callers trace."""

LINKS_MAX: Final = 31


@dataclass(slots=True, eq=False)
class Span:
    """Something that is done; times in ns since the epoch. ``attributes``: ``__`` in names is a dot."""

    name: str
    context: TraceContext
    parent: TraceContext | None
    links: Sequence[TraceContext]
    began_ns: int
    attributes: Mapping[str, str | int]
    take: Callable[[Span], None]
    ended_ns: int = 0
    error: str = ""

    def link(self, contexts: Sequence[TraceContext]) -> None:
        """Add other spans that it has to do with, up to LINKS_MAX."""
        self.links = (*self.links, *contexts)[:LINKS_MAX]

    def end(self, error: BaseException | None = None) -> None:
        """End the span. It failed if there is an ``error``."""
        if error is not None:
            self.error = f"{type(error).__name__}: {error}"
        self.ended_ns = time.time_ns()
        self.take(self)


class Tracer:
    """Makes spans.

    Args:
        sample: the part of what has no trace of its own for which one is begun, 0 to 1.
        take: called with each span that has ended.
        on_dropped: called for each span beyond ``spans_per_s_max``.
        clock: seconds.
        close: called at the end; sends what waits.
    """

    def __init__(
        self,
        sample: float,
        take: Callable[[Span], None],
        *,
        on_dropped: Callable[[], None] = lambda: None,
        spans_per_s_max: int = SPANS_PER_S_MAX,
        clock: Callable[[], float] = time.monotonic,
        close: Callable[[], None] = lambda: None,
    ) -> None:
        self.close = close
        self._sample = sample
        self._take = take
        self._on_dropped = on_dropped
        self._spans_per_s_max = spans_per_s_max
        self._clock = clock
        self._second = -1
        self._spans = 0

    def begins(self) -> bool:
        """Return whether a trace is to be begun for what has none."""
        return random.random() < self._sample  # noqa: S311 - no secret

    def start(
        self,
        name: str,
        parent: TraceContext | None = None,
        links: Sequence[TraceContext] = (),
        *,
        began_ns: int = 0,
        **attributes: str | int,
    ) -> Span | None:
        """Begin a span; None if there were too many in this second.

        Args:
            name: what is done.
            parent: the span that causes it; None: it is the first of its trace.
            links: other spans that it has to do with.
            began_ns: when it began, in ns since the epoch; 0: now.
            attributes: ``__`` in their names stands for a dot.
        """
        second = int(self._clock())
        if second != self._second:
            self._second, self._spans = second, 0
        if self._spans >= self._spans_per_s_max:
            self._on_dropped()
            return None
        self._spans += 1
        trace_id = parent.trace_id if parent is not None else random.getrandbits(127) + 1
        context = TraceContext(trace_id, random.getrandbits(63) + 1)
        return Span(name, context, parent, links, began_ns or time.time_ns(), attributes, self._take)

    def start_of(
        self, contexts: Sequence[TraceContext], name: str, *, began_ns: int = 0, **attributes: str | int
    ) -> Span | None:
        """Begin the span of what is done to several messages, in the first trace; it links the others."""
        first, *others = contexts
        return self.start(name, first, others, began_ns=began_ns, **attributes)
