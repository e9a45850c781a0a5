"""What every Bus promises, on the hub in memory and on a real NATS server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from danube_common.bus.nats import NatsBus
from danube_common.bus.port import Bus
from danube_common.errors import BusUnavailable, NoResponders, RequestTimeout
from danube_harness.memory.bus import MemoryBus, MemoryHub
from danube_harness.servers.nats_server import NatsServer

TIMEOUT_S = 10.0


@dataclass
class Transport:
    """One kind of bus: how to join it, lose it and get it back."""

    join: Callable[[], Awaitable[Bus]]
    lose: Callable[[], Awaitable[None]]
    restore: Callable[[], Awaitable[None]]


@asynccontextmanager
async def memory_transport() -> AsyncIterator[Transport]:
    hub = MemoryHub()
    buses: list[Bus] = []

    async def join() -> Bus:
        buses.append(MemoryBus(hub))
        return buses[-1]

    async def lose() -> None:
        hub.disconnect()

    async def restore() -> None:
        hub.reconnect()

    yield Transport(join, lose, restore)
    for bus in buses:
        await bus.close()


@asynccontextmanager
async def nats_transport(directory: Path) -> AsyncIterator[Transport]:
    buses: list[Bus] = []
    async with NatsServer.run(directory) as server:

        async def join() -> Bus:
            buses.append(await NatsBus.connect(server.url, name="test"))
            return buses[-1]

        yield Transport(join, server.kill, server.start)
        for bus in buses:
            await bus.close()


@pytest.fixture(params=["memory", "nats"])
async def transport(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Transport]:
    running = memory_transport() if request.param == "memory" else nats_transport(tmp_path)
    async with running as transport:
        yield transport


class Inbox:
    """Collects what a subscription hands over."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self._changed = asyncio.Event()

    def __call__(self, payload: bytes) -> None:
        self.messages.append(payload)
        self._changed.set()

    async def wait_for(self, count: int) -> list[bytes]:
        async with asyncio.timeout(TIMEOUT_S):
            while len(self.messages) < count:
                self._changed.clear()
                await self._changed.wait()
        return self.messages


async def echo(payload: bytes) -> bytes:
    return payload


async def settled(bus: Bus) -> None:
    """Whatever other buses sent before is handed over: the bus answers itself in order."""
    serving = await bus.serve("settled", echo)
    await bus.request("settled", b"", timeout_s=TIMEOUT_S)
    await serving.close()


async def test_a_message_reaches_every_subscriber_in_order(transport: Transport) -> None:
    sender, one, other = await transport.join(), await transport.join(), await transport.join()
    inboxes = [Inbox(), Inbox(), Inbox()]
    await one.subscribe("orders", inboxes[0])
    await one.subscribe("orders", inboxes[1])
    await other.subscribe("orders", inboxes[2])
    sent = [str(number).encode() for number in range(500)]
    for payload in sent:
        await sender.publish("orders", payload)
    for inbox in inboxes:
        assert await inbox.wait_for(len(sent)) == sent


async def test_what_is_sent_at_once_keeps_its_place_among_what_is_not(transport: Transport) -> None:
    sender, other = await transport.join(), await transport.join()
    inbox = Inbox()
    await other.subscribe("orders", inbox)
    sent = [b"%d" % number + bytes(number % 3 * 100_000) for number in range(120)]
    for number, payload in enumerate(sent):
        if number % 4 == 0 or not sender.publish_at_once("orders", payload):
            await sender.publish("orders", payload)
    assert await inbox.wait_for(len(sent)) == sent


async def test_a_subscriber_whose_handler_raises_gets_the_next_message(transport: Transport) -> None:
    bus = await transport.join()
    inbox = Inbox()

    def handle(payload: bytes) -> None:
        if payload == b"bad":
            raise RuntimeError(payload)
        inbox(payload)

    await bus.subscribe("orders", handle)
    for payload in (b"1", b"bad", b"2"):
        await bus.publish("orders", payload)
    assert await inbox.wait_for(2) == [b"1", b"2"]


