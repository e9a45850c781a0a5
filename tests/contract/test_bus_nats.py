"""What the bus over NATS promises beyond the port: sizes, bounds, broken and silent servers."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest
from nats.aio.msg import Msg

from danube_common.bus.nats import NatsBus
from danube_common.bus.port import Bus
from danube_common.errors import BusUnavailable, InvalidInput, LimitExceeded, NotFound
from danube_common.model.strategy import StorageBackend
from danube_common.nats import connection as nats_connection
from danube_common.nats.connection import LARGE_PAYLOAD_BYTES
from danube_common.tracing.context import TraceContext
from danube_common.tracing.current import within
from danube_common.tracing.tracer import Span, Tracer
from danube_common.wire.archive import ARCHIVE, ArchiveRequest, ListTopics, SegmentLocator, SegmentTopics
from danube_harness.servers.nats_server import NatsServer

TIMEOUT_S = 10.0


async def echo(payload: bytes) -> bytes:
    return payload


async def find_nothing(_request: ArchiveRequest) -> SegmentTopics:
    raise NotFound("no segment")


async def disconnected(bus: Bus) -> None:
    """The bus has noticed that its transport is gone."""
    async with asyncio.timeout(TIMEOUT_S):
        while bus.connected:  # noqa: ASYNC110 - the port has no event for it: readiness polls it too
            await asyncio.sleep(0)


async def test_a_message_of_twelve_mebibytes_passes_both_ways(nats_server: NatsServer) -> None:
    bus = await NatsBus.connect(nats_server.url, name="test")
    await bus.serve("echo", echo)
    payload = bytes(range(256)) * (12 << 12)
    assert await bus.request("echo", payload, timeout_s=30) == payload
    await bus.close()


async def test_a_request_is_answered_in_the_trace_that_it_was_made_in(nats_server: NatsServer) -> None:
    spans: list[Span] = []
    tracer = Tracer(0.0, spans.append)
    bus = await NatsBus.connect(nats_server.url, name="test", tracer=tracer)
    await bus.serve("echo", ARCHIVE.handler(find_nothing))
    request = ARCHIVE.encode(ListTopics(SegmentLocator("f0", 1, StorageBackend.DISK, "key")))
    asking = tracer.start("asking", TraceContext(7, 8))
    assert asking is not None
    with within(asking):
        await bus.request("echo", request, timeout_s=TIMEOUT_S)
    await bus.request("echo", request, timeout_s=TIMEOUT_S)
    answered, asked = spans
    assert asked is asking
    assert answered.name == "ListTopics"
    assert (answered.context.trace_id, answered.parent) == (7, asking.context)
    await bus.close()


async def test_a_message_above_the_servers_bound_is_refused_and_the_connection_lives(
    nats_server: NatsServer,
) -> None:
    bus = await NatsBus.connect(nats_server.url, name="test")
    await bus.serve("echo", echo)
    for length in (bus.connection.max_payload, bus.connection.max_payload + 1):
        with pytest.raises(LimitExceeded) as refused:
            await bus.publish("echo", bytes(length))
        assert refused.value.limit == "max_payload"
    assert await bus.request("echo", b"still here", timeout_s=TIMEOUT_S) == b"still here"
    assert bus.connection.stats["reconnects"] == 0
    await bus.close()


async def test_the_first_connect_is_given_up_after_its_bound(nats_server: NatsServer) -> None:
    await nats_server.kill()
    with pytest.raises(BusUnavailable, match="no NATS server answers"):
        await NatsBus.connect(nats_server.url, name="test", connect_timeout_s=0.3)
    await nats_server.start()


async def test_the_first_connect_waits_for_a_server_that_starts_later(nats_server: NatsServer) -> None:
    await nats_server.kill()
    connecting = asyncio.create_task(NatsBus.connect([nats_server.url], name="test"))
    await asyncio.sleep(0)
    await nats_server.start()
    bus = await connecting
    assert bus.connected
    await bus.close()


@pytest.mark.parametrize("url", ["", [], "nats://", "nats://host:port"])
async def test_an_address_that_is_none_is_refused(url: str | list[str]) -> None:
    with pytest.raises(InvalidInput):
        await NatsBus.connect(url, name="test")


async def test_publishing_more_than_the_socket_takes_keeps_memory_bounded(nats_server: NatsServer) -> None:
    bus, other = [await NatsBus.connect(nats_server.url, name="test") for _ in range(2)]
    received = 0
    payload, count = bytes(256 * 1024), 200
    done = asyncio.Event()

    def count_bytes(message: bytes) -> None:
        nonlocal received
        received += len(message)
        if received == count * len(payload):
            done.set()

    await other.subscribe("flood", count_bytes)
    pending_max = 0
    for _ in range(count):
        await bus.publish("flood", payload)
        pending_max = max(pending_max, bus.connection.pending_data_size)
    async with asyncio.timeout(TIMEOUT_S):
        await done.wait()
    assert pending_max < 10 << 20
    await bus.close()
    await other.close()


async def test_an_error_line_of_the_server_costs_a_reconnect_not_the_connection(
    nats_server: NatsServer,
) -> None:
    bus = await NatsBus.connect(nats_server.url, name="test")
    returned = asyncio.Event()
    bus.on_reconnect(returned.set)
    await bus.connection._send_command(b"NONSENSE\r\n")
    await bus.connection._flush_pending()
    await asyncio.wait_for(returned.wait(), TIMEOUT_S)
    await bus.serve("echo", echo)
    assert await bus.request("echo", b"x", timeout_s=TIMEOUT_S) == b"x"
    await bus.close()


@pytest.mark.parametrize(
    "length", [0, 1, LARGE_PAYLOAD_BYTES - 1, LARGE_PAYLOAD_BYTES, LARGE_PAYLOAD_BYTES + 1, 1 << 20]
)
@pytest.mark.parametrize("headers", [None, {"One": "1", "Two": "zwei drei"}])
async def test_payload_and_headers_arrive_as_sent_at_every_size(
    nats_server: NatsServer, length: int, headers: dict[str, str] | None
) -> None:
    bus = await NatsBus.connect(nats_server.url, name="test")
    received: asyncio.Queue[Msg] = asyncio.Queue()
    await bus.connection.listen("in", received.put_nowait)
    payload = bytes(index % 251 for index in range(length))
    await bus.connection.send("in", payload, reply="back", headers=headers)
    await bus.connection.send("in", b"next")
    async with asyncio.timeout(TIMEOUT_S):
        first, second = await received.get(), await received.get()
    assert (first.data, first.reply, first.headers) == (payload, "back", headers)
    assert second.data == b"next"
    await bus.close()


async def test_a_header_that_would_end_its_line_never_leaves(nats_server: NatsServer) -> None:
    bus = await NatsBus.connect(nats_server.url, name="test")
    with pytest.raises(InvalidInput):
        await bus.connection.send("in", bytes(LARGE_PAYLOAD_BYTES), headers={"A": "b\r\nPUB x 0\r\n"})
    await bus.serve("echo", echo)
    assert await bus.request("echo", b"x", timeout_s=TIMEOUT_S) == b"x"
    await bus.close()


async def test_a_server_that_stops_answering_is_noticed_without_a_closed_socket(
    nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nats_connection, "PING_INTERVAL_S", 0.1)
    bus = await NatsBus.connect(nats_server.url, name="test")
    await bus.serve("echo", echo)
    returned = asyncio.Event()
    bus.on_reconnect(returned.set)
    os.kill(nats_server.pid, signal.SIGSTOP)
    try:
        await disconnected(bus)
        with pytest.raises(BusUnavailable):
            await bus.publish("any", b"")
    finally:
        os.kill(nats_server.pid, signal.SIGCONT)
    await asyncio.wait_for(returned.wait(), TIMEOUT_S)
    assert await bus.request("echo", b"x", timeout_s=TIMEOUT_S) == b"x"
    await bus.close()
