"""The current generation on the client port (docs/wire/current.md), alone and beside v0.2 on its topics."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import grpc.aio
import pytest
import pytest_asyncio
from google.protobuf.unknown_fields import UnknownFieldSet
from tests.conformance.client import OPTIONS, RETAIN_UNTIL_ACK, Admin, Client, producer_request, strategy

from danube_harness.platforms.standalone import Platform
from danube_proto import danube_current_pb2 as wire
from danube_proto import danube_schema_pb2 as schemas

DEADLINE_S = 20.0
HEADER = "x-danube-broker-url"
NON_RELIABLE, RELIABLE = 0, 1
EXCLUSIVE, SHARED, FAILOVER, KEY_SHARED = 0, 1, 2, 3
UNTIL_ACK = strategy(reliable=True, retention_policy=RETAIN_UNTIL_ACK)
"""What a v0.2 client says of a reliable topic that a client of the current generation has created."""


class Refused(Exception):
    def __init__(self, error: grpc.aio.AioRpcError) -> None:
        super().__init__(f"{error.code().name}: {error.details()}")
        self.code = error.code().name
        self.message = error.details() or ""


class CurrentClient:
    """Calls as clients of the current generation make them: with the lookup's URL in the metadata."""

    def __init__(self, addr: str, *, header: bool = True) -> None:
        self._channel = grpc.aio.insecure_channel(addr, options=OPTIONS)
        self._metadata = ((HEADER, f"http://{addr}/"),) if header else ()
        self._numbers = iter(range(1, 1 << 32))

    async def close(self) -> None:
        await self._channel.close(None)

    async def call(self, method: str, request: Any, response: Any, *, package: str = "danube") -> Any:
        multi: Any = self._channel.unary_unary(f"/{package}.{method}", None, None)
        try:
            data = await multi(request.SerializeToString(), timeout=DEADLINE_S, metadata=self._metadata)
        except grpc.aio.AioRpcError as error:
            raise Refused(error) from None
        return response.FromString(data)

    async def create(self, topic: str, name: str = "p", **fields: Any) -> int:
        request = wire.ProducerRequest(
            request_id=next(self._numbers), producer_name=name, topic_name=topic, **fields
        )
        answer = await self.call("ProducerService/CreateProducer", request, wire.ProducerResponse)
        assert 0 < answer.producer_id < 1 << 63
        assert (answer.request_id, answer.producer_name) == (request.request_id, name)
        return int(answer.producer_id)

    async def send(self, topic: str, producer_id: int, payload: bytes, **fields: Any) -> None:
        number = next(self._numbers)
        msg_id = wire.MsgID(producer_id=producer_id, topic_name=topic, broker_addr="http://x:1")
        message = wire.StreamMessage(
            request_id=number, msg_id=msg_id, payload=payload, producer_name="p", **fields
        )
        answer = await self.call("ProducerService/SendMessage", message, wire.MessageResponse)
        assert answer.request_id == number

    async def subscribe(self, topic: str, subscription: str, kind: Any = EXCLUSIVE, **fields: Any) -> int:
        request = wire.ConsumerRequest(
            request_id=next(self._numbers),
            topic_name=topic,
            subscription=subscription,
            subscription_type=kind,
            **{"consumer_name": "c", **fields},
        )
        answer = await self.call("ConsumerService/Subscribe", request, wire.ConsumerResponse)
        assert 0 < answer.consumer_id < 1 << 63
        return int(answer.consumer_id)

    def receive(self, consumer_id: int) -> Any:
        multi: Any = self._channel.unary_stream("/danube.ConsumerService/ReceiveMessages", None, None)
        request = wire.ReceiveRequest(request_id=1, consumer_id=consumer_id).SerializeToString()
        return multi(request, metadata=self._metadata)

    async def ack(self, message: Any, subscription: str, request_id: int = 77) -> None:
        request = wire.AckRequest(
            request_id=request_id, msg_id=message.msg_id, subscription_name=subscription
        )
        answer = await self.call("ConsumerService/Ack", request, wire.AckResponse)
        assert answer.request_id == request_id

    async def nack(self, message: Any, subscription: str, **fields: Any) -> None:
        request = wire.NackRequest(
            request_id=78, msg_id=message.msg_id, subscription_name=subscription, **fields
        )
        answer = await self.call("ConsumerService/Nack", request, wire.NackResponse)
        assert answer.request_id == 78

    async def health(self, client: Any, number: int) -> int:
        request = wire.HealthCheckRequest(request_id=1, client=client, id=number)
        answer = await self.call("HealthCheck/HealthCheck", request, wire.HealthCheckResponse)
        return int(answer.status)


