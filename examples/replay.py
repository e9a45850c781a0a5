"""Look at old messages again: without a subscription, and by moving a subscription back.

Prints::

    read ['tea', 'milk', 'cake']
    again ['milk', 'cake']
"""

import asyncio
import sys

from danube_client import Start, SubscriptionType, connect

TOPIC = "/default/guide-orders"


async def main(url: str) -> None:
    """Read with a reader, then seek."""
    async with connect(url) as client:
        async with client.producer(TOPIC) as producer:
            positions = [await producer.send(item) for item in ("tea", "milk", "cake")]

        async with client.reader(TOPIC) as reader:
            print("read", [message.text async for message in reader])

        async with client.consumer(TOPIC, "kitchen", type=SubscriptionType.EXCLUSIVE) as consumer:
            for _ in range(3):
                await (await consumer.receive(timeout=30)).ack()
            await consumer.seek(Start.at(positions[1]), TOPIC)
            print("again", [(await consumer.receive(timeout=30)).text for _ in range(2)])


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:6650"))
