from __future__ import annotations

import asyncio

import pytest
from grpc import StatusCode

import danube_client
from danube_client import (
    Client,
    Consumer,
    Disconnected,
    Event,
    Lost,
    Reconnected,
    Retry,
    SubscriptionType,
)
from danube_client.connection import RECEIVE_BYTES_MAX
from danube_client.consumer import RECEIVED_MAX
from danube_harness.services.stub_gateway import NOT_READY, UNREACHABLE, Failure, StubGateway
from danube_proto import danube_api_pb2 as wire

TOPIC = "/default/t"
TAKEN_OVER = Failure(
    StatusCode.PERMISSION_DENIED, wire.SUBSCRIBE_PERMISSION_DENIED, "another client took over"
)


@pytest.fixture(autouse=True)
def topic(gateway: StubGateway) -> None:
    gateway.schemas[TOPIC] = wire.Schema(type_schema=wire.Schema.String)


async def take(consumer: Consumer, count: int) -> list[bytes]:
    return [(await anext(consumer)).payload for _ in range(count)]


async def test_subscribing_asks_for_partitions_then_the_place_then_the_subscription(
    gateway: StubGateway, client: Client
) -> None:
    async with client.consumer(TOPIC, "s", name="c", type=SubscriptionType.FAILOVER) as consumer:
        await gateway.until(lambda: len(gateway.requests["ReceiveMessages"]) == 1)
        assert consumer.topics == [TOPIC]
    (request,) = gateway.requests["Subscribe"]
    assert request == wire.ConsumerRequest(
        request_id=1,
        topic_name=TOPIC,
        consumer_name="c",
        subscription="s",
        subscription_type=wire.ConsumerRequest.Failover,
    )
    assert [r.topic for r in gateway.requests["TopicPartitions"]] == [TOPIC]
    assert [r.topic for r in gateway.requests["TopicLookup"]] == [TOPIC]
    assert gateway.requests["ReceiveMessages"][0].consumer_id == gateway.consumers[TOPIC, "s", "c"].identity


async def test_a_message_arrives_with_all_that_was_sent(gateway: StubGateway, client: Client) -> None:
    async with (
        client.producer(TOPIC, name="p") as producer,
        client.consumer(TOPIC, "s", name="c") as consumer,
    ):
        await producer.send("grüße", {"k": "v"})
        message = await anext(consumer)
    assert message.text == "grüße"
    assert message.attributes == {"k": "v"}
    assert (message.topic, message.sequence_id, message.producer_name) == (TOPIC, 0, "p")
    assert message.producer_id == gateway.producers[TOPIC, "p"]
    assert message.publish_time_ms == gateway.accepted[TOPIC][0].publish_time
    assert repr(message) == "Message(topic='/default/t', position=0, 7 bytes)"


async def test_an_acknowledgement_echoes_the_delivery(gateway: StubGateway, client: Client) -> None:
    async with client.consumer(TOPIC, "s", name="c") as consumer:
        gateway.deliver(TOPIC, b"x")
        message = await anext(consumer)
        await message.ack()
    (request,) = gateway.requests["Ack"]
    assert request == wire.AckRequest(
        request_id=1, msg_id=wire.MsgID(topic_name=TOPIC), subscription_name="s"
    )


async def test_posted_acknowledgements_wait_for_room_only(gateway: StubGateway, client: Client) -> None:
    gateway.gates["Ack"] = asyncio.Event()
    async with client.consumer(TOPIC, "s", name="c", acks_in_flight_max=2) as consumer:
        for _ in range(3):
            gateway.deliver(TOPIC, b"x")
        await consumer.post_ack(await anext(consumer))
        await consumer.post_ack(await anext(consumer))
        third = asyncio.create_task(consumer.post_ack(await anext(consumer)))
        await gateway.until(lambda: len(gateway.requests["Ack"]) == 2)
        assert not third.done()
        gateway.gates["Ack"].set()
        await third
    assert sorted(request.request_id for request in gateway.requests["Ack"]) == [1, 2, 3]


async def test_closing_waits_for_posted_acknowledgements(gateway: StubGateway, client: Client) -> None:
    consumer = await client.consumer(TOPIC, "s", name="c")
    gateway.deliver(TOPIC, b"x")
    ack = await consumer.post_ack(await anext(consumer))
    await consumer.close()
    assert ack.done()
    assert ack.exception() is None


