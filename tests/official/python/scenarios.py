"""What a client is asked for, one scenario a run, in any language; one of v0.2 plays those without nacks,
keys and subjects.

Run from the root of the repository as
``python -m tests.official.python.scenarios [PROGRAM…] URL SCENARIO TOPIC COUNT``: a program is asked by lines
(`line_client`); without one it is the official Python client, which must be installed. Ends with code 0 and
the line ``SCENARIO: done``. A scenario that needs its operator prints ``ready`` and waits for a line.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial

from tests.official.python.client import Client, Consumer, Kind, Message, Refused

DEADLINE_S = 60
OUTAGE_S_MAX = 120
PAUSE_S = 0.2
HELLO = b"hello"


async def plain(client: Client, topic: str, count: int) -> None:
    """Non-reliable messages reach a consumer that is connected."""
    producer = await client.produce(topic, reliable=False)
    consumer = await client.consume(topic)
    deadline = time.monotonic() + DEADLINE_S
    message = None
    while message is None:  # until its stream is open
        check(time.monotonic() < deadline, "connected in time")
        await producer.send(HELLO)
        with contextlib.suppress(TimeoutError):
            message = await consumer.take(PAUSE_S)
    for number in range(count):
        await producer.send(str(number).encode())
        while (message := await take(consumer)).payload == HELLO:
            pass
        expect(message, number)
    await consumer.close()


async def reliable(client: Client, topic: str, count: int) -> None:
    """Messages come in order with their attributes; what was not acknowledged comes again."""
    producer = await client.produce(topic)
    first = await client.consume(topic)
    for number in range(count):
        await producer.send(str(number).encode(), {"number": str(number)})
    for number in range(count):
        message = await take(first)
        expect(message, number)
        check(message.attributes == {"number": str(number)}, f"its attributes, not {message}")
        if number < count - 1:
            await first.ack(message)
    await first.close()
    second = await client.consume(topic)
    message = await take(second)
    expect(message, count - 1)
    await second.ack(message)
    await second.close()


async def nack(client: Client, topic: str, _count: int) -> None:
    """What was refused comes again."""
    producer = await client.produce(topic)
    consumer = await client.consume(topic)
    await producer.send(b"0")
    await consumer.nack(await take(consumer), "on purpose")
    again = await take(consumer)
    expect(again, 0)
    await consumer.ack(again)
    await consumer.close()


async def exclusive(client: Client, topic: str, _count: int) -> None:
    """A second exclusive consumer is refused while the first one is there."""
    producer = await client.produce(topic)
    consumer = await client.consume(topic, "first")
    refusal = ""
    try:
        await client.consume(topic, "second")
    except Refused as error:
        refusal = str(error)
    check(refusal != "", "the second one is refused")
    await producer.send(b"0")
    message = await take(consumer)
    expect(message, 0)
    await consumer.ack(message)
    await consumer.close()


async def partitioned(client: Client, topic: str, count: int) -> None:
    """A topic of three partitions gives every message once, to consumers that know nothing of partitions."""
    producer = await client.produce(topic, partitions=3)
    consumer = await client.consume(topic)
    for number in range(count):
        await producer.send(str(number).encode())
    seen: Counter[int] = Counter()
    topics = set()
    for _ in range(count):
        message = await take(consumer)
        seen[message.number] += 1
        topics.add(message.topic)
        await consumer.ack(message)
    check(seen == Counter(range(count)), f"each message once, not {seen - Counter(range(count))}")
    check(len(topics) == 3, f"three partitions, not {topics}")
    await consumer.close()


async def shared(client: Client, topic: str, count: int) -> None:
    """Two consumers share the messages: each comes once, and each consumer gets some."""
    producer = await client.produce(topic)
    consumers = [await client.consume(topic, f"c{number}", Kind.SHARED) for number in range(2)]
    seen: Counter[int] = Counter()
    shares = [0, 0]

    async def drain(which: int) -> None:
        while True:
            message = await consumers[which].take(DEADLINE_S)
            seen[message.number] += 1
            shares[which] += 1
            await consumers[which].ack(message)

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
    for consumer in consumers:
        await consumer.close()


async def keys(client: Client, topic: str, count: int) -> None:
    """Of a key-shared subscription each consumer gets the keys of its filter, each key in order."""
    names = ("east-1", "west-1", "east-2")
    producer = await client.produce(topic)
    east = await client.consume(topic, "east", Kind.KEY_SHARED, ["east-*"])
    rest = await client.consume(topic, "rest", Kind.KEY_SHARED)
    for number in range(count):
        await producer.send(str(number).encode(), key=names[number % 3])
    for consumer, wanted in (
        (east, [number for number in range(count) if number % 3 != 1]),
        (rest, list(range(1, count, 3))),
    ):
        seen = []
        for _ in wanted:
            message = await take(consumer)
            check(message.key == names[message.number % 3], f"its key, not {message}")
            seen.append(message.number)
            await consumer.ack(message)
        for key in range(3):
            of_key = [number for number in seen if number % 3 == key]
            check(
                of_key == [number for number in wanted if number % 3 == key],
                f"key {key} in order, not {seen}",
            )
        await consumer.close()


async def failover(client: Client, topic: str, count: int) -> None:
    """The second consumer goes on, in order, where the first one stopped."""
    producer = await client.produce(topic)
    first = await client.consume(topic, "first", Kind.FAILOVER)
    await producer.send(b"0")
    message = await take(first)
    expect(message, 0)
    await first.ack(message)
    second = await client.consume(topic, "second", Kind.FAILOVER)
    for number in range(1, count):
        await producer.send(str(number).encode())
    for number in range(1, count // 2):
        message = await take(first)
        expect(message, number)
        await first.ack(message)
    with contextlib.suppress(TimeoutError):
        raise AssertionError(f"the one that stands by gets nothing, not {await second.take(PAUSE_S)}")
    await first.close()
    for number in range(count // 2, count):
        message = await take(second)
        expect(message, number)
        await second.ack(message)
    await second.close()


async def dead_letters(client: Client, topic: str, count: int) -> None:
    """What is refused too often becomes a dead letter with its attributes and key; the rest goes on."""
    producer = await client.produce(topic)
    consumer = await client.consume(topic, kind=Kind.SHARED)
    await operator()
    for number in range(count):
        await producer.send(str(number).encode(), {"number": str(number)}, "key")
    passed: set[int] = set()
    refused = 0
    while len(passed) < count - 1 or refused < 2:
        message = await take(consumer)
        if message.number == 0:
            refused += 1
            await consumer.nack(message, "on purpose")
        else:
            passed.add(message.number)
            await consumer.ack(message)
    dead = await consume_when_made(client, f"{topic}_dead")
    letter = await take(dead)
    expect(letter, 0)
    wanted = {
        "number": "0",
        "x-original-topic": topic,
        "x-original-subscription": "sub",
        "x-failure-reason": "on purpose",
    }
    check(wanted.items() <= letter.attributes.items(), f"{wanted} in {letter}")
    check(letter.key == "key", f"its key, not {letter}")
    await dead.ack(letter)
    await consumer.close()
    await dead.close()


async def schemas(client: Client, topic: str, count: int) -> None:
    """Subjects, versions, compatibility; a producer of a subject stamps what it sends."""
    subject = topic.rpartition("/")[2]
    first = b'{"type": "record", "name": "R", "fields": [{"name": "a", "type": "long"}]}'
    second = first.replace(b"]", b', {"name": "b", "type": "string", "default": ""}]')
    broken = first.replace(b"long", b"string")
    schema_id = await client.register(subject, first)
    check(await client.register(subject, second) == schema_id, "versions of a subject share its id")
    check(await client.versions(subject) == [1, 2], "two versions")
    check(await client.schema(schema_id, 1) == first, "version 1 as it was given")
    check(await client.latest(subject) == (2, second), "version 2 is the latest")
    fits, errors = await client.compatible(subject, broken)
    check(not fits and errors != [], "a changed type is not compatible")
    check(await client.anything_is_compatible(subject), "the mode is set")
    fits, _ = await client.compatible(subject, broken)
    check(fits, "anything is compatible by the mode none")
    producer = await client.produce(topic, subject=subject)
    check(await client.enforce(topic, subject), "the topic's policy is set")
    consumer = await client.consume(topic)
    for _ in range(count):
        await producer.send(b"\x02\x00")
        message = await take(consumer)
        check(message.schema == (schema_id, 2), f"stamped, not {message}")
        await consumer.ack(message)
    deadline = time.monotonic() + DEADLINE_S
    refusal = ""
    while not refusal:  # a gateway notices the policy within moments
        check(time.monotonic() < deadline, "a payload that breaks its schema is refused")
        try:
            await producer.send(b"\x02")
        except Refused as error:
            refusal = error.code
    check(refusal == "INVALID_ARGUMENT", f"not {refusal}")
    await consumer.close()


async def survive(client: Client, topic: str, count: int) -> None:
    """Nothing that was answered is lost while the operator kills and restarts services."""
    producer = await client.produce(topic)
    consumer = await client.consume(topic)
    missing = set(range(count))
    highest = -1
    repetitions = 0

    async def receive() -> None:
        nonlocal consumer, highest, repetitions
        while missing:
            try:
                message = await consumer.take(OUTAGE_S_MAX)
            except Refused as error:  # Go's consumers end when an outage is longer than their few tries
                check("Unavailable" in str(error), f"it ends by an outage, not by {error}")
                sys.stdout.write(f"made again: {error}\n")
                consumer = await consume_when_made(client, topic)
                continue
            number = message.number
            check(number in missing or number <= highest, f"{number} is a repetition or new")
            check(number <= highest + 1, f"{number} comes after {highest}: out of order")
            repetitions += number <= highest
            highest = max(highest, number)
            missing.discard(number)
            await repeat(partial(consumer.ack, message))

    async def publish() -> None:
        for number in range(count):
            if number == count // 10:
                ready()
            await repeat(partial(producer.send, str(number).encode()))

    began = time.monotonic()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(receive())
        tasks.create_task(publish())
    check(not missing, f"{len(missing)} are lost")
    sys.stdout.write(f"{count} in {time.monotonic() - began:.0f} s, repetitions: {repetitions}\n")
    await consumer.close()


async def no_hot_loop(client: Client, topic: str, _count: int) -> None:
    """A second consumer is refused for good, and asks again at once; then the operator has two turns."""
    producer = await client.produce(topic)
    kept = await client.consume(topic)
    await producer.send(b"0")
    message = await take(kept)
    await kept.ack(message)
    second = asyncio.ensure_future(refused_for_good(client, topic))
    await operator()
    second.cancel()
    await operator()  # ends the stream
    await operator()  # deletes the topic
    await kept.close()


async def refused_for_good(client: Client, topic: str) -> None:
    """Ask again as soon as a second exclusive consumer was refused, as an impatient application does."""
    while True:
        with contextlib.suppress(Refused):
            consumer = await client.consume(topic, "second")
            await consumer.close()


async def consume_when_made(client: Client, topic: str) -> Consumer:
    """Return a consumer as soon as the platform has created the topic."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        try:
            return await client.consume(topic)
        except Refused:
            check(time.monotonic() < deadline, f"{topic} is created in time")
            await asyncio.sleep(PAUSE_S)


