"""Spans have their parents and links, and there are never more than a bound."""

from __future__ import annotations

from danube_common.tracing.context import TraceContext
from danube_common.tracing.otlp import headers_of
from danube_common.tracing.tracer import Span, Tracer


def test_a_span_has_its_parent_its_links_and_its_error() -> None:
    ended: list[Span] = []
    span = Tracer(1.0, ended.append).start(
        "append", TraceContext(5, 6), [TraceContext(8, 9)], danube__bundle="f0", danube__bytes=7
    )
    assert span is not None
    span.end(ValueError("full"))
    assert ended == [span]
    assert span.context.trace_id == 5
    assert span.parent == TraceContext(5, 6)
    assert span.links == [TraceContext(8, 9)]
    assert span.attributes == {"danube__bundle": "f0", "danube__bytes": 7}
    assert span.error == "ValueError: full"
    assert 0 < span.began_ns <= span.ended_ns


def test_the_spans_of_a_second_are_bounded_and_the_others_counted() -> None:
    now, dropped = [0.0], list[int]()
    tracer = Tracer(
        0.0,
        lambda _span: None,
        on_dropped=lambda: dropped.append(1),
        spans_per_s_max=3,
        clock=lambda: now[0],
    )
    assert [tracer.start("x") is not None for _ in range(5)] == [True, True, True, False, False]
    assert len(dropped) == 2
    now[0] = 1.0
    assert tracer.start("x") is not None
    assert not tracer.begins()


def test_the_credentials_of_a_collector_come_from_the_variable_of_opentelemetry() -> None:
    told = {"OTEL_EXPORTER_OTLP_HEADERS": "authorization=Basic%20abc=, x-tenant=a"}
    assert headers_of(told) == {"authorization": "Basic abc=", "x-tenant": "a"}
    assert headers_of({}) == {}
