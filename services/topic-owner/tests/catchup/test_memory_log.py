from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from danube_common.cluster.records import Topic
from danube_common.model.bundle import Bundle
from danube_harness.services.owner_harness import (
    IN_MEMORY,
    PATIENCE_S,
    OwnerHarness,
)


async def memory_topic(harness: OwnerHarness) -> Topic:
    harness.bundle = Bundle.parse("m0")
    await harness.own()
    return await harness.topic("/default/m", IN_MEMORY)


async def test_a_volatile_log_that_began_anew_under_its_owner_is_delivered_from_its_beginning(
    harness: OwnerHarness,
) -> None:
    topic = await memory_topic(harness)
    gateway = await harness.gateway("g")
    consumer = await gateway.subscribe(topic.name, "s")
    await gateway.attach(consumer)
    for text in "abc":
        await harness.publish(topic, text)
    await gateway.until(lambda: len(gateway.texts()) == 3)
    await gateway.ack(topic.name, "s", gateway.positions())
    harness.log.lose(topic.home)
    for text in "de":
        await harness.publish(topic, text)
    harness.owners[1].reader.check()
    await gateway.until(lambda: len(gateway.texts()) == 5)
    assert gateway.texts()[3:] == ["d", "e"]
    await gateway.ack(topic.name, "s", gateway.positions()[3:])
    await harness.publish(topic, "f")
    await gateway.until(lambda: gateway.texts()[5:] == ["f"])


@pytest.mark.parametrize("acked", [True, False])
@pytest.mark.parametrize("subscribed", ["before", "after"])
async def test_a_volatile_log_that_began_anew_while_nobody_owned_it_is_delivered_from_its_beginning(
    harness: OwnerHarness, subscribed: str, *, acked: bool
) -> None:
    first = await memory_topic(harness)
    gateway = await harness.gateway("g")
    reading = await gateway.subscribe(first.name, "s")
    await gateway.attach(reading)
    for text in "abc":
        await harness.publish(first, text)
    await gateway.until(lambda: len(gateway.texts()) == 3)
    if acked:
        await gateway.ack(first.name, "s", gateway.positions())
    topic = await harness.topic("/default/other", IN_MEMORY)
    assert topic.log_floor == 3
    consumer = await gateway.subscribe(topic.name, "s") if subscribed == "before" else 0
    await harness.journaled()
    await harness.kill()
    harness.log.lose(topic.home)
    for text in "defgh":
        await harness.publish(topic, text)
    await harness.own()
    consumer = consumer or await gateway.subscribe(topic.name, "s")
    await gateway.attach(consumer)
    await gateway.until(lambda: gateway.texts(consumer) == list("defgh"))


async def test_what_was_purged_of_a_volatile_log_is_passed_over_and_what_was_read_of_it_counted(
    harness: OwnerHarness,
) -> None:
    topic = await memory_topic(harness)
    gateway = await harness.gateway("g")
    reading = await gateway.subscribe(topic.name, "reading")
    await gateway.subscribe(topic.name, "idle")
    await gateway.attach(reading)
    await harness.publish(topic, "a")
    await harness.publish(topic, "b", "c")
    await harness.publish(topic, "d")
    await gateway.until(lambda: len(gateway.texts()) == 4)
    await gateway.ack(topic.name, "reading", gateway.positions()[1:2])
    await harness.log.purge(topic.home, 2)
    with capture_logs() as logs:
        harness.owners[1].reader.check()
        async with asyncio.timeout(PATIENCE_S):
            while len(lost := [line for line in logs if "lost_at_least" in line]) < 2:  # noqa: ASYNC110 - no event
                await asyncio.sleep(0.01)
    assert sorted((line["subscription"], line["lost_at_least"]) for line in lost) == [
        ("idle", 3),
        ("reading", 2),
    ]
    await gateway.ack(topic.name, "reading", gateway.positions()[3:])
    gateway.deliveries.clear()
    await gateway.attach(await gateway.subscribe(topic.name, "idle"))
    await gateway.until(lambda: gateway.texts() == ["d"])
    await harness.publish(topic, "e")
    await gateway.until(lambda: sorted(gateway.texts()) == ["d", "e", "e"])
    await harness.journaled()
    await harness.kill()
    await harness.own()
    gateway.deliveries.clear()
    await gateway.attach(reading)
    await gateway.until(lambda: gateway.texts(reading) == ["e"])
