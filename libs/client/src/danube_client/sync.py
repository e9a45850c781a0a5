"""The client library without asyncio: the same names, calls that block, safe in threads.

Example::

    from danube_client.sync import connect

    with connect("http://127.0.0.1:6650") as client:
        with client.producer("/default/news") as producer:
            producer.send("good news")
        with client.consumer("/default/news", "readers") as consumer:
            for message in consumer:
                print(message.text)
                message.ack()
                break

A client has an event loop in a thread of its own; producers, consumers and readers are opened where they are
made. Arguments, results and errors are those of `danube_client`. A client is of no use in a process that was
forked after it was made: connect there.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import danube_client.client as asynchronous
from danube_client.consumer import Consumer as AsyncConsumer
from danube_client.errors import ClientError, Closed
from danube_client.failure_policy import FailurePolicy
from danube_client.message import Message as AsyncMessage
from danube_client.producer import Producer as AsyncProducer
from danube_client.reader import Reader as AsyncReader
from danube_client.schema import Schema
from danube_client.start import Start
from danube_client.topic_info import Topic, TopicInfo

T = TypeVar("T")


class Loop:
    """An event loop in a daemon thread, and blocking calls to it from any other thread."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="danube client", daemon=True)
        self._thread.start()

    def run(self, call: Callable[[], Awaitable[T]]) -> T:
        """Return what the call returns, or raise what it raises; an interrupt cancels it.

        Raises ClientError in a forked process, Closed after `close`.
        """
        if os.getpid() != self._pid:
            raise ClientError(
                "the client was made before this process was forked: connect in the new process"
            )
        if self._loop.is_closed():
            raise Closed("the client is closed")

        async def work() -> T:
            return await call()

        future = asyncio.run_coroutine_threadsafe(work(), self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        """End the thread. Idempotent."""
        if os.getpid() == self._pid and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()


class Closing(ABC):
    """Closed at the end of its `with` block."""

    @abstractmethod
    def close(self) -> None:
        """Stop; the classes say how."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Client(Closing):
    """Makes producers, consumers and readers. See `danube_client.Client`."""

    def __init__(self, *addresses: str, **options: Any) -> None:
        self._loop = Loop()
        try:
            self._client = self._loop.run(self._opening(addresses, options))
        except BaseException:
            self._loop.close()
            raise

    @staticmethod
    def _opening(
        addresses: Sequence[str], options: Mapping[str, Any]
    ) -> Callable[[], Awaitable[asynchronous.Client]]:
        async def opening() -> asynchronous.Client:
            return await asynchronous.connect(*addresses, **options)

        return opening

    def producer(self, topic: str, **options: Any) -> Producer:
        """Open a producer. See `danube_client.Client.producer`."""

        async def opening() -> AsyncProducer:
            return await self._client.producer(topic, **options)

        return Producer(self._loop, self._loop.run(opening))

    def consumer(self, topic: str | Sequence[str], subscription: str, **options: Any) -> Consumer:
        """Open a consumer. See `danube_client.Client.consumer`."""

        async def opening() -> AsyncConsumer:
            return await self._client.consumer(topic, subscription, **options)

        return Consumer(self._loop, self._loop.run(opening))

    def reader(self, topic: str, **options: Any) -> Reader:
        """Open a reader. See `danube_client.Client.reader`."""

        async def opening() -> AsyncReader:
            return await self._client.reader(topic, **options)

        return Reader(self._loop, self._loop.run(opening))

    def create_subscription(self, topic: str, subscription: str, **options: Any) -> bool:
        """See `danube_client.Client.create_subscription`."""
        return self._loop.run(lambda: self._client.create_subscription(topic, subscription, **options))

    def set_failure_policy(self, topic: str, subscription: str, policy: FailurePolicy) -> None:
        """See `danube_client.Client.set_failure_policy`."""
        self._loop.run(lambda: self._client.set_failure_policy(topic, subscription, policy))

    def failure_policy(self, topic: str, subscription: str) -> FailurePolicy:
        """See `danube_client.Client.failure_policy`."""
        return self._loop.run(lambda: self._client.failure_policy(topic, subscription))

    def topics(self, pattern: str = "/default/*") -> list[Topic]:
        """See `danube_client.Client.topics`."""
        return self._loop.run(lambda: self._client.topics(pattern))

    def partitions(self, topic: str) -> list[str]:
        """See `danube_client.Client.partitions`."""
        return self._loop.run(lambda: self._client.partitions(topic))

    def describe(self, topic: str) -> list[TopicInfo]:
        """See `danube_client.Client.describe`."""
        return self._loop.run(lambda: self._client.describe(topic))

    def schema(self, topic: str) -> Schema:
        """See `danube_client.Client.schema`."""
        return self._loop.run(lambda: self._client.schema(topic))

    def close(self) -> None:
        """Close the producers and consumers that are open, then the connection, and end the thread."""
        try:
            self._loop.run(self._client.close)
        except Closed:
            return
        self._loop.close()


class Producer:
    """Sends messages to one topic. See `danube_client.Producer`."""

    def __init__(self, loop: Loop, producer: AsyncProducer) -> None:
        self._loop = loop
        self._producer = producer

    @property
    def name(self) -> str:
        """The producer's name."""
        return self._producer.name

    @property
    def topics(self) -> list[str]:
        """The topic itself, or its partitions in order."""
        return self._producer.topics

    @property
    def unanswered(self) -> int:
        """How many messages are neither stored nor refused yet."""
        return self._producer.unanswered

    @property
    def streaming(self) -> bool:
        """Whether native streaming carries the messages."""
        return self._producer.streaming

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._producer.closed

    def send(
        self, payload: Any, attributes: Mapping[str, str] | None = None, *, key: str | None = None
    ) -> int:
        """Send a message and wait until the platform has stored it; return its position."""
        return self._loop.run(lambda: self._producer.send(payload, attributes, key=key))

    def post(
        self, payload: Any, attributes: Mapping[str, str] | None = None, *, key: str | None = None
    ) -> concurrent.futures.Future[int]:
        """Send a message and wait for room only; return a future with what `send` returns or raises."""
        answered: concurrent.futures.Future[int] = concurrent.futures.Future()

        def answer(done: asyncio.Future[int]) -> None:
            if done.cancelled():
                answered.cancel()
            elif (error := done.exception()) is not None:
                answered.set_exception(error)
            else:
                answered.set_result(done.result())

        async def post() -> None:
            (await self._producer.post(payload, attributes, key=key)).add_done_callback(answer)

        self._loop.run(post)
        return answered

    def flush(self) -> None:
        """Wait until every message sent so far has succeeded or failed."""
        self._loop.run(self._producer.flush)

    def close(self) -> None:
        """Accept no more messages, wait for those in flight, and stop."""
        self._loop.run(self._producer.close)

    def abort(self) -> None:
        """Stop at once. Messages in flight fail with Closed; the platform may have stored them."""
        self._loop.run(self._producer.abort)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.run(self._producer.close if kind is None else self._producer.abort)


class Message:
    """A message: all that `danube_client.Message` tells; acknowledging blocks instead of being awaited."""

    def __init__(self, loop: Loop, message: AsyncMessage) -> None:
        self._loop = loop
        self._message = message

    def __getattr__(self, name: str) -> Any:
        return getattr(self._message, name)

    def ack(self) -> None:
        """Acknowledge the message. See `danube_client.Message.ack`."""
        self._loop.run(self._message.ack)

    def ack_cumulative(self) -> None:
        """Acknowledge the message and all before it in its topic."""
        self._loop.run(self._message.ack_cumulative)

    def nack(self, delay: float | None = None, reason: str = "") -> None:
        """Give the message back: it is delivered again, not before ``delay`` seconds."""
        self._loop.run(lambda: self._message.nack(delay, reason))

    def __repr__(self) -> str:
        return repr(self._message)


class Consumer(Closing):
    """Receives the messages of one subscription; an iterator. See `danube_client.Consumer`."""

    def __init__(self, loop: Loop, consumer: AsyncConsumer) -> None:
        self._loop = loop
        self._consumer = consumer
        self._here: deque[AsyncMessage] = deque()
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """The consumer's name."""
        return self._consumer.name

    @property
    def created(self) -> bool | None:
        """Whether the subscription is new."""
        return self._consumer.created

    @property
    def topics(self) -> list[str]:
        """The topics and partitions that are consumed now."""
        return self._consumer.topics

    @property
    def ready(self) -> int:
        """The number of messages that the iteration returns without waiting."""
        return len(self._here) + self._consumer.ready

    @property
    def streaming(self) -> bool:
        """Whether native streaming carries the messages."""
        return self._consumer.streaming

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._consumer.closed

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Message:
        with self._lock:
            if not self._here:
                try:
                    self._here.extend(self._loop.run(self._consumer.receive_batch))
                except Closed:
                    raise StopIteration from None
            return Message(self._loop, self._here.popleft())

    def receive(self, timeout: float | None = None) -> Message:
        """Return the next message. Raises TimeoutError, Closed, ClientError."""
        with self._lock:
            if self._here:
                return Message(self._loop, self._here.popleft())
            return Message(self._loop, self._loop.run(lambda: self._consumer.receive(timeout)))

    def receive_batch(self, max: int = 1000, timeout: float | None = None) -> list[Message]:  # noqa: A002 - as there
        """Return the messages that are here, or wait for the first ones. See `danube_client.Consumer`."""
        with self._lock:
            if self._here and max > 0:
                return self._wrapped(self._here.popleft() for _ in range(min(max, len(self._here))))
            return self._wrapped(self._loop.run(lambda: self._consumer.receive_batch(max, timeout)))

    def _wrapped(self, messages: Iterable[AsyncMessage]) -> list[Message]:
        return [Message(self._loop, message) for message in messages]

    def ack_all(self, messages: Iterable[Message]) -> None:
        """Acknowledge messages together. See `danube_client.Consumer.ack_all`."""
        ours: list[AsyncMessage] = []
        for message in messages:
            if message._loop is self._loop:  # noqa: SLF001 - the wrapper is of this module
                ours.append(message._message)  # noqa: SLF001 - likewise
            else:
                message.ack()
        self._loop.run(lambda: self._consumer.ack_all(ours))

    def flush_acks(self) -> None:
        """Wait until the platform has every acknowledgement."""
        self._loop.run(self._consumer.flush_acks)

    def seek(self, position: Start, topic: str | None = None) -> None:
        """Move the cursor of the subscription. See `danube_client.Consumer.seek`."""
        with self._lock:
            self._loop.run(lambda: self._consumer.seek(position, topic))
            self._here.clear()

    def pause(self) -> None:
        """Take no more messages until `resume`."""
        self._loop.run(self._consumer.pause)

    def resume(self) -> None:
        """Take messages again."""
        self._loop.run(self._consumer.resume)

    def close(self) -> None:
        """Send the acknowledgements and stop."""
        self._loop.run(self._consumer.close)

    def abort(self) -> None:
        """Stop at once. Messages not taken or not acknowledged yet may be delivered again."""
        self._loop.run(self._consumer.abort)

    def check_losses(self) -> None:
        """Ask now what the subscription lost. See `danube_client.Consumer.check_losses`."""
        self._loop.run(self._consumer.check_losses)


class Reader(Closing):
    """Reads a topic without a subscription; an iterator. See `danube_client.Reader`."""

    def __init__(self, loop: Loop, reader: AsyncReader) -> None:
        self._loop = loop
        self._reader = reader

    @property
    def missing(self) -> int:
        """How many messages were retained no more, or could not be read; a lower bound."""
        return self._reader.missing

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Message:
        async def following() -> AsyncMessage | None:
            return await anext(self._reader, None)

        message = self._loop.run(following)
        if message is None:
            raise StopIteration
        return Message(self._loop, message)

    def close(self) -> None:
        """Stop."""
        self._loop.run(self._reader.close)


def connect(*addresses: str, **options: Any) -> Client:
    """Return a connected client; arguments and errors are those of `danube_client.connect`."""
    return Client(*addresses, **options)
