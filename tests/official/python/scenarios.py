"""What the official Python client is asked for, one scenario a run.

Run as ``scenarios.py URL SCENARIO TOPIC COUNT``, in an environment that has `danube-client`. Ends with code 0
and the line ``SCENARIO: done``. A scenario that needs its operator prints ``ready`` and waits for a line.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import grpc.aio
from danube import (  # type: ignore[import-untyped]
    CompatibilityMode,
    DanubeClientBuilder,
    DanubeError,
    DispatchStrategy,
    SchemaType,
    SubType,
)

DEADLINE_S = 60
OUTAGE_S_MAX = 120
PAUSE_S = 0.2
HELLO = b"hello"


async def plain(client: Any, topic: str, count: int) -> None:
    """Non-reliable messages reach a consumer that is connected."""
    producer = await produce(client, topic, DispatchStrategy.NON_RELIABLE)
    consumer, queue = await consume(client, topic)
    deadline = time.monotonic() + DEADLINE_S
    while queue.empty():  # until its stream is open
        check(time.monotonic() < deadline, "connected in time")
        await producer.send(HELLO)
        await asyncio.sleep(PAUSE_S)
    for number in range(count):
        await producer.send(str(number).encode())
        while (message := await take(queue)).payload == HELLO:
            pass
        expect(message, number)
    await consumer.close()
    await producer.close()


async def reliable(client: Any, topic: str, count: int) -> None:
    """Messages come in order with their attributes; what was refused or not acknowledged comes again."""
    producer = await produce(client, topic)
    first, queue = await consume(client, topic)
    await producer.send(b"fails once", {})
    await first.nack(await take(queue), 0, "on purpose")
    again = await take(queue)
    check(again.payload == b"fails once", f"the message that failed, not {again}")
    await first.ack(again)
    for number in range(count):
        await producer.send(str(number).encode(), {"number": str(number)})
    for number in range(count):
        message = await take(queue)
        expect(message, number)
        check(dict(message.attributes) == {"number": str(number)}, f"its attributes, not {message}")
        if number < count - 1:
            await first.ack(message)
    await first.close()
    second, queue = await consume(client, topic)
    message = await take(queue)
    expect(message, count - 1)
    await second.ack(message)
    await second.close()


async def partitioned(client: Any, topic: str, count: int) -> None:
    """A topic of three partitions gives every message once, to consumers that know nothing of partitions."""
    producer = await produce(client, topic, partitions=3)
    consumer, queue = await consume(client, topic)
    for number in range(count):
        await producer.send(str(number).encode())
    seen: Counter[int] = Counter()
    topics = set()
    for _ in range(count):
        message = await take(queue)
        seen[int(message.payload)] += 1
        topics.add(message.msg_id.topic_name)
        await consumer.ack(message)
    check(seen == Counter(range(count)), f"each message once, not {seen - Counter(range(count))}")
    check(len(topics) == 3, f"three partitions, not {topics}")
    await consumer.close()


async def shared(client: Any, topic: str, count: int) -> None:
    """Two consumers share the messages: each comes once, and each consumer gets some."""
    producer = await produce(client, topic)
    pairs = [await consume(client, topic, f"c{number}", SubType.SHARED) for number in range(2)]
    seen: Counter[int] = Counter()
    shares = [0, 0]

    async def drain(which: int) -> None:
        consumer, queue = pairs[which]
        while True:
            message = await queue.get()
            seen[int(message.payload)] += 1
            shares[which] += 1
            await consumer.ack(message)

    tasks = [asyncio.ensure_future(drain(which)) for which in range(2)]
    deadline = time.monotonic() + DEADLINE_S
    sent = 0
    while sent < count or min(shares) == 0 or len(seen) < sent:
        check(time.monotonic() < deadline, f"both consumers get some, not {shares}")
        if sent < count or min(shares) == 0:
            await producer.send(str(sent).encode())
            sent += 1
        else:
            await asyncio.sleep(PAUSE_S)
    for task in tasks:
        task.cancel()
    check(seen == Counter(range(sent)), "each message once")
    for consumer, _ in pairs:
        await consumer.close()


async def keys(client: Any, topic: str, count: int) -> None:
    """Of a key-shared subscription each consumer gets the keys of its filter, each key in order."""
    producer = await produce(client, topic)
    east, eastern = await consume(client, topic, "east", SubType.KEY_SHARED, ["east-*"])
    rest, others = await consume(client, topic, "rest", SubType.KEY_SHARED)
    for number in range(count):
        await producer.send_with_key(str(number).encode(), {}, ("east-1", "west-1", "east-2")[number % 3])
    for consumer, queue, wanted in (
        (east, eastern, [number for number in range(count) if number % 3 != 1]),
        (rest, others, range(1, count, 3)),
    ):
        seen = []
        for _ in wanted:
            message = await take(queue)
            seen.append(int(message.payload))
            await consumer.ack(message)
        for key in range(3):
            of_key = [number for number in seen if number % 3 == key]
            check(
                of_key == [number for number in wanted if number % 3 == key],
                f"key {key} in order, not {seen}",
            )
        await consumer.close()


async def failover(client: Any, topic: str, count: int) -> None:
    """The second consumer goes on, in order, where the first one stopped."""
    producer = await produce(client, topic)
    first, queue = await consume(client, topic, "first", SubType.FAILOVER)
    await producer.send(b"0")
    message = await take(queue)
    expect(message, 0)
    await first.ack(message)
    second, others = await consume(client, topic, "second", SubType.FAILOVER)
    for number in range(1, count):
        await producer.send(str(number).encode())
    for number in range(1, count // 2):
        message = await take(queue)
        expect(message, number)
        await first.ack(message)
    check(others.empty(), "the one that stands by gets nothing")
    await first.close()
    for number in range(count // 2, count):
        message = await take(others)
        expect(message, number)
        await second.ack(message)
    await second.close()


async def dead_letters(client: Any, topic: str, count: int) -> None:
    """What is refused too often lands in the dead-letter topic with its attributes; the rest goes on."""
    producer = await produce(client, topic)
    consumer, queue = await consume(client, topic, kind=SubType.SHARED)
    await operator()
    for number in range(count):
        await producer.send(str(number).encode(), {"number": str(number)})
    passed: set[int] = set()
    refused = 0
    while len(passed) < count - 1 or refused < 2:
        message = await take(queue)
        if message.payload == b"0":
            refused += 1
            await consumer.nack(message, 0, "on purpose")
        else:
            passed.add(int(message.payload))
            await consumer.ack(message)
    dead, letters = await consume_when_made(client, f"{topic}_dead")
    letter = await take(letters)
    check(letter.payload == b"0" and letter.attributes["number"] == "0", f"message 0, not {letter}")
    await dead.ack(letter)
    await consumer.close()
    await dead.close()


async def schemas(client: Any, topic: str, count: int) -> None:
    """Subjects, versions, compatibility; a producer of a subject stamps what it sends."""
    registry = client.schema()
    subject = topic.rpartition("/")[2]
    first = b'{"type": "record", "name": "R", "fields": [{"name": "a", "type": "long"}]}'
    second = first.replace(b"]", b', {"name": "b", "type": "string", "default": ""}]')
    broken = first.replace(b"long", b"string")
    schema_id = (
        await registry.register_schema(subject).with_type(SchemaType.AVRO).with_schema_data(first).execute()
    )
    check(
        await registry.register_schema(subject).with_type(SchemaType.AVRO).with_schema_data(second).execute()
        == schema_id,
        "versions of a subject share its id",
    )
    check(await registry.list_versions(subject) == [1, 2], "two versions")
    check(
        (await registry.get_schema_version(schema_id, 1)).schema_definition == first,
        "version 1 as it was given",
    )
    latest = await registry.get_latest_schema(subject)
    check((latest.version, latest.schema_definition) == (2, second), "version 2 is the latest")
    fits, errors = await registry.check_compatibility(subject, broken, SchemaType.AVRO)
    check(not fits and errors != [], "a changed type is not compatible")
    check((await registry.set_compatibility_mode(subject, CompatibilityMode.NONE))[0], "the mode is set")
    fits, _ = await registry.check_compatibility(subject, broken, SchemaType.AVRO)
    check(fits, "anything is compatible by the mode none")
    producers = client.new_producer().with_topic(topic).with_name("python")
    producer = (
        producers.with_dispatch_strategy(DispatchStrategy.RELIABLE).with_schema_subject(subject).build()
    )
    await producer.create()
    done, _ = await registry.configure_topic_schema(topic, subject, "enforce", enable_payload_validation=True)
    check(done, "the topic's policy is set")
    consumer, queue = await consume(client, topic)
    for _ in range(count):
        await producer.send(b"\x02\x00")
        message = await take(queue)
        check((message.schema_id, message.schema_version) == (schema_id, 2), f"stamped, not {message}")
        await consumer.ack(message)
    deadline = time.monotonic() + DEADLINE_S
    refusal = ""
    while not refusal:  # a gateway notices the policy within moments
        check(time.monotonic() < deadline, "a payload that breaks its schema is refused")
        try:
            await producer.send(b"\x02")
        except grpc.aio.AioRpcError as error:
            refusal = error.code().name
    check(refusal == "INVALID_ARGUMENT", f"not {refusal}")
    await consumer.close()


async def survive(client: Any, topic: str, count: int) -> None:
    """Nothing that was answered is lost while the operator kills and restarts services."""
    producer = await produce(client, topic)
    consumer, queue = await consume(client, topic)
    missing = set(range(count))
    highest = -1

    async def receive() -> None:
        nonlocal highest
        while missing:
            message = await asyncio.wait_for(queue.get(), OUTAGE_S_MAX)
            number = int(message.payload)
            check(number in missing or number <= highest, f"{number} is a repetition or new")
            check(number <= highest + 1, f"{number} comes after {highest}: out of order")
            highest = max(highest, number)
            missing.discard(number)
            await repeat(consumer.ack, message)

    receiving = asyncio.ensure_future(receive())
    for number in range(count):
        if number == count // 10:
            sys.stdout.write("ready\n")
            sys.stdout.flush()
        await repeat(producer.send, str(number).encode())
        if receiving.done():
            break
    await receiving
    check(not missing, f"{len(missing)} are lost")
    await consumer.close()


async def no_hot_loop(client: Any, topic: str, _count: int) -> None:
    """A second consumer is refused for good, and asks again at once; then the operator has two turns."""
    producer = await produce(client, topic)
    kept, queue = await consume(client, topic)
    await producer.send(b"0")
    message = await take(queue)
    await kept.ack(message)
    second = asyncio.ensure_future(refused_for_good(client, topic))
    await operator()
    second.cancel()
    await operator()  # ends the stream
    await operator()  # deletes the topic
    await kept.close()


async def refused_for_good(client: Any, topic: str) -> None:
    """Ask again as soon as a second exclusive consumer was refused, as an impatient application does."""
    while True:
        with contextlib.suppress(grpc.aio.AioRpcError, DanubeError):
            consumer, _ = await consume(client, topic, "second")
            await consumer.close()


async def produce(
    client: Any, topic: str, strategy: Any = DispatchStrategy.RELIABLE, *, partitions: int = 0
) -> Any:
    """Return a producer."""
    producers = client.new_producer().with_topic(topic).with_name("python").with_dispatch_strategy(strategy)
    if partitions:
        producers = producers.with_partitions(partitions)
    producer = producers.build()
    await producer.create()
    return producer


async def consume(
    client: Any,
    topic: str,
    name: str = "python",
    kind: Any = SubType.EXCLUSIVE,
    key_filters: Sequence[str] = (),
) -> tuple[Any, Any]:
    """Return a consumer and its queue."""
    consumers = client.new_consumer().with_topic(topic).with_consumer_name(name).with_subscription("sub")
    consumer = consumers.with_subscription_type(kind).with_key_filters(list(key_filters)).build()
    await consumer.subscribe()
    return consumer, await consumer.receive()


async def consume_when_made(client: Any, topic: str) -> tuple[Any, Any]:
    """Return a consumer and its queue as soon as the platform has created the topic."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        try:
            return await consume(client, topic)
        except DanubeError:
            check(time.monotonic() < deadline, f"{topic} is created in time")
            await asyncio.sleep(PAUSE_S)


