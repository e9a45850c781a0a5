"""Give back what cannot be processed, and put it aside when it failed too often.

Prints::

    processed good
    put aside bad after 2 failures
"""

import asyncio
import sys

from danube_client import connect

TOPIC = "/default/guide-jobs"
FAILURES_MAX = 2


async def main(url: str) -> None:
    """Work until one message is processed and one is put aside."""
    async with connect(url) as client:
        async with client.producer(TOPIC) as producer:
            for job in ("good", "bad"):
                await producer.send(job)

        async with (
            client.consumer(TOPIC, "workers") as consumer,
            client.producer(f"{TOPIC}-failed") as failed,
        ):
            finished = 0
            async for message in consumer:
                if message.text == "good":
                    print("processed", message.text)
                elif message.redelivery_count < FAILURES_MAX:
                    await message.nack(delay=0.1, reason="cannot be parsed")
                    continue
                else:
                    await failed.send(message.payload, {"failures": str(message.redelivery_count)})
                    print("put aside", message.text, "after", message.redelivery_count, "failures")
                await message.ack()
                finished += 1
                if finished == 2:
                    break


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:6650"))
