"""Messages continue the trace of the program that sends them, if it uses OpenTelemetry."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Final

ATTRIBUTE: Final = "traceparent"

WithTrace = Callable[[Mapping[str, str] | None], Mapping[str, str] | None]


def with_trace() -> WithTrace | None:
    """Return what adds the current span, if it is sampled, to a message's attributes.

    None in a program that has not imported OpenTelemetry by now: there is nothing to continue.
    """
    if "opentelemetry.trace" not in sys.modules:
        return None
    from opentelemetry import trace  # noqa: PLC0415 - the program's own

    def add(attributes: Mapping[str, str] | None) -> Mapping[str, str] | None:
        span = trace.get_current_span().get_span_context()
        if not span.trace_flags.sampled or (attributes and ATTRIBUTE in attributes):
            return attributes
        text = f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags:02x}"
        return {**(attributes or {}), ATTRIBUTE: text}

    return add
