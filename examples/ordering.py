"""Several workers on one subscription, while the messages of each key stay in order.

Prints::

    20 messages, each account in order: True
"""

import asyncio
import sys
from collections import defaultdict

from danube_client import Consumer, SubscriptionType, connect

TOPIC = "/default/guide-accounts"


async def main(url: str) -> None:
    """Run two workers on a key-shared subscription."""
    seen: dict[str | None, list[int]] = defaultdict(list)

    async def work(consumer: Consumer) -> None:
        async for message in consumer:
            seen[message.key].append(message.int64())
            await message.ack()
            if sum(map(len, seen.values())) == 20:
                done.set()

    done = asyncio.Event()
    async with (
        connect(url) as client,
        client.producer(TOPIC) as producer,
        client.consumer(TOPIC, "ledger", type=SubscriptionType.KEY_SHARED) as one,
        client.consumer(TOPIC, "ledger", type=SubscriptionType.KEY_SHARED) as other,
    ):
        for number in range(20):
            await producer.send(number, key=f"account-{number % 5}")
        workers = [asyncio.create_task(work(consumer)) for consumer in (one, other)]
        await asyncio.wait_for(done.wait(), 30)
        for worker in workers:
            worker.cancel()
    ordered = all(numbers == sorted(numbers) for numbers in seen.values())
    print(sum(map(len, seen.values())), "messages, each account in order:", ordered)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:6650"))
