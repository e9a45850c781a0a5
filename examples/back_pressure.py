"""Bound what waits: in the producer by bytes, in the consumer by messages.

Prints::

    at most 64 KiB waited: True
    at most 10 messages here: True
"""

import asyncio
import sys

from danube_client import connect

TOPIC = "/default/guide-pressure"


async def main(url: str) -> None:
    """Post more than the buffer holds, then consume with a small prefetch."""
    async with connect(url) as client:
        async with client.producer(TOPIC, buffer_bytes=64 * 1024, send_timeout_s=30) as producer:
            most = 0
            for _ in range(200):
                await producer.post(bytes(1024))  # waits while 64 KiB are unanswered
                most = max(most, producer.unanswered)
            await producer.flush()
            print("at most 64 KiB waited:", most <= 64)

        async with client.consumer(TOPIC, "slow", prefetch=10) as consumer:
            here = 0
            for _ in range(30):
                message = await consumer.receive(timeout=30)
                here = max(here, consumer.ready + 1)
                await message.ack()
            print("at most 10 messages here:", here <= 10)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:6650"))
