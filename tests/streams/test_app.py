from __future__ import annotations

import asyncio
from collections import defaultdict
from pathlib import Path
from typing import Any

import faust
import pytest
from faust.types import StreamT

from danube_client import SubscriptionType, connect
from danube_client.testing.platform import LocalPlatform

pytestmark = [
    pytest.mark.server,
    pytest.mark.timeout(180),
    # Of Faust and its libraries.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
KEYS = ("a", "b", "c", "d", "e")
COUNT = 300
POISON = 13


class Order(faust.Record):
    number: int
    customer: str


async def until(reached: Any) -> None:
    """Return once something holds; the test's timeout bounds it."""
    while not reached():  # noqa: ASYNC110 - Faust has no event for it
        await asyncio.sleep(0.05)


async def test_an_app_gets_each_key_in_order_groups_takes_sinks_fails_and_keeps_tables(
    danube_platform: LocalPlatform, tmp_path: Path
) -> None:
    app = faust.App(
        "behaviour",
        broker=danube_platform.url.replace("http", "danube"),
        danube_namespace="default",
        topic_partitions=3,
        broker_commit_interval=0.2,
        datadir=str(tmp_path),
        web_enabled=False,
        danube_dead_letter="behaviour-failed",
    )
    orders = app.topic("behaviour-orders", key_type=str, value_type=Order)
    failed = app.topic("behaviour-failed", value_type=bytes)
    table = app.Table("by_customer", default=int)
    seen: defaultdict[str, list[int]] = defaultdict(list)
    taken: list[int] = []
    letters: list[Any] = []
    sunk: list[int] = []
    ticks: list[None] = []
    assigned: list[set[Any]] = []

    @app.agent(orders, sink=[sunk.append])
    async def in_order(stream: StreamT[Order]) -> Any:
        async for key, order in stream.items():
            if order.number == POISON:
                raise ValueError("thirteen")
            seen[key].append(order.number)
            yield order.number

    @app.agent(orders)
    async def grouped(stream: StreamT[Order]) -> None:
        async for order in stream.group_by(Order.customer):  # type: ignore[arg-type]  # a descriptor
            if order.number == COUNT:
                del table[order.customer]
            else:
                table[order.customer] += 1

    @app.agent(orders)
    async def in_batches(stream: StreamT[Order]) -> None:
        async for batch in stream.take(50, within=0.5):
            taken.extend(order.number for order in batch)

    @app.agent(failed)
    async def dead(stream: StreamT[bytes]) -> None:
        async for event in stream.events():
            letters.append(event.message)  # noqa: PERF401 - the stream has no end

    @app.timer(0.1)  # type: ignore[untyped-decorator]  # Faust's
    async def tick() -> None:
        ticks.append(None)

    @app.on_partitions_assigned.connect
    async def on_assigned(*args: Any, **_: Any) -> None:
        assigned.append(args[1])

    app.finalize()
    numbers = set(range(COUNT)) - {POISON}
    async with (
        connect(danube_platform.url, streaming=True) as client,
        client.producer("/default/behaviour-orders", partitions=3) as producer,
    ):
        for number in range(COUNT):
            order = Order(number=number, customer=f"customer-{number % 7}")
            await producer.post(order.dumps(), key=KEYS[number % len(KEYS)])
        await producer.flush()

    async with app:
        await until(lambda: {number for one in seen.values() for number in one} == numbers and letters)
        await until(lambda: sum(table.values()) == COUNT and len(set(taken)) == COUNT)

        for key, found in seen.items():
            assert found == [
                number for number in range(COUNT) if KEYS[number % 5] == key and number != POISON
            ]
        assert dict(table) == {f"customer-{rest}": len(range(rest, COUNT, 7)) for rest in range(7)}
        assert set(sunk) == numbers
        assert ticks
        assert {tp.partition for tp in assigned[-1] if tp.topic == "behaviour-orders"} == {0, 1, 2}
        (letter,) = letters
        headers = dict(letter.headers)
        assert Order.loads(letter.value, default_serializer="json").number == POISON
        assert (letter.key, headers["error"]) == (KEYS[POISON % 5].encode(), b"ValueError('thirteen')")

        await orders.send(key="a", value=Order(number=COUNT, customer="customer-0"))
        await until(lambda: "customer-0" not in table)

    # What was processed was committed when the app stopped.
    assert not await left_over(danube_platform.url)


async def left_over(url: str) -> list[str]:
    """Return what of the orders the app's subscription would still get: nothing after it stopped."""
    async with (
        connect(url, streaming=True) as client,
        client.consumer("/default/behaviour-orders", "behaviour", type=SubscriptionType.FAILOVER) as consumer,
    ):
        return [message.text for message in await consumer.receive_batch(timeout=0.5)]
