"""Our client library and tools on the real platform: nothing is lost unasked, and nothing is silent."""

from __future__ import annotations

import asyncio
import os
import sysconfig
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
import pytest_asyncio

from danube_client import (
    Disconnected,
    Event,
    InvalidRequest,
    NonReliable,
    Reconnected,
    Reliable,
    Schema,
    SubscribeDenied,
    TopicDeleted,
    TopicNotFound,
    connect,
)
from danube_client.client import Client
from danube_client.consumer import Consumer
from danube_harness.platforms.admin_calls import ask_admin, until_described
from danube_harness.platforms.standalone import Platform
from danube_proto import danube_admin_pb2 as admin

HEALTH_INTERVAL_S = 0.3
SILENCE_S = 1.0
SETTINGS = {
    "DANUBE_ADMIN_BUNDLES_FILE": "1",
    "DANUBE_ADMIN_BUNDLES_MEMORY": "1",
    "DANUBE_STORAGE_SEAL_AGE_S": "1",
    "DANUBE_STORAGE_OWN_SEGMENT_BYTES_MIN": "1",
    "DANUBE_STORAGE_RETENTION_INTERVAL_S": "0.3",
    "DANUBE_STORAGE_DELETE_DELAY_S": "0.5",
}


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with Platform.run(tmp_path_factory.mktemp("platform"), environment=SETTINGS) as running:
        yield running


@pytest_asyncio.fixture
async def client(platform: Platform) -> AsyncIterator[Client]:
    async with connect(f"http://{platform.gateway_addr}", health_interval_s=HEALTH_INTERVAL_S) as client:
        yield client


@pytest.fixture
def topic() -> str:
    return f"/default/{uuid4()}"


class Tool:
    """Runs danube-cli and danube-admin as a user does."""

    def __init__(self, platform: Platform) -> None:
        self._environment = {
            **os.environ,
            "DANUBE_SERVICE_ADDR": f"http://{platform.gateway_addr}",
            "DANUBE_ADMIN_ENDPOINT": f"http://{platform.admin_addr}",
        }

    async def __call__(self, tool: str, *arguments: str) -> tuple[int | None, str, str]:
        process = await asyncio.create_subprocess_exec(
            Path(sysconfig.get_path("scripts")) / tool,
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self._environment,
        )
        out, err = await process.communicate()
        return process.returncode, out.decode(), err.decode()


@pytest.fixture
def tool(platform: Platform) -> Tool:
    return Tool(platform)


async def delete(platform: Platform, topic: str) -> None:
    request = admin.TopicRequest(name=topic)
    method = "/danube_admin.TopicAdmin/DeleteTopic"
    assert (await ask_admin([platform.admin_addr], method, request, admin.TopicResponse)).success


async def test_what_is_sent_before_anybody_subscribes_is_kept(client: Client, tool: Tool, topic: str) -> None:
    code, out, err = await tool("danube-cli", "produce", "-t", topic, "-m", "x")
    position = out.removeprefix("Message sent successfully with ID: ").rstrip()
    assert (code, int(position) > 0, err) == (0, True, "")
    (info,) = await client.describe(topic)
    assert (info.reliable, info.subscriptions, info.consumers) == (True, 0, 0)
    code, out, _ = await tool("danube-cli", "consume", "-t", topic, "-m", "s", "--max", "1")
    assert (code, out) == (0, f"Received bytes message: {position}, with payload: x\n")
    code, _, err = await tool("danube-cli", "produce", "-t", topic + "-n", "-m", "x", "--non-reliable")
    assert code == 0
    assert "reaches nobody" in err


async def test_a_topic_of_the_admin_tool_keeps_messages_until_acknowledged(
    platform: Platform, tool: Tool, topic: str
) -> None:
    assert (await tool("danube-admin", "topics", "create", topic))[0] == 0
    described = await until_described([platform.admin_addr], topic, lambda _: True)
    assert (described.reliable, described.retention) == (True, "ack")


