"""A collector reads of spans what they are: what is encoded here, OpenTelemetry's own messages decode."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1 import trace_pb2 as otlp

from danube_common.tracing.context import TraceContext
from danube_common.tracing.span_encoding import encode_process, encode_request
from danube_common.tracing.tracer import LINKS_MAX, Span

TEXTS = st.text(st.characters(codec="utf-8"), max_size=300)
NAMES = st.text(st.characters(codec="utf-8"), max_size=150)
TIMES = st.integers(0, 2**64 - 1)
CONTEXTS = st.builds(TraceContext, st.integers(0, 2**128 - 1), TIMES)
SPANS = st.builds(
    Span,
    NAMES,
    CONTEXTS,
    st.none() | CONTEXTS,
    st.lists(CONTEXTS, max_size=LINKS_MAX),
    TIMES,
    st.dictionaries(NAMES, TEXTS | st.integers(-(2**63), 2**63 - 1), max_size=6),
    st.just(lambda _span: None),
    TIMES,
    TEXTS,
)


def attributes_of(given: dict[str, str] | object) -> list[KeyValue]:
    assert isinstance(given, dict)
    return [
        KeyValue(
            key=name.replace("__", "."),
            value=AnyValue(int_value=value) if isinstance(value, int) else AnyValue(string_value=value),
        )
        for name, value in given.items()
    ]


def as_opentelemetry_has_it(span: Span) -> otlp.Span:
    failed = otlp.Status(code=otlp.Status.STATUS_CODE_ERROR, message=span.error)
    return otlp.Span(
        trace_id=span.context.trace_id.to_bytes(16, "big"),
        span_id=span.context.span_id.to_bytes(8, "big"),
        parent_span_id=b"" if span.parent is None else span.parent.span_id.to_bytes(8, "big"),
        name=span.name,
        kind=otlp.Span.SPAN_KIND_SERVER,
        start_time_unix_nano=span.began_ns,
        end_time_unix_nano=span.ended_ns,
        attributes=attributes_of(span.attributes),
        links=[
            otlp.Span.Link(trace_id=one.trace_id.to_bytes(16, "big"), span_id=one.span_id.to_bytes(8, "big"))
            for one in span.links
        ],
        status=failed if span.error else None,
    )


@given(st.dictionaries(TEXTS, TEXTS, max_size=3), st.lists(SPANS, max_size=4))
def test_a_request_is_what_opentelemetrys_own_messages_say(
    process: dict[str, str], spans: list[Span]
) -> None:
    told = ExportTraceServiceRequest.FromString(encode_request(encode_process(process), spans))
    scope_spans = otlp.ScopeSpans(
        scope=InstrumentationScope(name="danube"), spans=map(as_opentelemetry_has_it, spans)
    )
    resource = Resource(attributes=attributes_of(process))
    expected = otlp.ResourceSpans(resource=resource, scope_spans=[scope_spans])
    assert told == ExportTraceServiceRequest(resource_spans=[expected])


def test_text_that_no_utf8_has_is_replaced_and_keeps_no_other_span_back() -> None:
    context = TraceContext(1, 2)
    span = Span("x\udc80", context, None, (), 1, {"topic": "/a/\udc80"}, lambda _span: None, 2, "E: \udc80")
    told = ExportTraceServiceRequest.FromString(encode_request(encode_process({}), [span]))
    assert [one.status.message for one in told.resource_spans[0].scope_spans[0].spans] == ["E: ?"]
