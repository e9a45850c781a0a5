from __future__ import annotations

import asyncio

import pytest
from grpc import StatusCode

import danube_client
from danube_client import (
    AccessMode,
    Client,
    Reliable,
    Retention,
    Retry,
    Schema,
    Storage,
)
from danube_harness.services.stub_gateway import NOT_READY, UNREACHABLE, Failure, StubGateway
from danube_proto import danube_api_pb2 as wire

TOPIC = "/default/t"


def share_topics(one: StubGateway, other: StubGateway) -> None:
    """Let two gateways serve the same topics."""
    other.schemas, other.topic_ids = one.schemas, one.topic_ids


def numbers(gateway: StubGateway, topic: str = TOPIC) -> list[int]:
    return [message.msg_id.sequence_id for message in gateway.accepted[topic]]


async def test_a_new_topic_is_described_in_full(gateway: StubGateway, client: Client) -> None:
    schema = Schema.json('{"type": "object"}', name="my_app")
    strategy = Reliable(Storage.S3, 7, Retention.UNTIL_ACKNOWLEDGED, 60, "bucket")
    async with client.producer(
        TOPIC, name="p", schema=schema, strategy=strategy, access_mode=AccessMode.EXCLUSIVE
    ):
        pass
    (request,) = gateway.requests["CreateProducer"]
    assert request == wire.ProducerRequest(
        request_id=1,
        producer_name="p",
        topic_name=TOPIC,
        schema=wire.Schema(name="my_app", schema_data=b'{"type": "object"}', type_schema=wire.Schema.JSON),
        producer_access_mode=wire.Exclusive,
        dispatch_strategy=wire.TopicDispatchStrategy(
            strategy=wire.Reliable,
            reliable_options=wire.ReliableOptions(
                segment_size=7,
                storage_backend=wire.S3,
                storage_path="bucket",
                retention_policy=wire.RetainUntilAck,
                retention_period=60,
            ),
        ),
    )


def test_only_a_backend_that_is_named_is_sent() -> None:
    """In memory is the number 0, which the wire may leave out."""
    for storage in (None, *Storage):
        options = Reliable(storage).to_wire().reliable_options
        read = wire.ReliableOptions.FromString(options.SerializeToString())
        assert (read.storage_backend if read.HasField("storage_backend") else None) == storage


@pytest.mark.parametrize(
    ("strategy", "policy", "period_s"),
    [
        (Reliable(), wire.RetainUntilAck, 3600),
        (Reliable(retention_period_s=60), wire.RetainUntilExpire, 60),
        (Reliable(retention=Retention.UNTIL_EXPIRED), wire.RetainUntilExpire, 3600),
        (Reliable(retention=Retention.UNTIL_ACKNOWLEDGED, retention_period_s=60), wire.RetainUntilAck, 60),
    ],
)
def test_messages_expire_only_if_that_or_a_period_is_asked_for(
    strategy: Reliable, policy: int, period_s: int
) -> None:
    options = strategy.to_wire().reliable_options
    assert (options.retention_policy, options.retention_period) == (policy, period_s)


async def test_a_topic_that_exists_is_taken_as_it_is(gateway: StubGateway, client: Client) -> None:
    gateway.schemas[TOPIC] = Schema.int64().to_wire()
    async with client.producer(TOPIC, name="p"):
        pass
    (request,) = gateway.requests["CreateProducer"]
    assert not request.HasField("schema")
    assert not request.HasField("dispatch_strategy")


async def test_what_is_given_is_asked_for_even_if_the_topic_exists(
    gateway: StubGateway, client: Client
) -> None:
    gateway.schemas[TOPIC] = Schema.int64().to_wire()
    async with client.producer(TOPIC, name="p", strategy=Reliable()):
        pass
    (request,) = gateway.requests["CreateProducer"]
    assert not request.HasField("schema")
    assert request.dispatch_strategy == Reliable().to_wire()


