"""Traces of messages, from producer over gateway, owner and storage to the acknowledgement, and of calls."""

from __future__ import annotations

import asyncio
import gzip
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final, TypeVar

import grpc
import pytest
from google.protobuf.message import Message
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, use_span

from danube_client import Reliable, Start, Storage, connect
from danube_harness.platforms.standalone import Platform
from danube_proto import danube_admin_pb2 as admin_wire
from danube_proto import danube_operations_pb2 as operations
from danube_proto import danube_platform_pb2 as platform_wire

M = TypeVar("M", bound=Message)

MESSAGES: Final = 5
WAIT_S: Final = 20.0
NAMES: Final = {
    "publish": "danube-gateway",
    "append": "danube-gateway",
    "dispatch": "danube-topic-owner",
    "deliver": "danube-gateway",
    "ack": "danube-gateway",
    "archive": "danube-storage",
}
"""The spans of a message, and whose they are."""


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

    def named(self, name: str) -> list[Span]:
        return [span for _, span in self.spans if span.name == name]

    async def until(self, trace_id: int, names: Iterable[str]) -> None:
        await self.when(lambda: all(self.of(trace_id, name) for name in names))

    async def when(self, seen: Callable[[], bool]) -> None:
        async with asyncio.timeout(WAIT_S):
            while not seen():  # noqa: ASYNC110 - another thread takes them
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


def settings(collector: Collector, sample: str = "0") -> dict[str, str]:
    endpoint = f"http://127.0.0.1:{collector.server.server_port}"
    found: dict[str, str] = {"DANUBE_STORAGE_SEAL_AGE_S": "1"}
    for service in ("GATEWAY", "TOPIC_OWNER", "STORAGE", "ADMIN"):
        found |= {f"DANUBE_{service}_TRACING_ENDPOINT": endpoint, f"DANUBE_{service}_TRACING_SAMPLE": sample}
    return found


def context_of(trace_id: int) -> SpanContext:
    return SpanContext(trace_id, 88, is_remote=False, trace_flags=TraceFlags(1))


async def pass_through(platform: Platform, *, streaming: bool) -> int:
    """Send and acknowledge messages in a span of our own; return its trace."""
    topic = f"/default/{streaming}"
    ours = context_of(77 + streaming)
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
            await collector.until(traced, NAMES)
            services = {name: service for name in NAMES for service, _ in collector.of(traced, name)}
            assert services == NAMES
            dispatched = {span.span_id for _, span in collector.of(traced, "dispatch")}
            deliveries = {span.span_id: span.parent_span_id for _, span in collector.of(traced, "deliver")}
            assert set(deliveries.values()) == dispatched, "a delivery goes on with what the owner has sent"
            acks = [span for _, span in collector.of(traced, "ack")]
            assert len(acks) == len(deliveries) == MESSAGES
            assert {span.parent_span_id for span in acks} == deliveries.keys()
            for name in ("append", "dispatch", "archive"):
                linked = sum(1 + len(span.links) for _, span in collector.of(traced, name))
                assert linked == MESSAGES, "each message is the parent or a link of one span"
        traces = {span.trace_id for _, span in collector.spans}
        assert len(traces) == 2, "what has no trace is not sampled here"


@pytest.mark.acceptance  # a platform of its own
async def test_the_trace_of_an_administrative_call_goes_on_in_the_services_it_asks(tmp_path: Path) -> None:
    with collecting() as collector, Platform.run(tmp_path, environment=settings(collector)) as platform:
        await collector.until(await pass_through(platform, streaming=True), {"archive"})
        made, topic = 0xABCDEF, "/default/True"
        metadata = (("traceparent", f"00-{made:032x}-{1:016x}-01"), ("x-request-id", "ticket-12"))
        async with grpc.aio.insecure_channel(platform.admin_addr) as channel:

            async def ask(method: str, request: Message, reply: type[M]) -> M:
                call = channel.unary_unary(method, type(request).SerializeToString, reply.FromString)
                return await call(request, metadata=metadata)

            await ask(
                "/danube_admin.TopicAdmin/ListSubscriptions",
                admin_wire.TopicRequest(name=topic),
                admin_wire.SubscriptionListResponse,
            )
            listed = await ask(
                "/danube_platform.TopicDetails/ListSegments",
                platform_wire.ListSegmentsRequest(topic=topic),
                platform_wire.ListSegmentsResponse,
            )
            key = listed.segments[0].key
            read: Any = channel.unary_stream(
                "/danube_operations.Backup/ReadSegment", operations.ReadSegmentRequest.SerializeToString
            )
            wanted = operations.ReadSegmentRequest(bundle=key.partition("/")[0], first_sequence=1, key=key)
            assert [part async for part in read(wanted, metadata=metadata)]
        await collector.until(made, {"ListSubscriptions", "FetchSegment"})
        for name, asked, service in (
            ("ListSubscriptions", "ListSubscriptions", "danube-topic-owner"),
            ("ReadSegment", "FetchSegment", "danube-storage"),
        ):
            (call,) = (span for place, span in collector.of(made, name) if place == "danube-admin")
            served = {span.parent_span_id for place, span in collector.of(made, asked) if place == service}
            assert served == {call.span_id}


@pytest.mark.acceptance  # a platform of its own
async def test_a_read_of_the_archive_is_a_trace_that_links_those_of_its_messages(tmp_path: Path) -> None:
    with collecting() as collector, Platform.run(tmp_path, environment=settings(collector, "1")) as platform:
        traced = await pass_through(platform, streaming=True)
        await collector.until(traced, {"archive"})
        async with (
            connect(f"http://{platform.gateway_addr}") as client,
            client.consumer("/default/True", "late", initial_position=Start.earliest()) as consumer,
        ):
            for _ in range(MESSAGES + 1):
                await (await anext(consumer)).ack()
        await collector.when(lambda: len(collector.of(traced, "ack")) == 2 * MESSAGES)
        await collector.when(lambda: any(span.links for span in collector.named("catch-up")))
        linked = {link.trace_id for span in collector.named("catch-up") for link in span.links}
        assert linked == {one.trace_id for one in collector.named("archive")}
        await collector.when(lambda: bool(collector.named("ReadSegment")))
        readers = {one.parent_span_id for one in collector.named("ReadSegment")}
        assert readers <= {one.span_id for one in collector.named("catch-up")}
        assert {service for service, one in collector.spans if one.name == "ReadSegment"} == {
            "danube-storage"
        }
