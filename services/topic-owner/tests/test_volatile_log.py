from __future__ import annotations

import pytest

from danube_common.bundle import Bundle
from danube_common.records import Topic
from danube_testing.bundle_house import (
    IN_MEMORY,
    House,
)


async def memory_house(house: House) -> Topic:
    house.bundle = Bundle.parse("m0")
    await house.own()
    return await house.topic("/default/m", IN_MEMORY)


async def test_a_volatile_log_that_began_anew_under_its_owner_is_delivered_from_its_beginning(
    house: House,
) -> None:
    topic = await memory_house(house)
    gateway = await house.gateway("g")
    consumer = await gateway.subscribe(topic.name, "s")
    await gateway.attach(consumer)
    for text in "abc":
        await house.publish(topic, text)
    await gateway.until(lambda: len(gateway.texts()) == 3)
    await gateway.ack(topic.name, "s", gateway.positions())
    house.log.lose(topic.home)
    for text in "de":
        await house.publish(topic, text)
    house.owners[1].owner.reader.check()
    await gateway.until(lambda: len(gateway.texts()) == 5)
    assert gateway.texts()[3:] == ["d", "e"]
    await gateway.ack(topic.name, "s", gateway.positions()[3:])
    await house.publish(topic, "f")
    await gateway.until(lambda: gateway.texts()[5:] == ["f"])


@pytest.mark.parametrize("acked", [True, False])
@pytest.mark.parametrize("subscribed", ["before", "after"])
async def test_a_volatile_log_that_began_anew_while_nobody_owned_it_is_delivered_from_its_beginning(
    house: House, subscribed: str, *, acked: bool
) -> None:
    first = await memory_house(house)
    gateway = await house.gateway("g")
    reading = await gateway.subscribe(first.name, "s")
    await gateway.attach(reading)
    for text in "abc":
        await house.publish(first, text)
    await gateway.until(lambda: len(gateway.texts()) == 3)
    if acked:
        await gateway.ack(first.name, "s", gateway.positions())
    topic = await house.topic("/default/other", IN_MEMORY)
    assert topic.log_floor == 3
    consumer = await gateway.subscribe(topic.name, "s") if subscribed == "before" else 0
    await house.journaled()
    await house.kill()
    house.log.lose(topic.home)
    for text in "defgh":
        await house.publish(topic, text)
    await house.own()
    consumer = consumer or await gateway.subscribe(topic.name, "s")
    await gateway.attach(consumer)
    await gateway.until(lambda: gateway.texts(consumer) == list("defgh"))