async def test_a_new_topic_keeps_its_messages_until_they_are_acknowledged(
    gateway: StubGateway, client: Client
) -> None:
    async with client.producer(TOPIC, name="p"):
        pass
    (request,) = gateway.requests["CreateProducer"]
    assert request.schema.type_schema == wire.Schema.String
    assert request.dispatch_strategy.strategy == wire.Reliable
    options = request.dispatch_strategy.reliable_options
    assert options.retention_policy == wire.RetainUntilAck
    assert not options.HasField("storage_backend")
    assert request.producer_access_mode == wire.Shared


async def test_a_message_carries_all_that_a_consumer_reads(gateway: StubGateway, client: Client) -> None:
    async with client.producer(TOPIC, name="p") as producer:
        assert await producer.send("grüße", {"k": "v"}) == 0
        assert await producer.send(b"\x00\xff") == 1
    first, second = gateway.accepted[TOPIC]
    assert first.payload == "grüße".encode()
    assert dict(first.attributes) == {"k": "v"}
    assert first.producer_name == "p"
    assert first.publish_time > 1_600_000_000_000
    assert first.msg_id.topic_name == TOPIC
    assert first.msg_id.producer_id == gateway.producers[TOPIC, "p"]
    assert first.msg_id.broker_addr == f"{gateway.address}/"
    assert second.payload == b"\x00\xff"
    assert (first.request_id, second.request_id) == (2, 3)


async def test_concurrent_sends_are_numbered_in_the_order_of_their_calls(
    gateway: StubGateway, client: Client
) -> None:
    async with client.producer(TOPIC, name="p", in_flight_max=5) as producer:
        results = await asyncio.gather(*(producer.send(str(number)) for number in range(50)))
    assert results == list(range(50))
    payloads = {message.msg_id.sequence_id: message.payload for message in gateway.accepted[TOPIC]}
    assert payloads == {number: str(number).encode() for number in range(50)}


async def test_no_more_than_the_window_is_in_flight(gateway: StubGateway, client: Client) -> None:
    gateway.gates["SendMessage"] = asyncio.Event()
    async with client.producer(TOPIC, name="p", in_flight_max=3) as producer:
        for _ in range(3):
            await producer.post("x")
        fourth = asyncio.create_task(producer.post("x"))
        await gateway.until(lambda: len(gateway.requests["SendMessage"]) == 3)
        assert not fourth.done()
        gateway.gates["SendMessage"].set()
        assert await (await fourth) == 3


async def test_what_failed_leaves_again_in_order_with_its_sequence_ids(
    gateway: StubGateway, client: Client
) -> None:
    gateway.failures["SendMessage"].extend([None, UNREACHABLE, NOT_READY, UNREACHABLE])
    gateway.gates["SendMessage"] = asyncio.Event()
    async with client.producer(TOPIC, name="p", in_flight_max=4) as producer:
        outcomes = []
        for number in range(4):  # each call meets its own outcome
            outcomes.append(await producer.post(str(number)))
            await gateway.until(lambda: len(gateway.requests["SendMessage"]) == len(outcomes))
        waiting = asyncio.create_task(producer.post("4"))
        gateway.gates["SendMessage"].set()
        outcomes.append(await waiting)
        assert [await outcome for outcome in outcomes] == [0, 1, 2, 3, 4]
    assert sorted(numbers(gateway)) == [0, 1, 2, 3, 4]
    assert len(gateway.requests["CreateProducer"]) == 2


@pytest.mark.parametrize(
    "status", [StatusCode.UNAVAILABLE, StatusCode.NOT_FOUND, StatusCode.DEADLINE_EXCEEDED]
)
async def test_nothing_that_was_sent_later_overtakes_what_failed(
    gateway: StubGateway, client: Client, status: StatusCode
) -> None:
    failing = Failure(status, gate=asyncio.Event())
    gateway.failures["SendMessage"].append(failing)
    gateway.gates["SendMessage"] = asyncio.Event()
    async with client.producer(TOPIC, name="p") as producer:
        outcomes = [await producer.post("0")]
        await gateway.until(lambda: len(gateway.requests["SendMessage"]) == 1)
        outcomes += [await producer.post(str(number)) for number in range(1, 8)]
        await gateway.until(lambda: len(gateway.requests["SendMessage"]) == 8)
        assert failing.gate is not None
        failing.gate.set()
        # It begins anew when no call is under way any more, though none of the others had an answer.
        await gateway.until(lambda: len(gateway.requests["CreateProducer"]) == 2)
        gateway.gates["SendMessage"].set()
        assert [await outcome for outcome in outcomes] == list(range(8))
    assert sorted(numbers(gateway)) == list(range(8))