async def test_messages_acknowledged_together_are_answered_each(gateway: StubGateway, client: Client) -> None:
    consumer = client.consumer(TOPIC, "s", name="c", acks_in_flight_max=2)
    with pytest.raises(danube_client.Closed, match="not open"):
        await consumer.ack_all([])
    async with consumer:
        for _ in range(3):
            gateway.deliver(TOPIC, b"x")
        messages = [await anext(consumer) for _ in range(3)]
        gateway.failures["Ack"].append(Failure(StatusCode.INTERNAL))
        with pytest.raises(danube_client.CallError):
            await consumer.ack_all(messages)
    assert sorted(request.request_id for request in gateway.requests["Ack"]) == [1, 2, 3]


async def test_a_failed_acknowledgement_is_told(gateway: StubGateway, client: Client) -> None:
    async with client.consumer(TOPIC, "s", name="c") as consumer:
        gateway.deliver(TOPIC, b"x")
        message = await anext(consumer)
        gateway.failures["Ack"].append(Failure(StatusCode.INTERNAL))
        with pytest.raises(danube_client.CallError):
            await message.ack()
        gateway.failures["Ack"].append(Failure(StatusCode.INTERNAL))
        ack = await consumer.post_ack(message)
        await consumer.flush_acks()
        assert isinstance(ack.exception(), danube_client.CallError)


async def test_all_partitions_are_merged(gateway: StubGateway, client: Client) -> None:
    async with (
        client.producer("/default/parts", name="p", partitions=3) as producer,
        client.consumer("/default/parts", "s", name="c") as consumer,
    ):
        for number in range(6):
            await producer.send(str(number))
        messages = [await anext(consumer) for _ in range(6)]
        for message in messages:
            await message.ack()
    assert sorted(message.payload for message in messages) == [b"0", b"1", b"2", b"3", b"4", b"5"]
    assert {message.topic for message in messages} == {f"/default/parts-part-{part}" for part in range(3)}
    assert {ack.msg_id.topic_name for ack in gateway.requests["Ack"]} == {m.topic for m in messages}


async def test_an_unknown_topic_is_not_found(gateway: StubGateway, client: Client) -> None:
    with pytest.raises(danube_client.TopicNotFound, match="/default/none"):
        await client.consumer("/default/none", "s", name="c")
    with pytest.raises(danube_client.TopicNotFound):
        await client.schema("/default/none")


async def test_a_refused_subscription_is_raised(gateway: StubGateway, client: Client) -> None:
    gateway.failures["Subscribe"].append(Failure(StatusCode.PERMISSION_DENIED, message="taken"))
    with pytest.raises(danube_client.Denied, match="taken"):
        await client.consumer(TOPIC, "s", name="c")


async def test_the_iteration_ends_with_the_stream(gateway: StubGateway, client: Client) -> None:
    async with client.consumer(TOPIC, "s", name="c", reconnect=False) as consumer:
        gateway.deliver(TOPIC, b"last")
        gateway.end_streams()
        assert [message.payload async for message in consumer] == [b"last"]
        assert [message async for message in consumer] == []


async def test_a_failed_stream_is_raised_after_what_came_before(gateway: StubGateway, client: Client) -> None:
    async with client.consumer(TOPIC, "s", name="c", reconnect=False) as consumer:
        gateway.deliver(TOPIC, b"last")
        gateway.end_streams(UNREACHABLE)
        assert await take(consumer, 1) == [b"last"]
        with pytest.raises(danube_client.Unreachable):
            await anext(consumer)


@pytest.mark.parametrize("how", [None, UNREACHABLE, NOT_READY], ids=["end", "unreachable", "not ready"])
async def test_a_reconnecting_consumer_subscribes_again_by_its_name(
    gateway: StubGateway, client: Client, how: Failure | None
) -> None:
    async with client.consumer(TOPIC, "s", name="c") as consumer:
        gateway.deliver(TOPIC, b"0")
        gateway.end_streams(how)
        await gateway.until(lambda: len(gateway.requests["ReceiveMessages"]) == 2)
        gateway.deliver(TOPIC, b"1")
        assert await take(consumer, 2) == [b"0", b"1"]
    assert [request.consumer_name for request in gateway.requests["Subscribe"]] == ["c", "c"]


async def test_a_reconnecting_consumer_survives_a_restart(gateway: StubGateway, client: Client) -> None:
    async with client.consumer(TOPIC, "s", name="c") as consumer:
        gateway.deliver(TOPIC, b"0")
        first = await anext(consumer)
        await gateway.stop()
        gateway.consumers.clear()
        late_ack = await consumer.post_ack(first)
        await gateway.start()
        await gateway.until(lambda: len(gateway.requests["ReceiveMessages"]) == 2)
        gateway.deliver(TOPIC, b"1")
        assert await take(consumer, 1) == [b"1"]
        await late_ack