async def repeat(call: Callable[[Any], Awaitable[Any]], argument: Any) -> None:
    """Repeat a call until it succeeds, within the longest outage."""
    deadline = time.monotonic() + OUTAGE_S_MAX
    while True:
        try:
            await asyncio.wait_for(call(argument), OUTAGE_S_MAX)
        except (grpc.aio.AioRpcError, DanubeError, TimeoutError):
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(PAUSE_S)
        else:
            return


async def operator() -> None:
    """Say that it is the operator's turn, and wait for a line."""
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.readline)


async def take(queue: Any) -> Any:
    """Return the next message."""
    return await asyncio.wait_for(queue.get(), DEADLINE_S)


def expect(message: Any, number: int) -> None:
    """Compare a message's payload with its number."""
    check(message.payload == str(number).encode(), f"message {number}, not {message}")


def check(holds: bool, what: str) -> None:
    """Raise unless it holds."""
    if not holds:
        raise AssertionError(f"expected: {what}")


SCENARIOS = {
    each.__name__: each
    for each in (
        plain,
        reliable,
        partitioned,
        shared,
        keys,
        failover,
        dead_letters,
        schemas,
        survive,
        no_hot_loop,
    )
}


async def main(url: str, scenario: str, topic: str, count: int) -> None:
    """Run a scenario."""
    client = await DanubeClientBuilder().service_url(url).build()
    await SCENARIOS[scenario](client, topic, count)
    sys.stdout.write(f"{scenario}: done\n")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])))