async def test_with_one_in_flight_order_survives_failures(gateway: StubGateway, client: Client) -> None:
    gateway.failures["SendMessage"].extend([None, UNREACHABLE, NOT_READY, None, None, UNREACHABLE])
    async with client.producer(TOPIC, name="p", in_flight_max=1) as producer:
        await asyncio.gather(*(producer.send(str(number)) for number in range(8)))
    assert numbers(gateway) == list(range(8))


async def test_a_restarted_gateway_costs_no_message(gateway: StubGateway, client: Client) -> None:
    async with client.producer(TOPIC, name="p") as producer:
        await producer.send("0")
        await gateway.stop()
        gateway.producers.clear()
        outcomes = [await producer.post(str(number)) for number in range(1, 20)]
        await gateway.start()
        assert [await outcome for outcome in outcomes] == list(range(1, 20))
    assert sorted(numbers(gateway)) == list(range(20))
    new_id = gateway.producers[TOPIC, "p"]
    assert {message.msg_id.producer_id for message in gateway.accepted[TOPIC][1:]} == {new_id}


async def test_an_unknown_producer_is_created_anew(gateway: StubGateway, client: Client) -> None:
    async with client.producer(TOPIC, name="p") as producer:
        gateway.producers.clear()
        assert await producer.send("x") == 0
    assert len(gateway.requests["CreateProducer"]) == 2


async def test_health_notices_that_the_producer_is_not_known_any_more(
    gateway: StubGateway, client: Client
) -> None:
    async with client.producer(TOPIC, name="p"):
        gateway.producers.clear()
        await gateway.until(lambda: len(gateway.requests["CreateProducer"]) == 2)
        await gateway.until(lambda: (TOPIC, "p") in gateway.producers)


async def test_retries_end(gateway: StubGateway) -> None:
    retry = Retry(attempts_max=3, first_s=0.001, max_s=0.001)
    async with (
        danube_client.connect(gateway.address, retry=retry) as client,
        client.producer(TOPIC, name="p") as producer,
    ):
        gateway.failures["SendMessage"].extend([NOT_READY] * 3)
        with pytest.raises(danube_client.NotReady, match="as scripted"):
            await producer.send("x")
        assert len(gateway.requests["SendMessage"]) == 3
        assert await producer.send("y") == 1


@pytest.mark.parametrize(
    ("failure", "error"),
    [
        (Failure(StatusCode.INVALID_ARGUMENT, wire.INVALID_TOPIC_NAME), danube_client.InvalidTopicName),
        (Failure(StatusCode.INVALID_ARGUMENT, wire.UNKNOWN_ERROR), danube_client.InvalidRequest),
        (Failure(StatusCode.INVALID_ARGUMENT, wire.TOPIC_NOT_FOUND), danube_client.TopicNotFound),
        (Failure(StatusCode.ALREADY_EXISTS, wire.PRODUCER_ALREADY_EXISTS), danube_client.ProducerExists),
        (Failure(StatusCode.NOT_FOUND, wire.SUBSCRIPTION_NOT_FOUND), danube_client.SubscriptionNotFound),
        (
            Failure(StatusCode.PERMISSION_DENIED, wire.SUBSCRIBE_PERMISSION_DENIED),
            danube_client.SubscribeDenied,
        ),
        (Failure(StatusCode.PERMISSION_DENIED), danube_client.Denied),
        (Failure(StatusCode.RESOURCE_EXHAUSTED, wire.UNKNOWN_ERROR), danube_client.LimitReached),
        (Failure(StatusCode.INTERNAL), danube_client.CallError),
        (Failure(StatusCode.UNAVAILABLE, wire.UNKNOWN_ERROR), danube_client.CallError),
    ],
)
async def test_a_refusal_is_raised_at_once_and_by_its_kind(
    gateway: StubGateway, client: Client, failure: Failure, error: type[danube_client.CallError]
) -> None:
    gateway.failures["CreateProducer"].append(failure)
    with pytest.raises(danube_client.CallError) as caught:
        await client.producer(TOPIC, name="p")
    assert type(caught.value) is error
    assert str(caught.value) == "as scripted"
    assert caught.value.code == failure.code.name
    assert len(gateway.requests["CreateProducer"]) == 1


