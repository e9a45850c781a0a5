"""Send and receive objects of your own, on a topic that takes nothing else.

Prints::

    refused
    Order(item='tea', count=2)
"""

import asyncio
import sys
from dataclasses import dataclass

from danube_client import InvalidRequest, Schema, connect

TOPIC = "/default/guide-models"
ORDER = '{"type": "object", "required": ["item", "count"]}'


@dataclass
class Order:
    """A pydantic model or a msgspec Struct does as well."""

    item: str
    count: int


async def main(url: str) -> None:
    """Send one object that fits, and a payload that does not."""
    async with connect(url) as client:
        async with client.producer(TOPIC, schema=Schema.json(ORDER)) as producer:
            try:
                await producer.send({"item": "tea"})
            except InvalidRequest:
                print("refused")
        async with client.producer(TOPIC, codec=Order) as producer:
            await producer.send(Order("tea", 2))
        async with client.consumer(TOPIC, "kitchen", codec=Order) as consumer:
            message = await consumer.receive(timeout=30)
            print(message.value)
            await message.ack()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:6650"))
