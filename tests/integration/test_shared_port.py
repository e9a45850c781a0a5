"""Several gateways on one port: connections are spread over them, and orders and acknowledgements hold."""

from __future__ import annotations

import asyncio
import re
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conformance.client import Client

from danube_harness.platforms.standalone import Platform

TOPIC = "/default/spread"
CLIENTS = 20
MESSAGES = 10


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    with Platform.run(tmp_path / "platform", arguments=("--gateways", "2")) as running:
        yield running


def producers_of(url: str) -> set[str]:
    """The producers whose messages a gateway has counted."""
    metrics = urllib.request.urlopen(f"{url}/metrics").read().decode()  # noqa: S310 - a URL of the platform
    return set(re.findall(r'danube_topic_msg_in_counter\{producer="(\d+)"', metrics))


async def test_clients_of_one_port_are_spread_and_their_orders_and_acks_hold(platform: Platform) -> None:
    assert len(platform.gateway_addrs) == 2
    assert set(platform.gateway_addrs) == {platform.gateway_addr}
    clients = [Client(platform.gateway_addr) for _ in range(CLIENTS)]
    try:
        producers = [
            await client.reliable_producer(TOPIC, f"p{number}") for number, client in enumerate(clients)
        ]
        streams = [await clients[number].consume(TOPIC, f"sub-{number}") for number in range(2)]

        async def publish(number: int) -> None:
            sent = [producers[number].message(f"{number}.{count}") for count in range(MESSAGES)]
            await asyncio.gather(*(clients[number].call("SendMessage", message) for message in sent))

        async def consume(number: int) -> None:
            orders: dict[str, list[int]] = defaultdict(list)
            for turn in range(CLIENTS * MESSAGES):
                message = await streams[number].next()
                sender, _, count = message.payload.decode().partition(".")
                orders[sender].append(int(count))
                # Over any connection: perhaps the gateway that delivered it, perhaps the other.
                await clients[turn % CLIENTS].ack(message, f"sub-{number}")
            assert orders == {str(sender): list(range(MESSAGES)) for sender in range(CLIENTS)}

        await asyncio.gather(*map(publish, range(CLIENTS)), *map(consume, range(len(streams))))
        for number in range(len(streams)):
            await streams[number].cancel()
            again = await clients[-1].consume(TOPIC, f"sub-{number}")
            assert await again.silent_for(0.2), "all was acknowledged"
    finally:
        for client in clients:
            await client.close()
    first, second = (producers_of(url) for url in platform.http_urls("gateway"))
    assert first
    assert second
    assert not first & second, "the messages of one connection stay on one gateway"
    assert len(first | second) == CLIENTS