async def test_a_refused_message_harms_no_other(gateway: StubGateway, client: Client) -> None:
    gateway.failures["SendMessage"].extend([None, Failure(StatusCode.INVALID_ARGUMENT, wire.UNKNOWN_ERROR)])
    async with client.producer(TOPIC, name="p", in_flight_max=1) as producer:
        outcomes = await asyncio.gather(*(producer.send("x") for _ in range(3)), return_exceptions=True)
    assert isinstance(outcomes[1], danube_client.InvalidRequest)
    assert [outcomes[0], outcomes[2]] == [0, 2]
    assert len(gateway.requests["CreateProducer"]) == 1


async def test_creating_waits_for_a_platform_that_is_not_ready(gateway: StubGateway, client: Client) -> None:
    gateway.failures["CreateProducer"].extend([NOT_READY, UNREACHABLE])
    async with client.producer(TOPIC, name="p") as producer:
        assert await producer.send("x") == 0


async def test_partitions_are_ordinary_topics_served_in_turn(gateway: StubGateway, client: Client) -> None:
    async with client.producer(TOPIC, name="p", partitions=3) as producer:
        assert producer.topics == [f"{TOPIC}-part-{part}" for part in range(3)]
        assert [await producer.send(str(number)) for number in range(7)] == [0, 0, 0, 1, 1, 1, 2]
    assert sorted(gateway.producers) == [(f"{TOPIC}-part-{part}", f"p-{part}") for part in range(3)]
    assert [message.payload for message in gateway.accepted[f"{TOPIC}-part-0"]] == [b"0", b"3", b"6"]


async def test_the_partitions_of_a_topic_are_found(gateway: StubGateway, client: Client) -> None:
    gateway.schemas.update({f"{TOPIC}-part-{part}": wire.Schema() for part in range(3)})
    async with client.producer(TOPIC, name="p") as producer:
        assert [await producer.send(str(number)) for number in range(4)] == [0, 0, 0, 1]
    assert sorted(gateway.producers) == [(f"{TOPIC}-part-{part}", f"p-{part}") for part in range(3)]
    assert TOPIC not in gateway.schemas


@pytest.mark.parametrize(("existing", "said"), [(0, "is not partitioned"), (3, "has 3 partitions")])
async def test_another_number_of_partitions_is_refused(
    gateway: StubGateway, client: Client, existing: int, said: str
) -> None:
    names = [f"{TOPIC}-part-{part}" for part in range(existing)] or [TOPIC]
    gateway.schemas.update({name: wire.Schema() for name in names})
    for partitions in (2, 5):
        with pytest.raises(danube_client.InvalidRequest, match=f"{said}, not {partitions} partitions"):
            await client.producer(TOPIC, name="p", partitions=partitions)
    assert not gateway.requests["CreateProducer"]


async def test_partitions_that_another_producer_is_creating_are_waited_for(
    gateway: StubGateway, client: Client
) -> None:
    gateway.schemas[f"{TOPIC}-part-0"] = wire.Schema()
    opening = asyncio.ensure_future(client.producer(TOPIC, name="p", partitions=2).open())
    await gateway.until(lambda: len(gateway.requests["TopicPartitions"]) == 2)
    gateway.schemas[f"{TOPIC}-part-1"] = wire.Schema()
    producer = await opening
    assert len(producer.topics) == 2
    await producer.close()


