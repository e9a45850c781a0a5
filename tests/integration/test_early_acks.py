"""A gateway dies with acknowledgements that it answered and did not forward: nothing is lost."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conformance.client import Client

from danube_harness.platforms.standalone import Platform

TOPIC = "/default/early"
MESSAGES = [str(number).encode() for number in range(20)]


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    with Platform.run(
        tmp_path / "platform", arguments=("--gateways", "2", "--gateway-ports", "each")
    ) as running:
        yield running


async def test_a_killed_gateway_repeats_what_it_did_not_forward_and_loses_nothing(platform: Platform) -> None:
    first, second = Client(platform.gateway_addrs[0]), Client(platform.gateway_addrs[1])
    try:
        producer = await first.reliable_producer(TOPIC)
        await producer.send_all(MESSAGES)
        stream = await first.consume(TOPIC, "sub")
        held = await stream.take(len(MESSAGES))
        platform.kill("topic-owner", signal.SIGSTOP)
        for message in held[:5]:
            await first.ack(message, "sub")  # answered although no owner can take it
        platform.kill("gateway", signal.SIGKILL)
        platform.kill("topic-owner", signal.SIGCONT)
        again = await second.consume(TOPIC, "sub")
        missing = set(MESSAGES[5:])
        while missing:
            missing.discard((await again.next()).payload)
    finally:
        await first.close()
        await second.close()
