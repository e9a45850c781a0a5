"""Do each piece of work once, although a message may come twice: remember what was done with the work.

Prints::

    booked 3 payments, 60 in all
"""

import asyncio
import sqlite3
import sys

from danube_client import Message, SubscriptionType, connect

TOPIC = "/default/guide-payments"


def book(database: sqlite3.Connection, message: Message) -> None:
    """Book a payment, and remember its position in the same transaction."""
    with database:
        new = database.execute(
            "INSERT OR IGNORE INTO done VALUES (?, ?)", (message.topic, message.position)
        ).rowcount
        if new:
            database.execute("INSERT INTO payments VALUES (?)", (message.int64(),))


async def main(url: str) -> None:
    """Consume twice, as after a crash before the acknowledgement."""
    database = sqlite3.connect(":memory:")
    database.execute("CREATE TABLE done (topic TEXT, position INTEGER, PRIMARY KEY (topic, position))")
    database.execute("CREATE TABLE payments (amount INTEGER)")
    async with connect(url) as client:
        async with client.producer(TOPIC) as producer:
            for amount in (10, 20, 30):
                await producer.send(amount)
        for acknowledges in (False, True):
            async with client.consumer(TOPIC, "bank", type=SubscriptionType.EXCLUSIVE) as consumer:
                for _ in range(3):
                    message = await consumer.receive(timeout=30)
                    book(database, message)
                    if acknowledges:
                        await message.ack()
    count, total = database.execute("SELECT count(*), sum(amount) FROM payments").fetchone()
    database.close()
    print(f"booked {count} payments, {total} in all")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:6650"))
