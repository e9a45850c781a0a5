"""A message's trace: from its producer over the gateway and the log to its consumer's acknowledgement."""

from __future__ import annotations

import asyncio
import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, use_span

from danube_client import Reliable, Start, Storage, connect
from danube_harness.platforms.standalone import Platform
from danube_proto import danube_admin_pb2 as admin_wire

MESSAGES: Final = 5
WAIT_S: Final = 20.0


class Collector:
    """Takes spans by OTLP over HTTP; `spans` has (service, span)."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, Span]] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                    names = {one.key: one.value.string_value for one in resource.resource.attributes}
                    for scope in resource.scope_spans:
                        collector.spans += [(names["service.name"], span) for span in scope.spans]
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def of(self, trace_id: int, name: str) -> list[tuple[str, Span]]:
        key = trace_id.to_bytes(16)
        return [(service, span) for service, span in self.spans if span.trace_id == key and span.name == name]

    async def until(self, trace_id: int, names: set[str]) -> None:
        async with asyncio.timeout(WAIT_S):
            while not all(self.of(trace_id, name) for name in names):  # noqa: ASYNC110 - another thread takes them
                await asyncio.sleep(0.05)


@contextmanager
def collecting() -> Iterator[Collector]:
    collector = Collector()
    thread = threading.Thread(target=collector.server.serve_forever, daemon=True)
    thread.start()
    try:
        yield collector
    finally:
        collector.server.shutdown()
        collector.server.server_close()


def settings(collector: Collector) -> dict[str, str]:
    endpoint = f"http://127.0.0.1:{collector.server.server_port}"
    found: dict[str, str] = {}
    for service in ("GATEWAY", "ADMIN"):
        found |= {f"DANUBE_{service}_TRACING_ENDPOINT": endpoint, f"DANUBE_{service}_TRACING_SAMPLE": "0"}
    return found


async def pass_through(platform: Platform, *, streaming: bool) -> int:
    """Send and acknowledge messages in a span of our own; return its trace."""
    topic = f"/default/{streaming}"
    ours = SpanContext(77 + streaming, 88, is_remote=False, trace_flags=TraceFlags(1))
    async with (
        connect(f"http://{platform.gateway_addr}", streaming=streaming) as client,
        client.producer(topic, name="p", strategy=Reliable(Storage.DISK)) as producer,
        client.consumer(topic, "s", name="c", initial_position=Start.earliest()) as consumer,
    ):
        await producer.send(b"without a trace")
        with use_span(NonRecordingSpan(ours)):
            await asyncio.gather(*(producer.send(f"{n}".encode()) for n in range(MESSAGES)))
        for _ in range(MESSAGES + 1):
            message = await anext(consumer)
            await message.ack()
            if message.payload == b"4":
                assert message.attributes["traceparent"].split("-")[1] == f"{ours.trace_id:032x}"
    return ours.trace_id


@pytest.mark.acceptance  # a platform of its own
async def test_a_trace_goes_with_the_message_from_its_producer_to_its_acknowledgement(tmp_path: Path) -> None:
    with collecting() as collector, Platform.run(tmp_path, environment=settings(collector)) as platform:
        for streaming in (False, True):
            traced = await pass_through(platform, streaming=streaming)
            await collector.until(traced, {"publish", "append", "deliver", "ack"})
            assert all(
                service == "danube-gateway"
                for name in ("publish", "ack")
                for service, _ in collector.of(traced, name)
            )
            deliveries = {span.span_id for _, span in collector.of(traced, "deliver")}
            assert {span.parent_span_id for _, span in collector.of(traced, "ack")} <= deliveries
            linked = sum(1 + len(span.links) for _, span in collector.of(traced, "append"))
            assert linked == MESSAGES, "each message is the parent or a link of the span of its frame"
        traces = {span.trace_id for _, span in collector.spans}
        assert len(traces) == 2, "what has no trace is not sampled here"

        made = 0xABCDEF
        async with grpc.aio.insecure_channel(platform.admin_addr) as channel:
            create = channel.unary_unary(
                "/danube_admin.NamespaceAdmin/CreateNamespace",
                request_serializer=admin_wire.NamespaceRequest.SerializeToString,
                response_deserializer=admin_wire.NamespaceResponse.FromString,
            )
            metadata = (("traceparent", f"00-{made:032x}-{1:016x}-01"), ("x-request-id", "ticket-12"))
            await create(admin_wire.NamespaceRequest(name="traced"), metadata=metadata)
        await collector.until(made, {"CreateNamespace"})
        assert {service for service, _ in collector.of(made, "CreateNamespace")} == {"danube-admin"}