async def test_a_subscriber_hears_only_its_subject(transport: Transport) -> None:
    bus = await transport.join()
    exact, one_token, tail = Inbox(), Inbox(), Inbox()
    await bus.subscribe("a.b", exact)
    await bus.subscribe("a.*", one_token)
    await bus.subscribe("a.>", tail)
    for subject in ("a.b", "a.c", "a.b.c", "a", "b.b"):
        await bus.publish(subject, subject.encode())
    await settled(bus)
    assert exact.messages == [b"a.b"]
    assert one_token.messages == [b"a.b", b"a.c"]
    assert tail.messages == [b"a.b", b"a.c", b"a.b.c"]


async def test_a_closed_subscription_hears_nothing_more(transport: Transport) -> None:
    bus = await transport.join()
    inbox, witness = Inbox(), Inbox()
    subscription = await bus.subscribe("news", inbox)
    await bus.subscribe("news", witness)
    await bus.publish("news", b"1")
    await inbox.wait_for(1)
    await subscription.close()
    await subscription.close()
    await bus.publish("news", b"2")
    await witness.wait_for(2)
    assert inbox.messages == [b"1"]


async def test_a_request_gets_the_answer_of_a_server(transport: Transport) -> None:
    client, server = await transport.join(), await transport.join()

    async def reverse(payload: bytes) -> bytes:
        return payload[::-1]

    await server.serve("reverse", reverse)
    assert await client.request("reverse", b"abc", timeout_s=TIMEOUT_S) == b"cba"
    assert await client.request("reverse", b"", timeout_s=TIMEOUT_S) == b""


async def test_answers_find_their_own_request(transport: Transport) -> None:
    client, server = await transport.join(), await transport.join()
    released = asyncio.Event()

    async def answer_later_first(payload: bytes) -> bytes:
        if payload == b"99":
            released.set()
        await released.wait()
        return b"answer to " + payload

    await server.serve("work", answer_later_first)
    requests = [str(number).encode() for number in range(100)]
    answers = await asyncio.gather(
        *(client.request("work", payload, timeout_s=TIMEOUT_S) for payload in requests)
    )
    assert answers == [b"answer to " + payload for payload in requests]


async def test_each_request_is_answered_by_one_of_several_servers(transport: Transport) -> None:
    client = await transport.join()
    handled: list[bytes] = []

    async def handle(payload: bytes) -> bytes:
        handled.append(payload)
        return payload

    for _ in range(3):
        await (await transport.join()).serve("work", handle)
    requests = [str(number).encode() for number in range(50)]
    for payload in requests:
        assert await client.request("work", payload, timeout_s=TIMEOUT_S) == payload
    assert handled == requests


async def test_a_request_that_nobody_serves_fails_at_once(transport: Transport) -> None:
    bus = await transport.join()
    with pytest.raises(NoResponders):
        await bus.request("nobody", b"", timeout_s=3600)


async def test_a_request_without_an_answer_ends_at_its_deadline(transport: Transport) -> None:
    bus = await transport.join()
    inbox = Inbox()
    await bus.subscribe("mute", inbox)
    with pytest.raises(RequestTimeout):
        await bus.request("mute", b"hello", timeout_s=0.05)
    assert inbox.messages == [b"hello"]


async def test_a_handler_that_raises_sends_no_answer_and_the_next_request_is_served(
    transport: Transport,
) -> None:
    bus = await transport.join()

    async def refuse_once(payload: bytes) -> bytes:
        if payload == b"bad":
            raise ValueError(payload)
        return payload

    await bus.serve("fragile", refuse_once)
    with pytest.raises(RequestTimeout):
        await bus.request("fragile", b"bad", timeout_s=0.05)
    assert await bus.request("fragile", b"good", timeout_s=TIMEOUT_S) == b"good"