async def read(stream: Any) -> Any:
    """The next message, decoded; nothing in it is unknown to the contract."""
    data = await asyncio.wait_for(stream.read(), DEADLINE_S)
    assert data is not grpc.aio.EOF
    message = wire.StreamMessage.FromString(data)
    assert len(UnknownFieldSet(message)) == len(UnknownFieldSet(message.msg_id)) == 0
    return message


@pytest_asyncio.fixture
async def current(platform: Platform) -> AsyncIterator[CurrentClient]:
    connected = CurrentClient(platform.gateway_addr)
    yield connected
    await connected.close()


async def test_a_lookup_makes_clients_of_the_current_generation_tell_that_they_are(
    current: CurrentClient, topic: str
) -> None:
    await current.create(topic)
    request = wire.TopicLookupRequest(request_id=5, topic=topic)
    answer = await current.call("Discovery/TopicLookup", request, wire.TopicLookupResponse)
    assert answer.request_id == 5
    assert answer.response_type == wire.TopicLookupResponse.Connect
    assert answer.proxy
    assert answer.connect_url == answer.broker_url != ""
    assert answer.connect_url.startswith("http://")


async def test_a_lookup_of_an_unknown_topic_is_not_found(current: CurrentClient, topic: str) -> None:
    request = wire.TopicLookupRequest(request_id=5, topic=topic)
    with pytest.raises(Refused) as refused:
        await current.call("Discovery/TopicLookup", request, wire.TopicLookupResponse)
    assert refused.value.code == "NOT_FOUND"
    answer = await current.call("Discovery/TopicPartitions", request, wire.TopicPartitionsResponse)
    assert list(answer.partitions) == []


async def test_messages_arrive_as_they_were_sent(current: CurrentClient, topic: str) -> None:
    producer = await current.create(topic, dispatch_strategy=RELIABLE)
    consumer = await current.subscribe(topic, "sub")
    stream = current.receive(consumer)
    await current.send(
        topic,
        producer,
        b"\xff\x00",
        publish_time=7,
        attributes={"a": "b"},
        schema_id=3,
        schema_version=2,
        routing_key="key",
    )
    message = await read(stream)
    assert message.payload == b"\xff\x00"
    assert (message.publish_time, dict(message.attributes)) == (7, {"a": "b"})
    assert (message.schema_id, message.schema_version, message.routing_key) == (3, 2, "key")
    assert (message.producer_name, message.subscription_name) == ("p", "sub")
    assert (message.msg_id.producer_id, message.msg_id.topic_name) == (producer, topic)
    stream.cancel()


async def test_offsets_count_the_messages_of_a_topic_and_an_acknowledged_message_does_not_come_again(
    current: CurrentClient, topic: str
) -> None:
    producer = await current.create(topic, dispatch_strategy=RELIABLE)
    consumer = await current.subscribe(topic, "sub")
    for payload in (b"0", b"1", b"2"):
        await current.send(topic, producer, payload)
    stream = current.receive(consumer)
    messages = [await read(stream) for _ in range(3)]
    offsets = [message.msg_id.topic_offset for message in messages]
    assert offsets == [0, 1, 2]
    for message in messages[:2]:
        await current.ack(message, "sub")
    stream.cancel()
    again = current.receive(await current.subscribe(topic, "sub"))
    redelivered = await read(again)
    assert (redelivered.payload, redelivered.msg_id.topic_offset) == (b"2", 2)
    again.cancel()


async def test_an_acknowledgement_may_come_to_any_gateway_with_any_request_id(
    current: CurrentClient, platform: Platform, topic: str
) -> None:
    producer = await current.create(topic, dispatch_strategy=RELIABLE)
    stream = current.receive(await current.subscribe(topic, "sub"))
    for payload in (b"0", b"1"):
        await current.send(topic, producer, payload)
    first = await read(stream)
    await read(stream)
    other = CurrentClient(platform.gateway_addrs[1])
    await other.ack(first, "sub", request_id=1)
    await other.close()
    stream.cancel()
    again = current.receive(await current.subscribe(topic, "sub"))
    assert (await read(again)).payload == b"1"
    again.cancel()


