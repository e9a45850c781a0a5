"""Use one client from several threads, without asyncio.

Prints::

    4 threads sent 40 messages
"""

import sys
import threading

from danube_client.sync import connect

TOPIC = "/default/guide-threads"


def main(url: str) -> None:
    """Share a producer, then take everything in one thread."""
    with connect(url) as client:
        with client.producer(TOPIC) as producer:

            def send(thread: int) -> None:
                for number in range(10):
                    producer.send({"thread": thread, "number": number})

            threads = [threading.Thread(target=send, args=(number,)) for number in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

        senders = set()
        with client.consumer(TOPIC, "readers") as consumer:
            for _ in range(40):
                message = consumer.receive(timeout=30)
                senders.add(message.json()["thread"])
                message.ack()
        print(len(senders), "threads sent 40 messages")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:6650")
