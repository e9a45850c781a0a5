"""How the platform's cost grows: with topics, with subscriptions, with processes. See `make bench-scale`."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import platform as machine
import signal
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import grpc.aio
import pytest
from google.protobuf.message import Message
from tests.benchmarks.growth import KINDS, cpu_s, memory_bytes, plot, stopwatch, table

from danube_harness.platforms.admin_calls import ask_admin
from danube_harness.platforms.standalone import Platform
from danube_proto import danube_admin_pb2 as pb
from danube_proto import danube_api_pb2 as api
from danube_proto import danube_platform_pb2 as platform_pb

TOPICS = tuple(int(n) for n in os.environ.get("DANUBE_BENCH_TOPICS", "10,100,1000,10000").split(","))
SUBSCRIPTIONS = (1, 3, 10, 30, 100)
DELIVERIES = int(os.environ.get("DANUBE_BENCH_DELIVERIES", "20000"))
"""In each round over the number of subscriptions."""
PROCESSES = ((1, 1), (2, 1), (1, 2), (2, 2), (4, 4))
"""Gateways and topic-owners."""
LOAD_S = float(os.environ.get("DANUBE_BENCH_SECONDS", "10"))
LOADED_TOPICS = 8
IN_FLIGHT = 16
ACKS_AT_ONCE = 8
PARTITIONS_PER_CALL = 1000
CALLS_AT_ONCE = 64
PROBES = 100
PAYLOAD = bytes(1024)
CALL_TIMEOUT_S = 60.0
LEASE_S = 5.0
RELIABLE = "reliable:storage=disk,retention=ack"
REPORT = Path("reports/benchmark-scale.json")
SHOWN = Path("reports/benchmark-scale.txt")

A = TypeVar("A", bound=Message)

pytestmark = [pytest.mark.benchmark, pytest.mark.scale, pytest.mark.timeout(3600)]


class Client:
    """Raw calls to one gateway."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel

    async def call(self, method: str, request: Message, answer: type[A]) -> A:
        ask: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]
        ask = self._channel.unary_unary(method, request_serializer=None, response_deserializer=None)
        return answer.FromString(await ask(request.SerializeToString(), timeout=CALL_TIMEOUT_S))

    async def producer(self, topic: str, name: str = "bench") -> Callable[[], Any]:
        """What publishes the next message when it is called."""
        request = api.ProducerRequest(
            request_id=1,
            producer_name=name,
            topic_name=topic,
            schema=api.Schema(name="bench", type_schema=api.Schema.Bytes),
        )
        made = await self.call("/danube.ProducerService/CreateProducer", request, api.ProducerResponse)
        message = api.StreamMessage(
            request_id=1,
            msg_id=api.MsgID(producer_id=made.producer_id, topic_name=topic),
            payload=PAYLOAD,
            producer_name=name,
        )
        send: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]
        send = self._channel.unary_unary(
            "/danube.ProducerService/SendMessage", request_serializer=None, response_deserializer=None
        )
        numbers = itertools.count()

        def publish() -> Any:
            message.msg_id.sequence_id = next(numbers)
            return send(message.SerializeToString(), timeout=CALL_TIMEOUT_S)

        return publish

    async def subscribe(self, topic: str, subscription: str) -> int:
        request = api.ConsumerRequest(
            request_id=1,
            topic_name=topic,
            consumer_name="bench",
            subscription=subscription,
            subscription_type=api.ConsumerRequest.Exclusive,
        )
        made = await self.call("/danube.ConsumerService/Subscribe", request, api.ConsumerResponse)
        return made.consumer_id

    async def read(self, topic: str, subscription: str, taken: Callable[[], None]) -> None:
        """Receive and acknowledge until cancelled, ACKS_AT_ONCE acknowledgements at one time."""
        consumer_id = await self.subscribe(topic, subscription)
        receive: grpc.aio.UnaryStreamMultiCallable[bytes, bytes]
        receive = self._channel.unary_stream(
            "/danube.ConsumerService/ReceiveMessages", request_serializer=None, response_deserializer=None
        )
        ack: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]
        ack = self._channel.unary_unary(
            "/danube.ConsumerService/Ack", request_serializer=None, response_deserializer=None
        )
        waiting: set[Any] = set()
        async for delivery in receive(
            api.ReceiveRequest(request_id=1, consumer_id=consumer_id).SerializeToString()
        ):
            message = api.StreamMessage.FromString(delivery)
            taken()
            request = api.AckRequest(
                request_id=message.request_id, msg_id=message.msg_id, subscription_name=subscription
            )
            call = asyncio.ensure_future(ack(request.SerializeToString(), timeout=CALL_TIMEOUT_S))
            waiting.add(call)
            call.add_done_callback(waiting.discard)
            if len(waiting) >= ACKS_AT_ONCE:
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)