async def test_both_generations_share_a_topic_each_in_its_own_layout(
    current: CurrentClient, client: Client, topic: str
) -> None:
    theirs = await current.create(topic, "theirs", dispatch_strategy=RELIABLE)
    ours = await client.producer(topic, "ours", dispatch_strategy=UNTIL_ACK)
    new = current.receive(await current.subscribe(topic, "new"))
    old = await client.consume(topic, "old")
    for number in range(3):
        await ours.send(f"v0.2 {number}")
        await current.send(topic, theirs, f"current {number}".encode())
    expected = [f"{sender} {number}".encode() for number in range(3) for sender in ("v0.2", "current")]
    of_new = [await read(new) for _ in range(6)]
    of_old = await old.take(6)
    assert [message.payload for message in of_new] == expected
    assert [message.payload for message in of_old] == expected
    assert {message.msg_id.topic_name for message in (*of_new, *of_old)} == {topic}
    assert [message.msg_id.producer_id for message in of_new] == [ours.producer_id, theirs] * 3
    assert [message.msg_id.producer_id for message in of_old] == [ours.producer_id, theirs] * 3
    for message in of_new[:5]:
        await current.ack(message, "new")
    for message in of_old[:5]:
        await client.ack(message, "old")
    new.cancel()
    await old.cancel()
    left = await read(again := current.receive(await current.subscribe(topic, "new")))
    assert left.payload == expected[5]
    again.cancel()
    assert (await client.receive(await client.subscribe(topic, "old")).next()).payload == expected[5]


async def test_non_reliable_messages_cross_as_well(
    current: CurrentClient, client: Client, topic: str
) -> None:
    theirs = await current.create(topic, "theirs")
    ours = await client.producer(topic, "ours")
    new = current.receive(await current.subscribe(topic, "new"))
    await new.initial_metadata()
    old = await client.consume(topic, "old")
    await ours.send("1")
    await current.send(topic, theirs, b"2")
    messages = [await read(new), await read(new)]
    assert {message.payload for message in messages} == {b"1", b"2"}
    assert {message.payload for message in await old.take(2)} == {b"1", b"2"}
    await current.ack(messages[0], "new")
    new.cancel()


async def test_a_producer_whose_lookup_failed_sends_no_header_and_is_known(
    platform: Platform, topic: str
) -> None:
    bare = CurrentClient(platform.gateway_addr, header=False)
    producer = await bare.create(topic)
    await bare.send(topic, producer, b"x")
    reliable = await bare.create(f"{topic}_r", dispatch_strategy=RELIABLE)
    await bare.send(f"{topic}_r", reliable, b"x")
    await bare.close()


async def test_another_strategy_is_a_failed_precondition(current: CurrentClient, topic: str) -> None:
    await current.create(topic, dispatch_strategy=RELIABLE)
    with pytest.raises(Refused) as refused:
        await current.create(topic, "second")
    assert refused.value.code == "FAILED_PRECONDITION"
    assert "reliable" in refused.value.message


async def test_a_namespace_that_does_not_exist_is_unavailable(current: CurrentClient) -> None:
    with pytest.raises(Refused) as refused:
        await current.create(f"/missing_{uuid4().hex[:8]}/topic")
    assert refused.value.code == "UNAVAILABLE"


async def test_a_payload_over_the_policy_is_an_invalid_argument(
    current: CurrentClient, admin: Admin, topic: str
) -> None:
    producer = await current.create(topic, dispatch_strategy=RELIABLE)
    await admin.set_topic_policies(topic, max_message_size=10)
    async with asyncio.timeout(DEADLINE_S):
        while True:  # the gateway follows the policies
            try:
                await current.send(topic, producer, b"x" * 11)
            except Refused:
                break
    with pytest.raises(Refused, match="max_message_size") as refused:
        await current.send(topic, producer, b"x" * 11)
    assert refused.value.code == "INVALID_ARGUMENT"


async def test_an_unknown_producer_is_not_found(current: CurrentClient, topic: str) -> None:
    with pytest.raises(Refused) as refused:
        await current.send(topic, 12345, b"x")
    assert refused.value.code == "NOT_FOUND"


async def test_a_subscribe_without_a_topic_is_not_found(current: CurrentClient, topic: str) -> None:
    with pytest.raises(Refused) as refused:
        await current.subscribe(topic, "sub")
    assert refused.value.code == "NOT_FOUND"


async def test_a_second_exclusive_consumer_is_denied(
    current: CurrentClient, client: Client, topic: str
) -> None:
    await current.create(topic)
    stream = await client.consume(topic, "sub", consumer="other")
    with pytest.raises(Refused) as refused:
        await current.subscribe(topic, "sub")
    assert refused.value.code == "PERMISSION_DENIED"
    await stream.cancel()


