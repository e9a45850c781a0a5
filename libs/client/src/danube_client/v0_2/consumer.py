"""Consumer of a topic, or of all partitions of a topic."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator, Sequence
from typing import Self

from danube_client.errors import Closed
from danube_client.message import Message
from danube_client.v0_2.topic_consumer import TopicConsumer

RECEIVED_MAX = 100
ACKS_IN_FLIGHT_MAX = 64


class Consumer:
    """Receives messages and acknowledges each with a call; ``await`` opens it.

    The iteration ends when the consumer is closed and, without ``reconnect``, when every stream has ended. It
    raises CallError when a stream failed for good, and MessagesLost if the consumer is to. At most
    RECEIVED_MAX received messages wait for the iteration.
    """

    def __init__(
        self,
        name: str,
        resolve: Callable[[], Awaitable[Sequence[TopicConsumer]]],
        acks_in_flight_max: int,
        prefetch: int | None = None,
    ) -> None:
        self.name = name
        """The consumer's name."""
        self._resolve = resolve
        self._topic_consumers: Sequence[TopicConsumer] = ()
        # None stands for the end.
        self._received: asyncio.Queue[Message | None] = asyncio.Queue(
            min(prefetch or RECEIVED_MAX, RECEIVED_MAX)
        )
        self._receiving: asyncio.Task[None] | None = None
        self._ack_room = asyncio.Semaphore(acks_in_flight_max)
        self._acks: set[asyncio.Task[None]] = set()
        self._error: Exception | None = None

    @property
    def topics(self) -> list[str]:
        """The topic itself, or its partitions."""
        return [consumer.topic for consumer in self._topic_consumers]

    @property
    def created(self) -> bool | None:
        """Whether the subscription was new and begins at the initial position; None without such a position.

        False if any partition had the subscription already, which continues at its cursor there. If the
        answer to the creation was lost and the call repeated, the subscription counts as existing.
        """
        made = [consumer.created for consumer in self._topic_consumers]
        return None if not made or None in made else all(made)

    @property
    def ready(self) -> int:
        """The number of messages that the iteration returns without waiting; the end counts as one."""
        return self._received.qsize()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        if self._receiving is None:
            raise Closed("the consumer is not open")
        message = await self._received.get()
        if message is not None:
            return message
        self._received.put_nowait(None)  # the end stays the end, for every iteration
        if self._error is not None:
            raise self._error
        raise StopAsyncIteration

    async def post_ack(self, message: Message) -> asyncio.Task[None]:
        """Acknowledge a message without waiting for the answer; waits for room among those in flight.

        Returns:
            A task that raises what ``message.ack()`` raises. It need not be awaited: a message whose
            acknowledgement failed is delivered again.
        """
        await self._ack_room.acquire()
        task = asyncio.create_task(self._ack(message))
        self._acks.add(task)
        task.add_done_callback(self._acked)
        return task

    async def flush_acks(self) -> None:
        """Wait until every posted acknowledgement has succeeded or failed."""
        if self._acks:
            await asyncio.wait(self._acks)

    async def check_losses(self) -> None:
        """Ask now what the subscription lost; the consumer also asks by itself, with each health check."""
        await asyncio.gather(*(consumer.check_losses() for consumer in self._topic_consumers))

    async def open(self) -> Self:
        """Subscribe to the topic, or to each of its partitions, and start receiving.

        Raises:
            TopicNotFound: neither the topic nor a partition of it exists.
            CallError: the platform refused, or was not ready within the retries.
        """
        self._topic_consumers = await self._resolve()
        await asyncio.gather(*(consumer.open() for consumer in self._topic_consumers))
        self._receiving = asyncio.create_task(self._receive())
        return self

    async def close(self) -> None:
        """Wait for the acknowledgements in flight and stop. Messages not taken are delivered again."""
        await self.flush_acks()
        await self.abort()

    async def abort(self) -> None:
        """Stop at once. Messages not taken or not acknowledged yet may be delivered again."""
        tasks = [*self._acks]
        if self._receiving is not None:
            tasks.append(self._receiving)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        while not self._received.empty():
            self._received.get_nowait()
        self._received.put_nowait(None)

    async def _ack(self, message: Message) -> None:
        try:
            await message.ack()
        finally:
            self._ack_room.release()

    def _acked(self, task: asyncio.Task[None]) -> None:
        self._acks.discard(task)
        if not task.cancelled():
            task.exception()

    async def _receive(self) -> None:
        tasks = [asyncio.create_task(consumer.run(self._received.put)) for consumer in self._topic_consumers]
        try:
            await asyncio.gather(*tasks)
        except Exception as error:  # noqa: BLE001 - the iteration raises it
            self._error = error
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await self._received.put(None)

    def __await__(self) -> Generator[object, None, Self]:
        return self.open().__await__()
