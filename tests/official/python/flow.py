"""The official Python client: publishes, receives in order; what it refused or kept comes again.

Run as ``flow.py URL TOPIC COUNT``, in an environment that has `danube-client`.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from danube import (  # type: ignore[import-not-found]
    DanubeClientBuilder,
    DispatchStrategy,
    SubType,
)

DEADLINE_S = 30


async def main(url: str, topic: str, count: int) -> None:
    """Run the flow; raises if something is lost or comes in another order."""
    client = await DanubeClientBuilder().service_url(url).build()
    producers = client.new_producer().with_topic(topic).with_name("python")
    producer = producers.with_dispatch_strategy(DispatchStrategy.RELIABLE).build()
    await producer.create()

    first, queue = await subscribe(client, topic)
    await producer.send(b"fails once", {})
    await first.nack(await asyncio.wait_for(queue.get(), DEADLINE_S), 0, "on purpose")
    again = await asyncio.wait_for(queue.get(), DEADLINE_S)
    if again.payload != b"fails once":
        raise AssertionError(f"the message that failed was expected, not {again}")
    await first.ack(again)
    for number in range(count):
        await producer.send(str(number).encode(), {"number": str(number)})
    for number in range(count):
        message = await asyncio.wait_for(queue.get(), DEADLINE_S)
        expect(message, number)
        if number < count - 1:
            await first.ack(message)
    await first.close()

    second, queue = await subscribe(client, topic)
    message = await asyncio.wait_for(queue.get(), DEADLINE_S)
    expect(message, count - 1)
    await second.ack(message)
    await second.close()
    await producer.close()
    sys.stdout.write(f"received {count} in order\n")


async def subscribe(client: Any, topic: str) -> tuple[Any, Any]:
    """Return the consumer and its queue."""
    consumers = client.new_consumer().with_topic(topic).with_consumer_name("python").with_subscription("sub")
    consumer = consumers.with_subscription_type(SubType.EXCLUSIVE).build()
    await consumer.subscribe()
    return consumer, await consumer.receive()


def expect(message: Any, number: int) -> None:
    """Compare a message with what was sent."""
    if message.payload != str(number).encode() or dict(message.attributes) != {"number": str(number)}:
        raise AssertionError(f"message {number} was expected, not {message}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