async def test_key_filters_of_another_type_are_refused_with_a_sentence(
    current: CurrentClient, topic: str
) -> None:
    await current.create(topic)
    with pytest.raises(Refused) as refused:
        await current.subscribe(topic, "sub", key_filters=["a*"])
    assert refused.value.code == "PERMISSION_DENIED"
    assert "key-shared" in refused.value.message


@pytest.mark.parametrize("dispatch", [NON_RELIABLE, RELIABLE])
async def test_a_key_goes_to_the_consumer_whose_filter_matches_in_order(
    current: CurrentClient, topic: str, dispatch: Any
) -> None:
    producer = await current.create(topic, dispatch_strategy=dispatch)
    streams = {}
    for name, globs in {"eu": ["eu-*"], "us": ["us-?", "us-??"]}.items():
        consumer = await current.subscribe(topic, "sub", KEY_SHARED, key_filters=globs, consumer_name=name)
        streams[name] = current.receive(consumer)
        await streams[name].initial_metadata()
    for number in range(12):
        key = f"{('eu', 'us')[number % 2]}-{number % 3}"
        await current.send(topic, producer, b"%d" % number, routing_key=key)
    for offset, (name, stream) in enumerate(streams.items()):
        by_key: dict[str, list[int]] = {}
        for _ in range(6):
            message = await read(stream)
            assert message.routing_key.startswith(name)
            by_key.setdefault(message.routing_key, []).append(int(message.payload))
            if dispatch == RELIABLE:
                await current.ack(message, "sub")
        assert sorted(n for numbers in by_key.values() for n in numbers) == list(range(offset, 12, 2))
        assert all(numbers == sorted(numbers) for numbers in by_key.values())
        stream.cancel()


async def test_a_nacked_message_comes_again_before_what_follows_in_its_key(
    current: CurrentClient, topic: str
) -> None:
    producer = await current.create(topic, dispatch_strategy=RELIABLE)
    stream = current.receive(await current.subscribe(topic, "sub", KEY_SHARED))
    await stream.initial_metadata()
    for number in range(3):
        await current.send(topic, producer, b"%d" % number, routing_key="k")
    got = [await read(stream) for _ in range(3)]
    await current.nack(got[0], "sub")
    again = await read(stream)
    assert again.payload == b"0"
    await current.ack(again, "sub")
    assert [(await read(stream)).payload for _ in range(2)] == [b"1", b"2"]
    stream.cancel()


async def test_a_key_shared_consumer_without_the_metadata_of_the_current_generation_gets_v0_2(
    current: CurrentClient, client: Client, topic: str
) -> None:
    """Subscribe answers alike in both generations, and what follows goes by its own metadata."""
    producer = await current.create(topic, dispatch_strategy=RELIABLE)
    receiving = client.receive(await client.subscribe(topic, "sub", kind=KEY_SHARED))
    await current.send(topic, producer, b"x", routing_key="k")
    (message,) = await receiving.take(1)
    assert (message.payload, message.routing_key) == (b"x", "k")
    await client.ack(message, "sub")


async def test_health_is_ok_for_what_exists_and_close_for_what_does_not(
    current: CurrentClient, topic: str
) -> None:
    producer = await current.create(topic)
    assert await current.health(0, producer) == wire.HealthCheckResponse.OK
    assert await current.health(1, await current.subscribe(topic, "sub")) == wire.HealthCheckResponse.OK
    for client in (0, 1):
        assert await current.health(client, 999) == wire.HealthCheckResponse.CLOSE


async def test_a_stream_never_ends_well_nor_at_once(current: CurrentClient, admin: Admin, topic: str) -> None:
    await current.create(topic)
    consumer = await current.subscribe(topic, "sub")
    open_stream, unknown = current.receive(consumer), current.receive(999)
    await open_stream.initial_metadata()
    loop = asyncio.get_running_loop()
    began = loop.time()
    await admin.delete_topic(topic)
    for stream in (open_stream, unknown):
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await asyncio.wait_for(stream.read(), DEADLINE_S)
        assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "subscribe again" in (ended.value.details() or "")
    assert loop.time() - began > 4
    assert await current.health(1, consumer) == wire.HealthCheckResponse.CLOSE


async def test_an_acknowledgement_of_what_was_not_delivered_here_says_so(
    current: CurrentClient, topic: str
) -> None:
    await current.create(topic)
    message = wire.StreamMessage(msg_id=wire.MsgID(producer_id=1, topic_name=topic, broker_addr="x"))
    with pytest.raises(Refused) as refused:
        await current.ack(message, "sub")
    assert refused.value.code == "INVALID_ARGUMENT"
    assert "unchanged" in refused.value.message