def report(name: str, rows: Sequence[dict[str, float]], over: str, *figures: str) -> None:
    """Print and keep."""
    shown = f"\n{name}\n{table(rows)}\n\n{plot(rows, over, *figures)}\n"
    print(shown)
    REPORT.parent.mkdir(exist_ok=True)
    kept = json.loads(REPORT.read_text()) if REPORT.exists() else {}
    kept["machine"] = {"cpus": os.cpu_count(), "python": machine.python_version(), "load": os.getloadavg()}
    kept[name] = list(rows)
    REPORT.write_text(json.dumps(kept, indent=1))
    texts = SHOWN.read_text().split("\n\n\n") if SHOWN.exists() else []
    others = [text for text in texts if text.strip() and not text.strip().startswith(name)]
    SHOWN.write_text("\n\n\n".join([*others, shown.strip()]) + "\n")


async def limited(works: Sequence[Callable[[], Any]]) -> None:
    """All of them, so many at a time."""
    waiting = iter(works)

    async def work() -> None:
        for each in waiting:
            await each()

    await asyncio.gather(*(work() for _ in range(CALLS_AT_ONCE)))


# Topics


class Growing:
    """A platform that gets more and more topics, each with one subscription that nobody reads."""

    def __init__(self, platform: Platform, client: Client) -> None:
        self.platform = platform
        self.client = client
        self.topics: list[str] = []
        self.idle = {kind: memory_bytes(platform, kind) for kind in KINDS}

    async def admin(self, method: str, request: Message, answer: type[A]) -> A:
        return await ask_admin([self.platform.admin_addr], method, request, answer)

    async def grow(self, count: int) -> dict[str, float]:
        """Bring it to ``count`` topics, and measure."""
        row: dict[str, float] = {"topics": count}
        first = len(self.topics)
        with stopwatch(row, "create s"):
            for start in range(first, count, PARTITIONS_PER_CALL):
                request = platform_pb.CreatePartitionsRequest(
                    topic="/default/many",
                    first=start,
                    partitions=min(PARTITIONS_PER_CALL, count - start),
                    schema_type="bytes",
                    dispatch_strategy=RELIABLE,
                )
                await self.admin(
                    "/danube_platform.PartitionAdmin/CreatePartitions",
                    request,
                    platform_pb.CreatePartitionsResponse,
                )
        new = [f"/default/many-part-{number}" for number in range(first, count)]
        with stopwatch(row, "subscribe s"):
            await limited([partial(self.client.subscribe, topic, "s") for topic in new])
        self.topics += new
        with stopwatch(row, "list s"):
            listed = await self.admin(
                "/danube_admin.TopicAdmin/ListTopics",
                pb.NamespaceRequest(name="default"),
                pb.TopicListResponse,
            )
        assert len(listed.topics) == count
        with stopwatch(row, "partitions s"):
            await self.client.call(
                "/danube.Discovery/TopicPartitions",
                api.TopicLookupRequest(request_id=1, topic="/default/many"),
                api.TopicPartitionsResponse,
            )
        row["publish ms"] = await self.latency_ms()
        row["takeover s"] = await self.takeover_s()
        for kind in ("topic-owner", "gateway", "admin"):
            grown = memory_bytes(self.platform, kind) - self.idle[kind]
            row[f"{kind} KB/topic"] = grown / count / 1e3
        owners = [memory_bytes(self.platform, "topic-owner") / 1e6]
        row["owners MB"] = owners[0]
        return row

    async def latency_ms(self) -> float:
        """The median of one message at a time."""
        publish = await self.client.producer(self.topics[0])
        taken = []
        for _ in range(PROBES):
            began = time.perf_counter()
            await publish()
            taken.append(time.perf_counter() - began)
        return statistics.median(taken) * 1000

    async def takeover_s(self) -> float:
        """From an owner's standstill until every bundle answers again, the lease it held included."""
        probes = self.topics[:LOADED_TOPICS]
        stopped = self.platform.kill("topic-owner", signal.SIGSTOP)
        began = time.perf_counter()
        await asyncio.sleep(LEASE_S / 2)  # until then it counts as alive in any case
        try:
            for topic in probes:
                while True:
                    try:
                        answer = await self.admin(
                            "/danube_admin.TopicAdmin/ListSubscriptions",
                            pb.TopicRequest(name=topic),
                            pb.SubscriptionListResponse,
                        )
                    except grpc.aio.AioRpcError as error:
                        if error.code() is not grpc.StatusCode.UNAVAILABLE:
                            raise
                        continue
                    assert list(answer.subscriptions) == ["s"]
                    break
            return time.perf_counter() - began
        finally:
            os.kill(stopped, signal.SIGCONT)
            await asyncio.sleep(LEASE_S)  # it comes back and gets its share


async def test_topics(tmp_path: Path) -> None:
    with Platform.run(tmp_path / "platform", arguments=("--topic-owners", "3")) as platform:
        async with grpc.aio.insecure_channel(platform.gateway_addr) as channel:
            growing = Growing(platform, Client(channel))
            rows = [await growing.grow(count) for count in TOPICS]
    report(
        "idle topics over three owners, one subscription each",
        rows,
        "topics",
        "create s",
        "subscribe s",
        "list s",
        "publish ms",
        "takeover s",
        "owners MB",
        "topic-owner KB/topic",
    )


# Subscriptions