async def test_an_idle_producer_leaves_a_deleted_topic_deleted(gateway: StubGateway, client: Client) -> None:
    async with client.producer(TOPIC, name="p", schema=Schema.string(), strategy=Reliable()) as producer:
        await producer.send("0")
        gateway.delete_topic(TOPIC)
        looked_up = len(gateway.requests["TopicLookup"])
        await gateway.until(lambda: len(gateway.requests["TopicLookup"]) > looked_up)
        for _ in range(2):
            with pytest.raises(danube_client.TopicDeleted, match="topic /default/t was deleted"):
                await producer.send("1")
    assert TOPIC not in gateway.schemas
    assert len(gateway.requests["CreateProducer"]) == 1


@pytest.mark.parametrize("made_again", [False, True])
async def test_messages_under_way_to_a_deleted_topic_fail(
    gateway: StubGateway, client: Client, made_again: bool
) -> None:
    async with client.producer(TOPIC, name="p") as producer:
        gateway.delete_topic(TOPIC)
        if made_again:
            gateway.schemas[TOPIC] = wire.Schema()
        outcomes = [await producer.post("x") for _ in range(3)]
        for outcome in outcomes:
            with pytest.raises(danube_client.TopicDeleted):
                await outcome
    assert not gateway.accepted[TOPIC]
    assert len(gateway.requests["CreateProducer"]) == 1


@pytest.mark.parametrize("told", [None, wire.TOPIC_NOT_FOUND])
async def test_a_topic_deleted_after_it_was_looked_up_is_not_made_again(
    gateway: StubGateway, client: Client, told: wire.ErrorType | None
) -> None:
    gateway.missing_topic = told
    async with client.producer(TOPIC, name="p", schema=Schema.string(), strategy=Reliable()) as producer:
        gateway.producers.clear()
        gateway.gates["CreateProducer"] = asyncio.Event()
        outcome = await producer.post("x")
        await gateway.until(lambda: len(gateway.requests["CreateProducer"]) == 2)
        gateway.delete_topic(TOPIC)
        gateway.gates["CreateProducer"].set()
        with pytest.raises(danube_client.TopicDeleted):
            await outcome
    assert TOPIC not in gateway.schemas
    assert gateway.recreates == [True, False]


async def test_a_producer_may_create_its_topic_again_as_it_was(gateway: StubGateway, client: Client) -> None:
    schema, strategy = Schema.int64(), Reliable(retention_period_s=60)
    async with client.producer(TOPIC, name="p", schema=schema, strategy=strategy, recreate=True) as producer:
        gateway.delete_topic(TOPIC)
        assert await producer.send("1") == 0
        gateway.delete_topic(TOPIC)
        assert await producer.send("2") == 1
    assert gateway.recreates == [True, True, True]
    assert gateway.schemas[TOPIC] == schema.to_wire()
    assert gateway.strategies[TOPIC] == strategy.to_wire()


def test_what_creates_a_topic_again_must_be_known() -> None:
    client = danube_client.connect("127.0.0.1:1")
    with pytest.raises(ValueError, match="schema and the strategy"):
        client.producer(TOPIC, schema=Schema.string(), recreate=True)


async def test_producers_without_a_name_get_different_ones(gateway: StubGateway, client: Client) -> None:
    async with client.producer(TOPIC) as one, client.producer(TOPIC) as other:
        assert one.name != other.name
        assert {name for _, name in gateway.producers} == {one.name, other.name}


async def test_closing_settles_what_was_handed_over(gateway: StubGateway, client: Client) -> None:
    producer = await client.producer(TOPIC, name="p")
    outcomes = [await producer.post("x") for _ in range(10)]
    await producer.close()
    assert [outcome.result() for outcome in outcomes] == list(range(10))
    with pytest.raises(danube_client.Closed):
        await producer.send("x")


