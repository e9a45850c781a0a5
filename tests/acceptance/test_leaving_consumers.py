"""Consumers that are cancelled and aborted at any moment leave their subscriptions fit for the next one."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time

import pytest

from danube_client import Client, ClientError, SubscriptionType, connect
from danube_harness.platforms.standalone import Platform

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(180)]

TOPICS = [f"/default/left-{number}" for number in range(6)]
SUBSCRIPTIONS = [(topic, type_) for topic in TOPICS for type_ in SubscriptionType]
CHURN_S = 15.0
VISITORS = 12
"""Consumers that come and go at one time; each subscription type is met by several of them."""
STAY_MAX_S = 0.3
FRESH_WITHIN_S = 10.0
SEED = 7


async def stay(client: Client, topic: str, type_: SubscriptionType, acks: bool) -> None:
    async with client.consumer(topic, type_.name, type=type_) as consumer:
        async for message in consumer:
            if acks:
                await message.ack()


async def visit(url: str, client: Client, chance: random.Random) -> None:
    """Come, and be gone at a random point: of the opening, of the stay, of the closing."""
    topic, type_ = chance.choice(SUBSCRIPTIONS)
    moment = chance.choice((0.001, 0.01, STAY_MAX_S)) * chance.random()
    acks = chance.random() < 0.7
    way = chance.randrange(4)
    if way == 0:  # an `async with` that is left in time
        with contextlib.suppress(ClientError, TimeoutError):
            async with asyncio.timeout(moment), client.consumer(topic, type_.name, type=type_) as consumer:
                await (await consumer.receive()).ack()
        return
    if way == 1:  # a connection of its own, which ends without a word from the consumer
        own = await connect(url)
        task = asyncio.create_task(stay(own, topic, type_, acks))
        await asyncio.sleep(moment)
        await own.close()
    else:
        task = asyncio.create_task(stay(client, topic, type_, acks))
        await asyncio.sleep(moment)
    task.cancel()
    if way == 3:  # again while it closes
        await asyncio.sleep(0.02 * chance.random())
        task.cancel()
    with contextlib.suppress(ClientError, asyncio.CancelledError):
        await task


async def churn(url: str, client: Client, until: float, chance: random.Random) -> int:
    visits = 0
    while time.monotonic() < until:
        await visit(url, client, chance)
        visits += 1
    return visits


async def feed(client: Client, until: float) -> None:
    """A few messages for each topic all the time."""
    producers = [await client.producer(topic, name=f"feed{topic[-1]}") for topic in TOPICS]
    number = 0
    while time.monotonic() < until:
        for producer in producers:
            await producer.send(str(number), key=f"key-{number % 10}")
        number += 1
        await asyncio.sleep(0.05)  # the rate, which bounds the backlog


async def receive_fresh(client: Client, topic: str, type_: SubscriptionType) -> float:
    """Seconds until a new consumer received a message that was sent when it was opened."""
    began = time.monotonic()
    fresh = f"fresh for {type_.name}"
    async with asyncio.timeout(FRESH_WITHIN_S), client.consumer(topic, type_.name, type=type_) as consumer:
        async with client.producer(topic) as producer:
            await producer.send(fresh, key="key-1")
        async for message in consumer:
            await message.ack()
            if message.text == fresh:
                break
    return time.monotonic() - began


async def churn_and_look(url: str, churn_s: float, seed: int) -> tuple[int, dict[str, float], list[str]]:
    """How many consumers came and went, the seconds of each subscription, and what was starved."""
    until = time.monotonic() + churn_s
    async with connect(url) as client:
        feeding = asyncio.create_task(feed(client, until))
        visits = await asyncio.gather(
            *(churn(url, client, until, random.Random(seed * 100 + number)) for number in range(VISITORS))
        )
        await feeding
        waited: dict[str, float] = {}
        starved: list[str] = []
        for topic, type_ in SUBSCRIPTIONS:
            try:
                waited[f"{topic} {type_.name}"] = await receive_fresh(client, topic, type_)
            except (TimeoutError, ClientError) as error:
                starved.append(f"{topic} {type_.name}: {error!r}")
    return sum(visits), waited, starved


async def test_a_new_consumer_is_served_after_hundreds_were_cancelled_and_aborted(platform: Platform) -> None:
    visits, waited, starved = await churn_and_look(f"http://{platform.gateway_addr}", CHURN_S, SEED)
    slowest = max(waited.values(), default=0)
    print(f"{visits} consumers came and went; a fresh message took at most {slowest:.2f} s")
    assert starved == []
    assert visits > 100