async def test_subscriptions(tmp_path: Path) -> None:
    rows = []
    with Platform.run(tmp_path / "platform") as platform:
        for count in SUBSCRIPTIONS:
            topic = f"/default/read-by-{count}"
            request = pb.NewTopicRequest(name=topic, schema_type="bytes", dispatch_strategy=RELIABLE)
            await ask_admin(
                [platform.admin_addr], "/danube_admin.TopicAdmin/CreateTopic", request, pb.TopicResponse
            )
            async with AsyncExitStack() as opened:
                channel = await opened.enter_async_context(grpc.aio.insecure_channel(platform.gateway_addr))
                rows.append(await read_by(platform, Client(channel), topic, count))
    for row in rows:
        extra = row["subscriptions"] - 1
        row["CPU ms per message and extra subscription"] = (
            (row["CPU ms per message"] - rows[0]["CPU ms per message"]) / extra if extra else 0.0
        )
    report(
        "subscriptions of one topic, each read and acknowledged",
        rows,
        "subscriptions",
        "CPU ms per message",
        "CPU ms per message and extra subscription",
        "deliveries/s",
    )


async def read_by(platform: Platform, client: Client, topic: str, count: int) -> dict[str, float]:
    messages = max(DELIVERIES // count, 50)
    received = 0
    complete = asyncio.Event()

    def taken() -> None:
        nonlocal received
        received += 1
        if received == messages * count:
            complete.set()

    for number in range(count):
        await client.subscribe(topic, f"s{number}")
    readers = [asyncio.create_task(client.read(topic, f"s{number}", taken)) for number in range(count)]
    publish = await client.producer(topic)
    await asyncio.sleep(1)  # the streams stand
    before, began = cpu_s(platform), time.perf_counter()
    left = iter(range(messages))

    async def keep_publishing() -> None:
        for _ in left:
            await publish()

    await asyncio.gather(*(keep_publishing() for _ in range(IN_FLIGHT)))
    await asyncio.wait_for(complete.wait(), 600)
    took_s = time.perf_counter() - began
    used = cpu_s(platform)
    for reader in readers:
        reader.cancel()
    await asyncio.gather(*readers, return_exceptions=True)
    row: dict[str, float] = {"subscriptions": count, "messages": messages}
    row["deliveries/s"] = messages * count / took_s
    row["CPU ms per message"] = 1000 * sum((used - before).values()) / messages
    for kind in ("gateway", "topic-owner", "nats"):
        row[f"{kind} us/delivery"] = 1e6 * (used[kind] - before[kind]) / (messages * count)
    return row


# Processes


async def test_processes(tmp_path: Path) -> None:
    rows = []
    for gateways, owners in PROCESSES:
        arguments = ("--gateways", str(gateways), "--gateway-ports", "each", "--topic-owners", str(owners))
        with Platform.run(tmp_path / f"{gateways}-{owners}", arguments=arguments) as platform:
            rows.append(await loaded(platform, gateways, owners))
    report(
        f"1 KiB messages published, read and acknowledged over {LOADED_TOPICS} topics",
        rows,
        "processes",
        "messages/s",
        "CPU s per million",
    )


async def loaded(platform: Platform, gateways: int, owners: int) -> dict[str, float]:
    received = published = 0

    def taken() -> None:
        nonlocal received
        received += 1

    async with AsyncExitStack() as opened:
        clients = [
            Client(await opened.enter_async_context(grpc.aio.insecure_channel(addr)))
            for addr in platform.gateway_addrs
        ]
        readers, publishers = [], []
        for number in range(LOADED_TOPICS):
            topic, client = f"/default/loaded{number}", clients[number % len(clients)]
            request = pb.NewTopicRequest(name=topic, schema_type="bytes", dispatch_strategy=RELIABLE)
            await ask_admin(
                [platform.admin_addr], "/danube_admin.TopicAdmin/CreateTopic", request, pb.TopicResponse
            )
            await client.subscribe(topic, "s")
            readers.append(asyncio.create_task(client.read(topic, "s", taken)))
            publishers.append(await client.producer(topic))
        before, began = cpu_s(platform), time.perf_counter()

        async def keep_publishing(publish: Callable[[], Any]) -> None:
            nonlocal published
            while time.perf_counter() - began < LOAD_S:
                await publish()
                published += 1

        await asyncio.gather(
            *(keep_publishing(publish) for publish in publishers for _ in range(IN_FLIGHT // 2))
        )
        deadline = time.perf_counter() + 60
        while received < published and time.perf_counter() < deadline:  # noqa: ASYNC110 - counts have no event
            await asyncio.sleep(0.02)
        took_s = time.perf_counter() - began
        used = cpu_s(platform) - before
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
    assert received >= published
    row: dict[str, float] = {"processes": gateways + owners, "gateways": gateways, "owners": owners}
    row["messages/s"] = published / took_s
    row["CPU s per million"] = 1e6 * sum(used.values()) / published
    for kind in ("gateway", "topic-owner", "nats"):
        row[f"{kind} s"] = 1e6 * used[kind] / published
    return row