async def test_leaving_by_an_error_does_not_wait_for_answers(gateway: StubGateway, client: Client) -> None:
    gateway.gates["SendMessage"] = asyncio.Event()
    outcomes = []

    async def leave_by_an_error() -> None:
        async with client.producer(TOPIC, name="p") as producer:
            outcomes.append(await producer.post("x"))
            raise KeyError

    with pytest.raises(KeyError):
        await leave_by_an_error()
    with pytest.raises(danube_client.Closed):
        await outcomes[0]


async def test_a_closed_client_fails_its_producers(gateway: StubGateway) -> None:
    client = await danube_client.connect(gateway.address)
    producer = await client.producer(TOPIC, name="p")
    await client.close()
    with pytest.raises(danube_client.Closed):
        await producer.send("x")
    await producer.close()


async def test_giving_up_a_send_leaves_the_producer_usable(gateway: StubGateway, client: Client) -> None:
    gateway.gates["SendMessage"] = asyncio.Event()
    async with client.producer(TOPIC, name="p", in_flight_max=1) as producer:
        first = asyncio.create_task(producer.send("0"))
        await gateway.until(lambda: len(gateway.requests["SendMessage"]) == 1)
        waiting = asyncio.create_task(producer.send("never"))
        first.cancel()
        waiting.cancel()
        await asyncio.gather(first, waiting, return_exceptions=True)
        gateway.gates["SendMessage"].set()
        assert await producer.send("1") == 1


async def test_a_redirect_is_followed(gateway: StubGateway, client: Client) -> None:
    async with StubGateway() as other:
        other.schemas[TOPIC] = gateway.schemas[TOPIC] = wire.Schema()
        gateway.redirect_to = other.address
        gateway.failures["CreateProducer"].append(NOT_READY)
        async with client.producer(TOPIC, name="p") as producer:
            await producer.send("x")
        assert numbers(other) == [0]


async def test_the_next_address_takes_over(gateway: StubGateway) -> None:
    retry = Retry(attempts_max=8, first_s=0.01, max_s=0.1)
    async with StubGateway() as other:
        share_topics(gateway, other)
        async with (
            danube_client.connect(gateway.address, other.address, retry=retry) as client,
            client.producer(TOPIC, name="p") as producer,
        ):
            await producer.send("0")
            await gateway.stop()
            assert await producer.send("1") == 1
        assert numbers(other) == [1]


@pytest.mark.parametrize("arguments", [{"partitions": 0}, {"in_flight_max": 0}])
def test_impossible_numbers_are_refused(arguments: dict[str, int]) -> None:
    client = danube_client.connect("127.0.0.1:1")
    with pytest.raises(ValueError, match="at least 1"):
        client.producer(TOPIC, name="p", **arguments)  # type: ignore[arg-type]


async def test_what_a_closing_server_never_looked_at_is_sent_again(
    gateway: StubGateway, client: Client
) -> None:
    async with client.producer(TOPIC, name="p") as producer:
        gateway.failures["SendMessage"].append(Failure(StatusCode.CANCELLED))
        assert await producer.send("x") == 0
    assert numbers(gateway) == [0]


async def test_a_gateway_that_shuts_down_is_left_for_the_next_address(gateway: StubGateway) -> None:
    retry = Retry(attempts_max=8, first_s=0.01, max_s=0.1)
    async with (
        StubGateway() as leaving,
        danube_client.connect(leaving.address, gateway.address, retry=retry) as client,
        client.producer(TOPIC, name="p") as producer,
    ):
        await producer.send("0")
        share_topics(leaving, gateway)
        for method in ("SendMessage", "CreateProducer", "TopicLookup"):
            leaving.failures[method].extend([NOT_READY] * 100)
        outcomes = [await producer.post(str(number)) for number in range(1, 5)]
        assert [await outcome for outcome in outcomes] == [1, 2, 3, 4]
    assert sorted(numbers(gateway)) == [1, 2, 3, 4]
    assert len(leaving.accepted[TOPIC]) == 1
