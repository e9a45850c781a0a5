"""A text where the client takes an object, as programs without a type checker give it."""

from __future__ import annotations

from typing import Any

import pytest

from danube_client.testing import MemoryPlatform

TOPIC = "/default/arguments"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"strategy": "reliable"}, r"a strategy is Reliable\(\) or NonReliable\(\), not 'reliable'"),
        ({"schema": "string"}, "a schema is a Schema, .* not 'string'"),
    ],
)
async def test_a_producer_takes_no_text_for_a_strategy_or_a_schema(given: Any, said: str) -> None:
    async with MemoryPlatform().client() as client:
        with pytest.raises(TypeError, match=said):
            client.producer(TOPIC, **given)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"type": "exclusive"}, "a type is one of SubscriptionType, not 'exclusive'"),
        ({"initial_position": "latest"}, "a start is a Start, .* not 'latest'"),
    ],
)
async def test_a_consumer_takes_no_text_for_a_type_or_a_start(given: Any, said: str) -> None:
    async with MemoryPlatform().client() as client:
        with pytest.raises(TypeError, match=said):
            client.consumer(TOPIC, "readers", **given)


@pytest.mark.parametrize("given", [{"key": 5}, {"attributes": {"line": 3}}])
async def test_a_key_or_an_attribute_that_is_no_text_is_told_and_harms_no_other_message(given: Any) -> None:
    async with MemoryPlatform().client() as client, client.producer(TOPIC) as producer:
        with pytest.raises(TypeError, match="a key is text, and attributes are texts"):
            await producer.send("x", **given)
        await producer.send("y", key="5")
        async with client.reader(TOPIC) as reader:
            assert [message.text async for message in reader] == ["y"]
