"""Test a program that uses Danube without a server.

Prints::

    cooked ['tea', 'milk']
"""

import asyncio

from danube_client import Client
from danube_client.testing import MemoryPlatform


async def cook(client: Client, orders: int) -> list[str]:
    """The program under test: it takes orders and acknowledges them."""
    cooked = []
    async with client.consumer("/default/orders", "kitchen") as consumer:
        for _ in range(orders):
            message = await consumer.receive(timeout=5)
            cooked.append(message.text)
            await message.ack()
    return cooked


async def main() -> None:
    """The test; with pytest the fixture ``danube_memory`` is such a platform."""
    async with MemoryPlatform().client() as client:
        async with client.producer("/default/orders") as producer:
            for item in ("tea", "milk"):
                await producer.send(item)
        print("cooked", await cook(client, 2))


if __name__ == "__main__":
    asyncio.run(main())
