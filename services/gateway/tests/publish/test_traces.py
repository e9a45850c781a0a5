"""Messages that have a trace leave spans: published, appended, delivered, acknowledged. Others leave none."""

from __future__ import annotations

from typing import Any, cast

import pytest

from danube_common.errors import Unavailable
from danube_common.model.bundle import Bundle
from danube_common.model.run import Run
from danube_common.rpc.port import Call, answered
from danube_common.tracing.context import TraceContext, with_context
from danube_common.tracing.tracer import Span, Tracer
from danube_common.wire.frame import encode_frame
from danube_gateway.consume.ack_forwarder import AckForwarder, Delivered
from danube_gateway.consume.traces import TracedSource
from danube_gateway.consume.unacked import Unacked
from danube_gateway.publish.traces import TracedLog, traced_send
from danube_harness.memory.log import MemoryLog
from danube_proto import danube_api_pb2 as api

BUNDLE = Bundle.parse("f0")
ONE, OTHER, UNSAMPLED = TraceContext(1, 11), TraceContext(2, 22), TraceContext(3, 33, sampled=False)
PLAIN = api.StreamMessage(payload=b"x").SerializeToString()


def traced(context: TraceContext) -> bytes:
    return with_context(PLAIN, context)


class Recorded:
    def __init__(self, sample: float = 0.0) -> None:
        self.ended: list[Span] = []
        self.tracer = Tracer(sample, self.ended.append)

    def spans(self) -> list[tuple[str, int, int]]:
        """(name, trace, parent's span) of each span so far."""
        return [
            (one.name, one.context.trace_id, one.parent.span_id if one.parent else 0) for one in self.ended
        ]


async def test_a_message_is_published_in_its_trace_and_one_without_begins_one_for_a_part() -> None:
    recorded, sent = Recorded(), list[bytes]()

    async def handler(call: Call) -> bytes:
        sent.append(call.request)
        return b"answer"

    send = traced_send(handler, recorded.tracer)
    for message in (traced(ONE), traced(UNSAMPLED), PLAIN):
        assert await answered(send, Call("m", message)) == b"answer"
    assert recorded.spans() == [("publish", 1, 11)]
    assert sent == [traced(ONE), traced(UNSAMPLED), PLAIN]

    beginning = Recorded(sample=1.0)
    await answered(traced_send(handler, beginning.tracer), Call("m", PLAIN))
    ((_, trace_id, parent),) = beginning.spans()
    text = api.StreamMessage.FromString(sent[-1]).attributes["traceparent"]
    assert text.split("-")[1] == f"{trace_id:032x}"
    assert parent == 0

    async def failing(call: Call) -> bytes:
        raise Unavailable("the log is away")

    with pytest.raises(Unavailable):
        await answered(traced_send(failing, recorded.tracer), Call("m", traced(ONE)))
    assert recorded.ended[-1].error == "Unavailable: the log is away"


async def test_the_span_of_a_frame_links_the_traces_of_all_its_messages() -> None:
    recorded, inner = Recorded(), MemoryLog()
    log = TracedLog(inner, recorded.tracer)
    await log.open(BUNDLE)
    for number, messages in enumerate(([PLAIN], [traced(ONE), PLAIN, traced(UNSAMPLED), traced(OTHER)])):
        frame = encode_frame(1, number, [(7, messages)])
        await log.append(BUNDLE, frame, frame_id=str(number), timeout_s=1.0)
    assert recorded.spans() == [("append", 1, 11)]
    assert [link.trace_id for link in recorded.ended[-1].links] == [2]
    assert (await log.bounds(BUNDLE)).last_sequence == 2


def test_deliveries_and_acknowledgements_are_spans_of_each_message_of_its_own() -> None:
    recorded, taken = Recorded(), list[Any]()

    class Forwarder:
        has_room = True

        def unconfirmed_of(self, _delivered: Delivered) -> list[tuple[int, int]]:
            return []

        def accept(self, _delivered: Delivered, position: int, *, urgent: bool) -> None:
            taken.append((position, urgent))

        def accept_spans(self, _delivered: Delivered, spans: list[tuple[int, int]]) -> None:
            taken.extend(spans)

    forwarder = cast("AckForwarder", Forwarder())
    source = TracedSource(Delivered("/a/b", "s", 1), forwarder, Unacked(), recorded.tracer)
    run = Run.of(100, [traced(OTHER), traced(ONE), PLAIN, traced(OTHER), traced(UNSAMPLED)])
    source.hand_out("stream", [run.tail(1)])
    assert recorded.spans() == [("deliver", 1, 11), ("deliver", 2, 22)]
    assert recorded.ended[-1].attributes["danube__position"] == 103
    delivered = recorded.ended[-1].context
    assert source.accept(102)
    assert source.accept(101)
    source.accept_spans("stream", [(1, 104)])
    assert [name for name, *_ in recorded.spans()] == ["deliver", "deliver", "ack", "ack"]
    assert recorded.spans()[-1] == ("ack", 2, delivered.span_id)
    assert taken == [(102, False), (101, False), (103, 104)]
