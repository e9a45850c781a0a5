"""Spread a topic over partitions, and keep what belongs together in one of them.

Prints::

    3 partitions
    each customer in one partition: True
"""

import asyncio
import sys
from collections import defaultdict

from danube_client import connect

TOPIC = "/default/guide-carts"


async def main(url: str) -> None:
    """Send with keys, and look where they went."""
    async with connect(url) as client:
        async with client.producer(TOPIC, partitions=3) as producer:
            print(len(producer.topics), "partitions")
            for number in range(12):
                await producer.send({"step": number}, key=f"customer-{number % 4}")

        where = defaultdict(set)
        async with client.consumer(TOPIC, "shop") as consumer:
            for _ in range(12):
                message = await consumer.receive(timeout=30)
                where[message.key].add(message.topic)
                await message.ack()
        print("each customer in one partition:", all(len(topics) == 1 for topics in where.values()))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:6650"))
