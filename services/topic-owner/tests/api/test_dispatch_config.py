from __future__ import annotations

import pytest

from danube_common.errors import InvalidInput, NotFound, Refused
from danube_common.model.subscription import SubscriptionType
from danube_common.wire.owner.subscriptions import (
    MAX_UNACKED_MESSAGES,
    GetDispatchConfig,
    SetDispatchConfig,
)
from danube_harness.services.owner_harness import EXCLUSIVE, NON_RELIABLE, SHARED, Gateway, OwnerHarness

TOPIC = "/default/t"
ASKED = GetDispatchConfig(TOPIC, "s")


@pytest.mark.usefixtures("owner")
@pytest.mark.parametrize("kind", [EXCLUSIVE, SHARED])
async def test_no_more_messages_are_in_flight_than_is_set_while_consumers_are_connected(
    harness: OwnerHarness, gateway: Gateway, kind: SubscriptionType
) -> None:
    topic = await harness.topic(TOPIC)
    consumer = await gateway.subscribe(TOPIC, "s", kind)
    assert (await harness.ask(ASKED)).max_unacked_messages == 0
    await harness.ask(SetDispatchConfig(TOPIC, "s", 2))
    await gateway.attach(consumer)
    await harness.publish(topic, "a", "b", "c", "d")
    await gateway.until(lambda: gateway.texts() == ["a", "b"])
    await harness.settle()
    assert gateway.texts() == ["a", "b"]
    await harness.ask(SetDispatchConfig(TOPIC, "s", 3))
    await gateway.until(lambda: gateway.texts() == ["a", "b", "c"])
    await harness.ask(SetDispatchConfig(TOPIC, "s", MAX_UNACKED_MESSAGES))
    await gateway.until(lambda: gateway.texts() == ["a", "b", "c", "d"])


@pytest.mark.usefixtures("owner")
async def test_what_is_set_survives_the_owner(harness: OwnerHarness, gateway: Gateway) -> None:
    topic = await harness.topic(TOPIC)
    consumer = await gateway.subscribe(TOPIC, "s", EXCLUSIVE)
    await harness.ask(SetDispatchConfig(TOPIC, "s", 1))
    await harness.kill()
    await harness.own()
    assert (await harness.ask(ASKED)).max_unacked_messages == 1
    await gateway.attach(consumer)
    await harness.publish(topic, "a", "b")
    await gateway.until(lambda: gateway.texts() == ["a"])
    await harness.settle()
    assert gateway.texts() == ["a"]


@pytest.mark.usefixtures("owner")
async def test_what_cannot_be_set_is_refused(harness: OwnerHarness, gateway: Gateway) -> None:
    await harness.topic(TOPIC)
    await harness.topic("/default/n", NON_RELIABLE)
    await gateway.subscribe(TOPIC, "s", EXCLUSIVE)
    await gateway.subscribe("/default/n", "s", EXCLUSIVE)
    for topic, name, bound, error in (
        (TOPIC, "s", 0, InvalidInput),
        (TOPIC, "s", MAX_UNACKED_MESSAGES + 1, InvalidInput),
        (TOPIC, "unknown", 1, NotFound),
        ("/default/unknown", "s", 1, NotFound),
        ("/default/n", "s", 1, Refused),
    ):
        with pytest.raises(error):
            await harness.ask(SetDispatchConfig(topic, name, bound))
