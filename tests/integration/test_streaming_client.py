"""The client library on native streaming, against the real platform."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from danube_client import Start, SubscriptionType, Topic, connect
from danube_harness.platforms.standalone import Platform

pytestmark = pytest.mark.server

MESSAGES = 2000


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    directory: Path = tmp_path_factory.mktemp("streaming")
    with Platform.run(directory / "platform") as platform:
        yield platform.gateway_addr


async def test_what_is_streamed_is_listed_consumed_in_order_and_read_again(address: str) -> None:
    topic = f"/default/{uuid4().hex}"
    sent = [str(number) for number in range(MESSAGES)]
    async with connect(address, streaming=True) as client:
        async with client.producer(topic) as producer:
            first = await producer.send("first", {"k": "v"}, key="key")
            futures = [await producer.post(text) for text in sent]
            positions = await asyncio.gather(*futures)
        assert [first, *positions] == sorted({first, *positions})
        assert await client.topics(topic) == [Topic(topic, 0, reliable=True)]
        async with client.consumer(topic, "s", type=SubscriptionType.EXCLUSIVE) as consumer:
            head = await consumer.receive(timeout=30)
            assert (head.text, head.key, dict(head.attributes)) == ("first", "key", {"k": "v"})
            await head.ack()
            received: list[tuple[str, int]] = []
            while len(received) < MESSAGES:
                message = await consumer.receive(timeout=30)
                received.append((message.text, message.position))
                assert message.offset == len(received), "the first one is before them"
                await message.ack()
            await consumer.flush_acks()
        assert received == list(zip(sent, positions, strict=True))
        async with client.reader(topic, start=Start.last(3)) as reader:
            last = [(message.text, message.offset) async for message in reader]
        assert last == [(text, MESSAGES - 2 + index) for index, text in enumerate(sent[-3:])]


async def test_a_message_that_is_given_back_just_before_the_consumer_closes_has_failed(address: str) -> None:
    topic = f"/default/{uuid4().hex}"
    async with connect(address, streaming=True) as client:
        async with client.producer(topic) as producer:
            await producer.send("bad")
        failures: list[int] = []
        for _ in range(3):
            async with client.consumer(topic, "s") as consumer:
                message = await consumer.receive(timeout=30)
                failures.append(message.redelivery_count)
                await message.nack(delay=0.01, reason="no")
        assert failures == [0, 1, 2]
