"""Send many messages fast: batches form by themselves.

Prints::

    1000 stored, in ascending positions
"""

import asyncio
import sys

from danube_client import connect


async def main(url: str) -> None:
    """Post without waiting, then look at the answers."""
    async with connect(url) as client, client.producer("/default/guide-batching") as producer:
        answers = [await producer.post(f"reading {number}") for number in range(1000)]
        await producer.flush()
        positions = [await answer for answer in answers]
        assert positions == sorted(positions)
        print(len(positions), "stored, in ascending positions")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:6650"))