async def test_a_consumer_that_is_not_known_any_more_subscribes_again(
    gateway: StubGateway, client: Client
) -> None:
    async with client.consumer(TOPIC, "s", name="c") as consumer:
        await gateway.until(lambda: len(gateway.requests["ReceiveMessages"]) == 1)
        gateway.consumers.clear()
        await gateway.until(lambda: len(gateway.requests["ReceiveMessages"]) == 2)
        gateway.deliver(TOPIC, b"1")
        assert await take(consumer, 1) == [b"1"]


async def test_a_consumer_comes_back_whatever_the_number_of_failures(gateway: StubGateway) -> None:
    retry = Retry(attempts_max=3, first_s=0.001, max_s=0.001)
    events: list[Event] = []
    async with (
        danube_client.connect(gateway.address, retry=retry) as client,
        client.consumer(TOPIC, "s", name="c", on_event=events.append) as consumer,
    ):
        await gateway.until(lambda: len(gateway.requests["ReceiveMessages"]) == 1)
        gateway.failures["Subscribe"].extend([UNREACHABLE] * 20)
        gateway.failures["ReceiveMessages"].extend([Failure(StatusCode.NOT_FOUND)] * 20)
        gateway.end_streams(NOT_READY)
        await gateway.until(lambda: len(gateway.requests["ReceiveMessages"]) == 22)
        gateway.deliver(TOPIC, b"back")
        assert await take(consumer, 1) == [b"back"]
    away, back = events
    assert isinstance(away, Disconnected)
    assert isinstance(away.error, danube_client.NotReady)
    assert isinstance(back, Reconnected)
    assert (away.topic, back.topic) == (TOPIC, TOPIC)