async def test_two_consumers_without_a_name_share_the_work(client: Client, topic: str) -> None:
    got: dict[str, list[int]] = {}
    everything = asyncio.Event()

    async def work(consumer: Consumer) -> None:
        async for message in consumer:
            got.setdefault(consumer.name, []).append(int(message.text))
            await message.ack()
            if sum(map(len, got.values())) >= 100:
                everything.set()

    async with (
        client.producer(topic) as producer,
        client.consumer(topic, "work") as one,
        client.consumer(topic, "work") as other,
        asyncio.TaskGroup() as workers,
    ):
        working = [workers.create_task(work(consumer)) for consumer in (one, other)]
        for number in range(100):
            await producer.post(str(number))
        await everything.wait()
        for task in working:
            task.cancel()
    assert sorted(number for numbers in got.values() for number in numbers) == list(range(100))
    assert set(got) == {one.name, other.name}


async def test_a_second_consumer_of_a_name_takes_over_once_and_the_first_says_so(
    platform: Platform, client: Client, tool: Tool, topic: str
) -> None:
    async with client.producer(topic) as producer:
        await producer.send("0")
        running = asyncio.create_task(tool("danube-cli", "consume", "-t", topic, "-m", "s", "-n", "c"))
        await until_described(
            [platform.admin_addr], topic, lambda d: bool(d.subscriptions) and not d.subscriptions[0].backlog
        )
        async with client.consumer(topic, "s", name="c") as second:
            code, out, err = await running
            assert (code, out.partition(", ")[2]) == (1, "with payload: 0\n")
            assert "another client took over as consumer 'c'" in err.splitlines()[-1]
            for number in range(1, 4):
                await producer.send(str(number))
                message = await anext(second)
                assert message.text == str(number)
                await message.ack()
            async with (
                connect(f"http://{platform.gateway_addr}") as elsewhere,
                elsewhere.consumer(topic, "s", name="c"),
            ):
                with pytest.raises(SubscribeDenied, match="took over"):
                    await anext(second)


async def test_a_consumer_is_back_after_its_gateway_died(
    platform: Platform, client: Client, topic: str
) -> None:
    events: list[Event] = []
    async with (
        client.producer(topic) as producer,
        client.consumer(topic, "s", on_event=events.append) as consumer,
    ):
        for number in range(2):
            await producer.send(str(number))
            message = await anext(consumer)
            assert message.text == str(number)
            await message.ack()
            if number == 0:
                platform.kill("gateway")
    told = [event for event in events if isinstance(event, Disconnected | Reconnected)]
    assert [type(event) for event in told] == [Disconnected, Reconnected]


async def test_messages_that_expire_unread_are_told_once(
    platform: Platform, client: Client, tool: Tool, topic: str
) -> None:
    brief = Reliable(segment_size_mib=1, retention_period_s=1)
    events: list[Event] = []
    async with client.producer(topic, strategy=brief) as producer:
        await (await client.consumer(topic, "s")).close()
        for number in range(20):
            await producer.post(str(number))
        await producer.flush()
    await until_described([platform.admin_addr], topic, lambda d: d.subscriptions[0].lost == 20)
    arguments = ("consume", "-t", topic, "-m", "s", "--exit-at-end", "--quiet-time", str(SILENCE_S))
    code, out, err = await tool("danube-cli", *arguments)
    assert (code, out) == (4, "")
    assert f"20 messages of {topic} expired before subscription s read them." in err
    assert (await tool("danube-cli", *arguments))[0] == 0
    async with client.consumer(topic, "s", on_event=events.append) as consumer:
        await consumer.check_losses()
    assert events == []


@pytest.mark.parametrize("made_again", [False, True])
async def test_a_deleted_topic_stays_deleted(
    platform: Platform, client: Client, topic: str, made_again: bool
) -> None:
    strategy, schema = Reliable(), Schema.string()
    async with (
        client.producer(topic, schema=schema, strategy=strategy) as producer,
        client.consumer(topic, "s") as consumer,
    ):
        await producer.send("0")
        await (await anext(consumer)).ack()
        await delete(platform, topic)
        if made_again:
            async with client.producer(topic, schema=Schema.int64(), strategy=NonReliable()):
                pass
        with pytest.raises(TopicDeleted):
            await anext(consumer)
        await asyncio.sleep(5 * HEALTH_INTERVAL_S)
        with pytest.raises(TopicDeleted):
            await producer.send("1")
    if made_again:
        (info,) = await client.describe(topic)
        assert (info.reliable, info.subscriptions) == (False, 0)
    else:
        with pytest.raises(TopicNotFound):
            await client.describe(topic)