async def repeat(call: Callable[[], Awaitable[None]]) -> None:
    """Repeat a call until it succeeds, within the longest outage."""
    deadline = time.monotonic() + OUTAGE_S_MAX
    while True:
        try:
            await asyncio.wait_for(call(), OUTAGE_S_MAX)
        except (Refused, TimeoutError):
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(PAUSE_S)
        else:
            return


def ready() -> None:
    """Say that it is the operator's turn."""
    sys.stdout.write("ready\n")
    sys.stdout.flush()


async def operator() -> None:
    """Say that it is the operator's turn, and wait for a line."""
    ready()
    await asyncio.to_thread(sys.stdin.readline)


async def take(consumer: Consumer) -> Message:
    """Return the next message."""
    return await consumer.take(DEADLINE_S)


def expect(message: Message, number: int) -> None:
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
        nack,
        exclusive,
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


def connected(program: list[str], url: str) -> AbstractAsyncContextManager[Client]:
    """Return the client that the program is, or the official Python client."""
    if program:
        from tests.official.python.line_client import line_client  # noqa: PLC0415 - one of the two is needed

        return line_client(program, url)
    from tests.official.python.official_client import official_client  # noqa: PLC0415

    return official_client(url)


async def main(program: list[str], url: str, scenario: str, topic: str, count: int) -> None:
    """Run a scenario."""
    async with connected(program, url) as client:
        await SCENARIOS[scenario](client, topic, count)
    sys.stdout.write(f"{scenario}: done\n")


if __name__ == "__main__":
    *own_program, own_url, own_scenario, own_topic, own_count = sys.argv[1:]
    asyncio.run(main(own_program, own_url, own_scenario, own_topic, int(own_count)))