async def test_requests_beyond_the_concurrency_bound_wait(transport: Transport) -> None:
    bus = await transport.join()
    running, seen_max, gate = 0, 0, asyncio.Event()
    full = asyncio.Event()

    async def work(payload: bytes) -> bytes:
        nonlocal running, seen_max
        running += 1
        seen_max = max(seen_max, running)
        if running == 2:
            full.set()
        await gate.wait()
        running -= 1
        return payload

    await bus.serve("narrow", work, concurrent_max=2)
    requests = [asyncio.create_task(bus.request("narrow", b"", timeout_s=TIMEOUT_S)) for _ in range(10)]
    async with asyncio.timeout(TIMEOUT_S):
        await full.wait()
    await settled(bus)
    assert seen_max == 2
    gate.set()
    await asyncio.gather(*requests)
    assert seen_max == 2


async def test_nothing_leaves_while_the_transport_is_down(transport: Transport) -> None:
    bus = await transport.join()
    await bus.serve("echo", echo)
    assert bus.connected
    await transport.lose()
    await disconnected(bus)
    assert not bus.publish_at_once("echo", b"")
    with pytest.raises(BusUnavailable):
        await bus.publish("echo", b"")
    with pytest.raises(BusUnavailable):
        await bus.request("echo", b"", timeout_s=TIMEOUT_S)
    with pytest.raises(BusUnavailable):
        await bus.subscribe("echo", Inbox())
    with pytest.raises(BusUnavailable):
        await bus.serve("echo", echo)


async def test_a_request_in_flight_ends_when_the_transport_is_lost(transport: Transport) -> None:
    bus = await transport.join()
    arrived = asyncio.Event()

    async def hang(_payload: bytes) -> bytes:
        arrived.set()
        await asyncio.Event().wait()
        raise AssertionError

    await bus.serve("hang", hang)
    request = asyncio.create_task(bus.request("hang", b"", timeout_s=3600))
    async with asyncio.timeout(TIMEOUT_S):
        await arrived.wait()
        await transport.lose()
        with pytest.raises(BusUnavailable):
            await request


async def test_a_bus_returns_with_its_subscriptions_and_calls_back_each_time(transport: Transport) -> None:
    bus, other = await transport.join(), await transport.join()
    inbox, returns = Inbox(), Inbox()
    await bus.subscribe("news", inbox)
    await bus.serve("echo", echo)
    for each in (bus, other):
        each.on_reconnect(lambda: returns(b""))
    for round_number in (1, 2):
        await transport.lose()
        await disconnected(bus)
        await disconnected(other)
        await transport.restore()
        await returns.wait_for(2 * round_number)
        assert bus.connected
        await other.publish("news", str(round_number).encode())
        await inbox.wait_for(round_number)
        assert await other.request("echo", b"again", timeout_s=TIMEOUT_S) == b"again"
    assert inbox.messages == [b"1", b"2"]
    assert len(returns.messages) == 4


async def test_a_callback_that_raises_does_not_keep_the_others_from_being_called(
    transport: Transport,
) -> None:
    bus = await transport.join()
    returns = Inbox()

    def fail() -> None:
        raise ValueError

    bus.on_reconnect(fail)
    bus.on_reconnect(lambda: returns(b""))
    await transport.lose()
    await disconnected(bus)
    await transport.restore()
    await returns.wait_for(1)


async def test_a_closed_bus_carries_nothing(transport: Transport) -> None:
    bus, other = await transport.join(), await transport.join()
    inbox = Inbox()
    await other.subscribe("last", inbox)
    await bus.serve("echo", echo)
    await bus.publish("last", b"words")
    await bus.close()
    await bus.close()
    assert not bus.connected
    assert await inbox.wait_for(1) == [b"words"]
    with pytest.raises(BusUnavailable):
        await bus.publish("last", b"")
    with pytest.raises(NoResponders):
        await other.request("echo", b"", timeout_s=TIMEOUT_S)


async def disconnected(bus: Bus) -> None:
    """The bus has noticed that its transport is gone."""
    async with asyncio.timeout(TIMEOUT_S):
        while bus.connected:  # noqa: ASYNC110 - the port has no event for it: readiness polls it too
            await asyncio.sleep(0)
