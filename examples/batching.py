"""Send and receive many messages fast: batches form by themselves.

Prints::

    1000 stored, in ascending positions
    1000 received and acknowledged
"""

import asyncio
import sys

from danube_client import connect


async def main(url: str) -> None:
    """Post without waiting, then look at the answers; take what is here, and acknowledge it at once."""
    topic = "/default/guide-batching"
    async with (
        connect(url) as client,
        client.producer(topic) as producer,
        client.consumer(topic, "guide") as consumer,
    ):
        answers = [await producer.post(f"reading {number}") for number in range(1000)]
        await producer.flush()
        positions = [await answer for answer in answers]
        assert positions == sorted(positions)
        print(len(positions), "stored, in ascending positions")
        received = 0
        while received < len(positions):
            messages = await consumer.receive_batch(max=256)
            await consumer.ack_all(messages)
            received += len(messages)
        print(received, "received and acknowledged")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:6650"))