async def test_a_producer_recreates_its_topic_as_it_was_if_that_is_asked_for(
    platform: Platform, client: Client, topic: str
) -> None:
    async with client.producer(
        topic, schema=Schema.int64(), strategy=Reliable(retention_period_s=60), recreate=True
    ) as producer:
        await producer.send("1")
        await delete(platform, topic)
        await producer.send("2")
    described = await until_described([platform.admin_addr], topic, lambda _: True)
    assert (described.schema_type, described.retention, described.retention_period_s) == (
        "int64",
        "expire",
        60,
    )


async def test_producers_take_a_topic_in_partitions_as_it_is(
    platform: Platform, client: Client, tool: Tool, topic: str
) -> None:
    assert (await tool("danube-admin", "topics", "create-partitioned", topic, "3"))[0] == 0
    code, out, err = await tool("danube-cli", "produce", "-t", topic, "-m", "x", "-c", "6")
    assert (code, out.count("\n")) == (0, 6)
    code, out, err = await tool("danube-cli", "produce", "-t", topic, "-m", "x", "-p", "5")
    assert (code, out) == (1, "")
    assert err == f"Error: topic {topic} exists: it has 3 partitions, and 5 were asked for\n"
    assert await client.partitions(topic) == [f"{topic}-part-{part}" for part in range(3)]
    async with client.consumer(topic, "s") as consumer:
        messages = [await anext(consumer) for _ in range(6)]
    assert {message.topic for message in messages} == {f"{topic}-part-{part}" for part in range(3)}
    with pytest.raises(InvalidRequest):
        await client.producer(topic + "-part-0", partitions=2)


async def test_a_slow_consumer_takes_no_more_than_its_prefetch(client: Client, topic: str) -> None:
    async with (
        client.producer(topic) as producer,
        client.consumer(topic, "jobs", prefetch=1) as slow,
        client.consumer(topic, "jobs") as fast,
    ):
        for number in range(100):
            await producer.post(str(number))
        held = await anext(slow)
        done: set[str] = set()
        while len(done) < 99:
            message = await anext(fast)
            await message.ack()
            done.add(message.text)
        assert held.text not in done
        assert slow.ready == 0


async def test_a_non_reliable_topic_drops_nothing_of_a_burst_that_its_consumer_acknowledges_one_by_one(
    client: Client, topic: str
) -> None:
    async def produce(number: int) -> None:
        async with client.producer(topic, name=f"p{number}", strategy=NonReliable()) as producer:
            for _ in range(250):
                await producer.send(bytes(1000))

    async with client.producer(topic, strategy=NonReliable()), client.consumer(topic, "s") as consumer:
        producing = asyncio.gather(*(produce(number) for number in range(8)))
        for _ in range(2000):
            async with asyncio.timeout(20):
                await (await anext(consumer)).ack()
        await producing


async def test_a_subscriptions_prefetch_holds_for_consumers_that_ask_for_none(
    client: Client, tool: Tool, topic: str
) -> None:
    async with client.producer(topic) as producer:
        for number in range(20):
            await producer.post(str(number))
        await producer.flush()
        command = ("danube-cli", "subscribe", "-t", topic, "-m", "jobs", "--prefetch", "3")
        assert (await tool(*command))[:2] == (0, "Subscription jobs created\n")
        assert (await tool(*command))[:2] == (0, "Subscription jobs exists already\n")
        async with client.consumer(topic, "jobs") as one, client.consumer(topic, "jobs", prefetch=5) as five:
            held = [await anext(one) for _ in range(3)] + [await anext(five) for _ in range(5)]
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(SILENCE_S):
                    held.append(await anext(one))
            assert (one.ready, five.ready) == (0, 0)
            await held[0].ack()
            assert (await anext(one)).text == "8"


async def test_int64_lines_of_a_dos_file_are_shown_again(tool: Tool, topic: str, tmp_path: Path) -> None:
    file = tmp_path / "numbers"
    file.write_bytes(b"".join(b"%d\r\n" % number for number in range(1200)))
    code, _, err = await tool("danube-cli", "produce", "-t", topic, "-y", "int64", "--file", str(file))
    assert (code, err.split(" in ")[0]) == (0, "1200 messages sent")
    code, out, _ = await tool("danube-cli", "consume", "-t", topic, "-m", "s", "--max", "1200", "--raw")
    assert (code, out) == (0, "".join(f"{number}\n" for number in range(1200)))
