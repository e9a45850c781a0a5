"""Messages that have a trace leave spans: published, appended, delivered, acknowledged. Others leave none."""

from __future__ import annotations

import asyncio
import struct
from itertools import accumulate
from typing import Any, cast

import pytest

from danube_common.errors import Unavailable
from danube_common.model.bundle import Bundle
from danube_common.model.position import position_of
from danube_common.model.run import Run
from danube_common.rpc.port import Call, answered
from danube_common.tracing.context import TraceContext, with_context
from danube_common.tracing.marks import Mark, parse_marks
from danube_common.tracing.tracer import Span, Tracer
from danube_gateway.consume.ack_forwarder import AckForwarder, Delivered
from danube_gateway.consume.traces import TracedSource
from danube_gateway.consume.unacked import Unacked
from danube_gateway.publish.publisher import FrameNumbers, LogPublisher
from danube_gateway.publish.ready_batch import Body, ReadyBatch
from danube_gateway.publish.traces import PublishTraces, joined_marks, traced_send
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
    recorded, log = Recorded(), MemoryLog()
    publisher = LogPublisher(BUNDLE, FrameNumbers(), log, PublishTraces(recorded.tracer))
    running = asyncio.create_task(publisher.run())
    for messages in ([PLAIN], [traced(ONE), PLAIN, traced(UNSAMPLED), traced(OTHER)]):
        stored = [asyncio.get_running_loop().create_future() for _ in messages]
        for index, (message, done) in enumerate(zip(messages, stored, strict=True)):
            publisher.enqueue(7 + index % 2, message, done)
        await asyncio.gather(*stored)
    running.cancel()
    assert recorded.spans() == [("append", 1, 11)]
    assert [link.trace_id for link in recorded.ended[-1].links] == [2]
    plain, frame = await log.read(BUNDLE, 1, frames_max=2, bytes_max=1 << 20)
    assert not plain.traces
    # The first of the section of 7, and the second of that of 8.
    assert parse_marks(frame.traces) == [Mark(0, ONE), Mark(position_of(0, 1, 1), OTHER)]


def test_only_messages_that_a_client_named_are_looked_at_in_a_batch() -> None:
    messages = [traced(ONE), PLAIN, traced(UNSAMPLED), traced(OTHER)]
    ends = list(accumulate(map(len, messages)))
    body = Body(struct.pack("<4I", *ends) + b"".join(messages), 0, tuple(ends))
    traces = PublishTraces(Recorded().tracer)
    assert traces.marked(body, [1, 2, 3, 4, 1 << 31]) == [Mark(3, OTHER)]
    assert not PublishTraces().marked(body, [3])
    marked, plain = ReadyBatch(1, body, 0, (), 0.0, [Mark(3, OTHER)]), ReadyBatch(5, body, 0, (), 0.0)
    assert joined_marks([plain, marked, marked]) == [Mark(7, OTHER), Mark(11, OTHER)]
    assert not joined_marks([plain, plain])


def test_deliveries_and_acknowledgements_are_spans_of_each_message_of_its_own() -> None:
    recorded, taken = Recorded(), list[Any]()

    class Forwarder:
        has_room = True

        def unconfirmed_of(self, _delivered: Delivered, *_between: int) -> list[tuple[int, int]]:
            return []

        def accept(self, _delivered: Delivered, position: int, *, urgent: bool) -> None:
            taken.append((position, urgent))

        def accept_spans(self, _delivered: Delivered, spans: list[tuple[int, int]]) -> None:
            taken.extend(spans)

    forwarder = cast("AckForwarder", Forwarder())
    source = TracedSource(Delivered("/a/b", "s", 1), forwarder, Unacked(), recorded.tracer)
    run = Run.of(100, [traced(OTHER), traced(ONE), PLAIN, traced(OTHER), traced(UNSAMPLED)])
    source.announce([Mark(103, OTHER), Mark(101, ONE), Mark(999, OTHER)])
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