async def test_a_consumer_counts_as_back_though_nothing_is_delivered(
    gateway: StubGateway, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("danube_client.v0_2.topic_consumer.STEADY_S", 0.05)
    back = asyncio.Event()

    def note(event: Event) -> None:
        if isinstance(event, Reconnected):
            back.set()

    async with client.consumer(TOPIC, "s", name="c", on_event=note):
        gateway.end_streams()
        await back.wait()


async def test_a_consumer_that_was_replaced_does_not_come_back(gateway: StubGateway, client: Client) -> None:
    async with client.consumer(TOPIC, "s", name="c") as consumer:
        gateway.deliver(TOPIC, b"mine")
        gateway.end_streams(TAKEN_OVER)
        assert await take(consumer, 1) == [b"mine"]
        with pytest.raises(danube_client.SubscribeDenied, match="another client took over"):
            await anext(consumer)
    assert len(gateway.requests["Subscribe"]) == 1


async def test_a_consumer_in_its_own_way_comes_back(gateway: StubGateway, client: Client) -> None:
    async with client.consumer(TOPIC, "s", name="c") as consumer:
        await gateway.until(lambda: len(gateway.requests["ReceiveMessages"]) == 1)
        gateway.failures["Subscribe"].append(TAKEN_OVER)
        gateway.failures["ReceiveMessages"].append(TAKEN_OVER)
        gateway.end_streams(UNREACHABLE)
        await gateway.until(lambda: len(gateway.requests["ReceiveMessages"]) == 3)
        gateway.deliver(TOPIC, b"back")
        assert await take(consumer, 1) == [b"back"]


async def test_a_consumer_that_stays_refused_gives_up(gateway: StubGateway) -> None:
    retry = Retry(attempts_max=3, first_s=0.001, max_s=0.001)
    async with (
        danube_client.connect(gateway.address, retry=retry) as client,
        client.consumer(TOPIC, "s", name="c") as consumer,
    ):
        await gateway.until(lambda: len(gateway.requests["ReceiveMessages"]) == 1)
        gateway.failures["Subscribe"].extend([TAKEN_OVER] * 100)
        gateway.end_streams(UNREACHABLE)
        with pytest.raises(danube_client.SubscribeDenied):
            await anext(consumer)
    assert len(gateway.requests["Subscribe"]) == 4


@pytest.mark.parametrize("made_again", [False, True])
async def test_a_consumer_of_a_deleted_topic_says_so(
    gateway: StubGateway, client: Client, made_again: bool
) -> None:
    async with client.consumer(TOPIC, "s", name="c") as consumer:
        await gateway.until(lambda: len(gateway.requests["ReceiveMessages"]) == 1)
        gateway.delete_topic(TOPIC)
        if made_again:
            gateway.schemas[TOPIC] = wire.Schema()
        with pytest.raises(danube_client.TopicDeleted, match="was deleted"):
            await anext(consumer)
    assert len(gateway.requests["Subscribe"]) == 1


async def test_a_consumer_is_told_once_what_was_lost(gateway: StubGateway, client: Client) -> None:
    events: list[Event] = []
    gateway.lost[TOPIC, "s"] = 3
    async with client.consumer(TOPIC, "s", name="c", on_event=events.append) as consumer:
        await gateway.until(lambda: gateway.told[TOPIC, "s"] == 3)
        gateway.lost[TOPIC, "s"] = 5
        await consumer.check_losses()
        await consumer.check_losses()
    assert events == [Lost(TOPIC, "s", 3), Lost(TOPIC, "s", 2)]
    async with client.consumer(TOPIC, "s", name="d", on_event=events.append) as consumer:
        await consumer.check_losses()
    assert len(events) == 2


async def test_a_loss_is_an_exception_if_that_is_asked_for(gateway: StubGateway, client: Client) -> None:
    async with client.consumer(TOPIC, "s", name="c", raise_on_loss=True) as consumer:
        gateway.deliver(TOPIC, b"before")
        assert await take(consumer, 1) == [b"before"]
        gateway.lost[TOPIC, "s"] = 7
        with pytest.raises(danube_client.MessagesLost, match="7 messages of /default/t expired") as caught:
            await anext(consumer)
    assert caught.value.count == 7
    assert gateway.told[TOPIC, "s"] == 7


async def test_a_broker_that_knows_no_losses_serves_all_the_same(
    gateway: StubGateway, client: Client
) -> None:
    unknown = Failure(StatusCode.UNIMPLEMENTED)
    gateway.failures["TellLosses"].extend([unknown] * 1000)
    gateway.failures["GetTopic"].extend([unknown] * 1000)
    async with client.consumer(TOPIC, "s") as consumer, client.producer(TOPIC) as producer:
        await producer.send("x")
        assert await take(consumer, 1) == [b"x"]
        await consumer.check_losses()
    assert await client.describe(TOPIC) == []


async def test_what_an_event_handler_raises_the_iteration_raises(
    gateway: StubGateway, client: Client
) -> None:
    def refuse(_event: Event) -> None:
        raise KeyError

    async with client.consumer(TOPIC, "s", on_event=refuse) as consumer:
        gateway.end_streams()
        with pytest.raises(KeyError):
            await anext(consumer)


async def test_a_stream_asks_for_its_prefetch(gateway: StubGateway, client: Client) -> None:
    async with client.consumer(TOPIC, "s"), client.consumer(TOPIC, "t", prefetch=3):
        await gateway.until(lambda: len(gateway.prefetches) == 2)
    assert sorted(map(str, gateway.prefetches)) == ["3", "None"]
    with pytest.raises(ValueError, match="at least 1"):
        client.consumer(TOPIC, "s", prefetch=0)


async def test_consumers_without_a_name_get_different_ones(gateway: StubGateway, client: Client) -> None:
    async with client.consumer(TOPIC, "s") as one, client.consumer(TOPIC, "s") as other:
        assert one.name != other.name
        assert {name for _, _, name in gateway.consumers} == {one.name, other.name}


async def test_no_more_than_the_bound_waits_to_be_taken(gateway: StubGateway, client: Client) -> None:
    async with client.consumer(TOPIC, "s", name="c") as consumer:
        for number in range(RECEIVED_MAX + 50):
            gateway.deliver(TOPIC, str(number).encode())
        payloads: list[bytes] = []
        while len(payloads) < RECEIVED_MAX + 50:
            payloads += await take(consumer, 1)
            assert consumer.ready <= RECEIVED_MAX
    assert payloads == [str(number).encode() for number in range(RECEIVED_MAX + 50)]


async def test_closing_ends_an_iteration_that_waits(gateway: StubGateway, client: Client) -> None:
    consumer = await client.consumer(TOPIC, "s", name="c")
    waiting = asyncio.create_task(anext(consumer))
    await gateway.until(lambda: len(gateway.requests["ReceiveMessages"]) == 1)
    await consumer.close()
    with pytest.raises(StopAsyncIteration):
        await waiting


async def test_messages_beyond_the_library_default_of_4_mib_arrive(
    gateway: StubGateway, client: Client
) -> None:
    payload = bytes(10 * 1024 * 1024)
    assert len(payload) < RECEIVE_BYTES_MAX
    async with client.consumer(TOPIC, "s", name="c") as consumer:
        gateway.deliver(TOPIC, payload)
        assert await take(consumer, 1) == [payload]


async def test_the_schema_of_a_topic_can_be_asked_for(gateway: StubGateway, client: Client) -> None:
    schema = danube_client.Schema.json('{"type": "array"}', name="n")
    gateway.schemas["/default/j"] = schema.to_wire()
    assert await client.schema("/default/j") == schema