async def test_a_refused_message_of_a_shared_subscription_holds_up_no_other(
    current: CurrentClient, topic: str
) -> None:
    producer = await current.create(topic, dispatch_strategy=RELIABLE)
    stream = current.receive(await current.subscribe(topic, "sub", SHARED))
    await current.send(topic, producer, b"fails")
    await current.nack(await read(stream), "sub", delay_ms=60_000, reason="not today")
    await current.send(topic, producer, b"other")
    assert (await read(stream)).payload == b"other"
    stream.cancel()


async def test_a_refused_message_of_an_exclusive_subscription_comes_before_what_follows_it(
    current: CurrentClient, topic: str
) -> None:
    producer = await current.create(topic, dispatch_strategy=RELIABLE)
    stream = current.receive(await current.subscribe(topic, "sub"))
    await current.send(topic, producer, b"fails")
    await current.nack(await read(stream), "sub")
    await current.send(topic, producer, b"other")
    for payload in (b"fails", b"other"):
        message = await read(stream)
        assert message.payload == payload
        await current.ack(message, "sub")
    stream.cancel()


async def test_to_refuse_what_is_not_outstanding_is_no_error(current: CurrentClient, topic: str) -> None:
    producer = await current.create(topic)
    stream = current.receive(await current.subscribe(topic, "sub"))
    await stream.initial_metadata()
    await current.send(topic, producer, b"non-reliable")
    message = await read(stream)
    await current.nack(message, "sub", delay_ms=(1 << 64) - 1, reason="x" * 10_000)
    message.msg_id.topic_name = f"{topic}_gone"
    await current.nack(message, "sub")
    message.msg_id.broker_addr = "http://x:1"
    with pytest.raises(Refused) as refused:
        await current.nack(message, "sub")
    assert refused.value.code == "INVALID_ARGUMENT"
    stream.cancel()


async def test_the_subject_of_the_first_producer_is_the_topics(current: CurrentClient, topic: str) -> None:
    subjects = [f"s_{uuid4().hex[:12]}" for _ in range(2)]
    for subject in subjects:
        request = schemas.RegisterSchemaRequest(subject=subject, schema_type="string")
        method = "SchemaRegistry/RegisterSchema"
        await current.call(method, request, schemas.RegisterSchemaResponse, package="danube_schema")
    references = [wire.SchemaReference(subject=subject, use_latest=True) for subject in subjects]
    await current.create(topic, "first", schema_ref=references[0])
    pinned = wire.SchemaReference(subject=subjects[0], pinned_version=1)
    await current.create(topic, "same", schema_ref=pinned)
    with pytest.raises(Refused) as refused:
        await current.create(topic, "other", schema_ref=references[1])
    assert refused.value.code == "FAILED_PRECONDITION"
    assert subjects[0] in refused.value.message
    missing = wire.SchemaReference(subject=subjects[0], min_version=2)
    with pytest.raises(Refused) as refused:
        await current.create(topic, "late", schema_ref=missing)
    assert refused.value.code == "NOT_FOUND"


async def test_segments_of_a_topic_are_listed(current: CurrentClient, topic: str) -> None:
    await current.create(topic, dispatch_strategy=RELIABLE)
    request = wire.ListSegmentDescriptorsRequest(topic=topic)
    method = "StorageService/ListSegmentDescriptors"
    answer = await current.call(method, request, wire.ListSegmentDescriptorsResponse)
    assert list(answer.segments) == []
    request.topic = f"{topic}_missing"
    with pytest.raises(Refused) as refused:
        await current.call(method, request, wire.ListSegmentDescriptorsResponse)
    assert refused.value.code == "NOT_FOUND"


async def test_whole_schemas_of_core_0_5_are_refused_with_the_versions_that_work(
    client: Client, current: CurrentClient, topic: str
) -> None:
    schema = producer_request(topic, dispatch_strategy=None)
    schema.schema.schema_data = b"{}"
    request = wire.ProducerRequest.FromString(schema.SerializeToString())
    request.dispatch_strategy = wire.Reliable
    with pytest.raises(Refused) as refused:
        await current.call("ProducerService/CreateProducer", request, wire.ProducerResponse)
    assert refused.value.code == "INVALID_ARGUMENT"
    assert "0.6" in refused.value.message
    assert await client.partitions(topic) == []
