"""Topics that are deleted and created again while clients are open, whatever else happens in between."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from danube_client import Reliable, Retry, Schema, TopicDeleted, connect
from danube_harness.services.stub_gateway import NOT_READY, UNREACHABLE, StubGateway

TOPIC = "/default/t"
QUICK = Retry(attempts_max=1000, first_s=0.002, max_s=0.01)
HEALTH_INTERVAL_S = 0.005
STEPS = st.lists(
    st.sampled_from(["send", "delete", "make again", "forget clients", "fail", "end streams", "idle"]),
    max_size=8,
)


async def act(gateway: StubGateway, step: str) -> None:
    """One event at the platform."""
    match step:
        case "delete":
            gateway.delete_topic(TOPIC)
        case "make again":
            gateway.schemas.setdefault(TOPIC, Schema.int64().to_wire())
        case "forget clients":
            gateway.producers.clear()
            gateway.consumers.clear()
            gateway.end_streams()
        case "fail":
            for method in ("SendMessage", "CreateProducer", "TopicLookup", "Subscribe", "GetTopic"):
                gateway.failures[method].extend([NOT_READY, UNREACHABLE])
        case "end streams":
            gateway.end_streams()
        case "idle":
            await asyncio.sleep(4 * HEALTH_INTERVAL_S)


@settings(max_examples=20)  # each waits for health checks
@given(STEPS, st.booleans())
def test_a_producer_belongs_to_one_topic_and_creates_another_only_if_that_is_asked_for(
    steps: list[str], recreate: bool
) -> None:
    asyncio.run(produce(steps, recreate=recreate))


async def produce(steps: list[str], *, recreate: bool) -> None:
    schema = Schema.string()
    async with (
        StubGateway() as gateway,
        connect(gateway.address, retry=QUICK, health_interval_s=HEALTH_INTERVAL_S) as client,
        client.producer(TOPIC, name="p", schema=schema, strategy=Reliable(), recreate=recreate) as producer,
    ):
        first = gateway.topic_ids[TOPIC]
        for step in [*steps, "idle", "send"]:
            await act(gateway, step)
            alive = TOPIC in gateway.schemas and gateway.topic_ids[TOPIC] == first
            if step == "send" and (alive or recreate):
                await producer.send("x")
            elif step == "send":
                with pytest.raises(TopicDeleted):
                    await producer.send("x")
            if not alive and not recreate:
                assert gateway.schemas.get(TOPIC) in (None, Schema.int64().to_wire()), "it was created again"
        assert recreate or len(gateway.accepted[TOPIC]) <= steps.count("send") + 1


@settings(max_examples=20)
@given(STEPS)
def test_a_consumer_belongs_to_one_topic(steps: list[str]) -> None:
    asyncio.run(consume(steps))


async def consume(steps: list[str]) -> None:
    async with (
        StubGateway() as gateway,
        connect(gateway.address, retry=QUICK, health_interval_s=HEALTH_INTERVAL_S) as client,
    ):
        gateway.schemas[TOPIC] = Schema.string().to_wire()
        async with client.consumer(TOPIC, "s", name="c") as consumer:
            first = gateway.topic_ids[TOPIC]
            for step in steps:
                await act(gateway, step)
            if TOPIC in gateway.schemas and gateway.topic_ids[TOPIC] == first:
                waiting = asyncio.ensure_future(anext(consumer))
                while not waiting.done():
                    gateway.deliver(TOPIC, b"x")
                    await asyncio.sleep(HEALTH_INTERVAL_S)
                assert waiting.result().payload == b"x"
            else:
                with pytest.raises(TopicDeleted):
                    await anext(consumer)
