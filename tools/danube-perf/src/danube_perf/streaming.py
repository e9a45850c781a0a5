"""Native streaming by the client library: the counterparts of `contract`, in batches."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final, Self

from danube_client import (
    Client,
    ClientError,
    Disconnected,
    NonReliable,
    Reliable,
    Retention,
    Schema,
    Strategy,
    SubscriptionType,
    connect,
)
from danube_client import Storage as Backend
from danube_client.message import Message
from danube_client.producer import Producer
from danube_perf.channel import CallError
from danube_perf.contract import RETENTION_S, SEGMENT_MIB, Done
from danube_perf.plan import ConsumerPlan, Storage

UNHANDLED_MAX: Final = 10_000
"""Messages of a subscription that were taken and whose acknowledgement was not handed over yet."""
FAILED: Final = 2
"""The gRPC status that stands for every error of the client library: its text says more."""


def strategy(storage: Storage) -> Strategy:
    """Return the dispatch strategy of a new topic."""
    if storage == "none":
        return NonReliable()
    return Reliable(
        storage=Backend[storage.upper()],
        segment_size_mib=SEGMENT_MIB,
        retention=Retention.UNTIL_ACKNOWLEDGED,
        retention_period_s=RETENTION_S,
    )


class Link:
    """One connection; what it carries ends with `close`.

    Attributes:
        closed: done with the reason when a stream was lost: its figures have no sense any more.
    """

    def __init__(self, address: str) -> None:
        self.client: Client = connect(f"http://{address}", streaming=True)
        self.closed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._publishers: list[StreamPublisher] = []

    async def publisher(self, topic: str, name: str, storage: Storage) -> StreamPublisher:
        """Open a producer, and the topic if it is new. Raises CallError."""
        producer = self.client.producer(
            topic, name=name, schema=Schema.bytes(), strategy=strategy(storage), on_event=self.on_event
        )
        try:
            await producer
        except ClientError as error:
            raise CallError(FAILED, str(error)) from None
        self._publishers.append(StreamPublisher(producer))
        return self._publishers[-1]

    def on_event(self, event: object) -> None:
        """Take note of a lost stream."""
        if isinstance(event, Disconnected) and not self.closed.done():
            self.closed.set_result(f"the stream of {event.topic} was lost: {event.error}")

    async def close(self) -> None:
        """End the streams."""
        for publisher in self._publishers:
            await publisher.close()
        await self.client.close()


class StreamPublisher:
    """One producer of a topic; made by `Link.publisher`."""

    def __init__(self, producer: Producer) -> None:
        self._producer = producer
        self._waiting: deque[tuple[bytes, Done]] = deque()
        self._wake = asyncio.Event()
        self._sending = asyncio.create_task(self._send())

    def publish(self, _number: int, payload: bytes, _now_ns: int, done: Done) -> None:
        """Send a message; ``done`` gets the outcome. The caller bounds what is not answered."""
        self._waiting.append((payload, done))
        self._wake.set()

    async def close(self) -> None:
        """Stop at once."""
        self._sending.cancel()
        await asyncio.gather(self._sending, return_exceptions=True)
        await self._producer.abort()

    async def _send(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                payload, done = self._waiting.popleft()
                try:
                    outcome = await self._producer.post(payload)
                except ClientError as error:
                    done(FAILED, str(error))
                else:
                    outcome.add_done_callback(_Answered(done))


class _Answered:
    """Tells the outcome of one message."""

    __slots__ = ("_done",)

    def __init__(self, done: Done) -> None:
        self._done = done

    def __call__(self, outcome: asyncio.Future[int]) -> None:
        if outcome.cancelled():
            return
        error = outcome.exception()
        self._done(FAILED if error else 0, str(error) if error else "")


class StreamDelivery:
    """A message of a subscription."""

    __slots__ = ("message", "payload")

    def __init__(self, message: Message) -> None:
        self.message = message
        self.payload = message.payload


class StreamSubscription:
    """One consumer of a subscription: the counterpart of `contract.Subscription`.

    ``done`` of an acknowledgement is called when it is on its way: it travels with others.
    """

    def __init__(
        self, link: Link, name: str, arrived: Callable[[list[StreamDelivery]], None], ended: Done
    ) -> None:
        self._link = link
        self._name = name
        self._arrived = arrived
        self._ended = ended
        self._unhandled = 0
        self._room = asyncio.Event()
        self._reading: asyncio.Task[None] | None = None

    async def attach(self, plan: ConsumerPlan) -> Self:
        """Subscribe. Raises CallError."""
        self._consumer = self._link.client.consumer(
            plan.topic,
            self._name,
            name=plan.name,
            type=SubscriptionType.SHARED if plan.shared else SubscriptionType.EXCLUSIVE,
            on_event=self._link.on_event,
        )
        try:
            await self._consumer
        except ClientError as error:
            raise CallError(FAILED, str(error)) from None
        self._reading = asyncio.create_task(self._read())
        return self

    def acknowledge(self, delivery: StreamDelivery, done: Done) -> None:
        """Acknowledge a message; ``done`` gets the outcome in a later turn of the loop."""
        delivery.message.ack()
        asyncio.get_running_loop().call_soon(done, 0, "")

    def grant(self, _delivery: StreamDelivery) -> None:
        """Let the stream take one message more."""
        self._unhandled -= 1
        self._room.set()

    async def close(self) -> None:
        """Hand over the acknowledgements, and end."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
            await self._consumer.close()

    async def _read(self) -> None:
        try:
            while True:
                messages = await self._consumer.receive_batch()
                self._unhandled += len(messages)
                self._arrived([StreamDelivery(message) for message in messages])
                while self._unhandled > UNHANDLED_MAX:
                    self._room.clear()
                    await self._room.wait()
        except ClientError as error:
            self._ended(FAILED, str(error))
