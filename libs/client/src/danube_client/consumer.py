"""Consumer of topics, of all their partitions, or of all topics that match a pattern."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from enum import IntEnum
from types import TracebackType
from typing import Any, Self

from danube_client.connection import Connections
from danube_client.errors import CallError, ClientError, Closed, Unsupported
from danube_client.events import OnEvent
from danube_client.message import Message
from danube_client.start import Start
from danube_client.stream.presence import Presence
from danube_client.stream.subscriber import Subscriber, SubscriberOptions
from danube_client.v0_2 import consumer as v0_2
from danube_client.v0_2.opening import FindTopics, open_consumer
from danube_client.v0_2.topic_consumer import ConsumerOptions
from danube_proto import danube_api_pb2 as wire
from danube_proto import danube_stream_pb2 as api

RECEIVED_MAX = v0_2.RECEIVED_MAX
ACKS_IN_FLIGHT_MAX = v0_2.ACKS_IN_FLIGHT_MAX


class SubscriptionType(IntEnum):
    """How a subscription shares messages among its consumers. The numbers are those of the wire.

    KEY_SHARED, which needs native streaming, gives all messages of a key to one consumer, in order.
    """

    EXCLUSIVE = 0
    SHARED = 1
    FAILOVER = 2
    KEY_SHARED = 3


@dataclass(frozen=True, slots=True)
class ConsumerOpening:
    """Opens what carries a consumer's messages: native streaming, or calls where the platform has only these.

    Attributes:
        partitions: returns a topic itself, or its partitions.
        request: by native streaming.
        initial_position: of the request; None is the oldest message.
    """

    connections: Connections
    partitions: FindTopics
    request: api.Subscribe
    type: SubscriptionType
    initial_position: Start | None
    acks_in_flight_max: int
    streaming: bool
    options: SubscriberOptions
    health_interval_s: float
    on_event: OnEvent

    async def open(self) -> Subscriber | v0_2.Consumer:
        """Open it.

        Raises:
            Unsupported: the platform has no native streaming, and the consumer needs it.
            CallError: the platform refused.
        """
        if self.streaming:
            try:
                return await self._by_streaming()
            except CallError as error:
                if not error.unimplemented:
                    raise
        for wanted, what in (
            (len(self.request.topics) > 1, "several topics at once"),
            (self.request.pattern, "patterns of topics"),
            (self.type is SubscriptionType.KEY_SHARED, "KEY_SHARED subscriptions"),
            (self.request.await_topics, "await_topics"),
        ):
            if wanted:
                raise Unsupported.by(self.connections.home.address, what)
        return await self._by_calls()

    async def _by_streaming(self) -> Subscriber:
        request = self.request
        where = request.pattern or ", ".join(request.topics)
        clock = asyncio.get_running_loop().time
        presence = Presence(f"consumer {request.consumer_name}", where, self.on_event, clock)
        subscriber = Subscriber(self.connections, request, self.options, presence)
        await subscriber.open()
        return subscriber

    async def _by_calls(self) -> v0_2.Consumer:
        options = self.options
        return await open_consumer(
            self.connections,
            self.partitions,
            wire.ConsumerRequest(
                topic_name=self.request.topics[0],
                consumer_name=self.request.consumer_name,
                subscription=self.request.subscription,
                subscription_type=wire.ConsumerRequest.SubscriptionType.Name(int(self.type)),
            ),
            options.retry,
            self.health_interval_s,
            ConsumerOptions(
                self.initial_position,
                options.reconnect,
                self.request.prefetch or None,
                self.on_event,
                options.raise_on_loss,
                options.codec,
            ),
            self.acks_in_flight_max,
        )


class Consumer:
    """Receives messages. ``Client.consumer`` creates it, ``async with`` or ``await`` opens it.

    The iteration ends when the consumer is closed. It raises CallError when the consumer may not come back,
    and MessagesLost if it is to.
    """

    def __init__(self, opening: ConsumerOpening) -> None:
        self.name = opening.request.consumer_name
        """The consumer's name."""
        self.closed = False
        """Whether it was closed."""
        self._opening = opening
        self._subscriber: Subscriber | None = None
        self._calls: v0_2.Consumer | None = None
        self._ready: deque[Message] = deque()

    @property
    def topics(self) -> list[str]:
        """The topics and partitions that are consumed now."""
        if self._subscriber is not None:
            return [state.topic for state in self._subscriber.topics.values()]
        return [] if self._calls is None else self._calls.topics

    @property
    def created(self) -> bool | None:
        """Whether the subscription was new and begins at the initial position.

        False if any topic or partition had the subscription already, which continues at its cursor there. If
        the answer to the creation was lost and the call repeated, the subscription counts as existing. None
        if it is not known: before the consumer is open, and on a platform without native streaming if no
        initial position was given.
        """
        using = self._subscriber or self._calls
        return None if using is None else using.created

    @property
    def streaming(self) -> bool:
        """Whether native streaming carries the messages, so that they have positions."""
        return self._subscriber is not None

    @property
    def ready(self) -> int:
        """The number of messages that the iteration returns without waiting."""
        if self._subscriber is not None:
            return self._subscriber.waiting_messages()
        return 0 if self._calls is None else self._calls.ready

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        if self._ready:
            return self._ready.popleft()
        if self._subscriber is not None:
            await self._subscriber.refill()
            return self._ready.popleft()
        if self._calls is None:
            raise Closed("the consumer is not open: use `async with`")
        return await anext(self._calls)

    async def receive(self, timeout: float | None = None) -> Message:  # noqa: ASYNC109 - what users look for
        """Return the next message.

        Args:
            timeout: seconds to wait for it; None waits for ever.

        Raises:
            TimeoutError: none came in time.
            Closed: the consumer was closed.
            ClientError: the consumer has ended.
        """
        if self._ready:
            return self._ready.popleft()
        try:
            async with asyncio.timeout(timeout):
                return await anext(self)
        except StopAsyncIteration:
            raise Closed("the consumer is closed") from None

    async def receive_batch(
        self,
        max: int = 1000,  # noqa: A002 - what users look for
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> list[Message]:
        """Return the messages that are here, or wait for the first ones.

        Args:
            max: so many at most.
            timeout: seconds to wait for the first one; then the list is empty. None waits for ever.

        Raises:
            ValueError: ``max`` is below 1.
            Closed: the consumer was closed.
            ClientError: the consumer has ended.
        """
        if max < 1:
            raise ValueError("max must be at least 1")
        if self._subscriber is not None:
            await self._subscriber.give_turn()
        try:
            messages = [await self.receive(timeout)]
        except TimeoutError:
            return []
        if self._subscriber is not None:
            return messages + self._subscriber.take(max - 1)
        while len(messages) < max and self.ready:
            try:
                messages.append(await anext(self))
            except (StopAsyncIteration, ClientError):
                break  # the next call raises it, too
        return messages

    async def ack_all(self, messages: Iterable[Message]) -> None:
        """Acknowledge messages together, as those of one `receive_batch`; see `Message.ack`.

        Messages that follow one another cost little more than one of them. Those of another consumer are
        acknowledged there, those of a reader not at all: for each it is as `Message.ack`.

        Raises:
            CallError: an acknowledgement failed; its message is delivered again.
            Closed: the consumer was not opened.
        """
        if self._calls is not None:
            await asyncio.gather(*[await self._calls.post_ack(message) for message in messages])
        else:
            await self._streaming("ack_all").ack_all(messages)

    async def post_ack(self, message: Message) -> asyncio.Future[None]:
        """Acknowledge a message without waiting for the answer.

        Returns:
            A future. It need not be awaited: a message whose acknowledgement failed is delivered again. With
            native streaming it is done at once.
        """
        if self._calls is not None:
            return await self._calls.post_ack(message)
        return asyncio.ensure_future(message.ack())

    async def flush_acks(self) -> None:
        """Wait until the platform has everything that was acknowledged so far.

        Raises:
            ClientError: the consumer has ended.
        """
        using = self._subscriber or self._calls
        if using is not None:
            await using.flush_acks()

    async def seek(self, position: Start, topic: str | None = None) -> None:
        """Move the cursor of the subscription, for all its consumers.

        Messages that were received before, and not acknowledged, are void; the next message is the first one
        from ``position`` on.

        Args:
            position: where to go on.
            topic: only on this topic or partition; needed for a position, which belongs to one topic.

        Raises:
            ValueError: the consumer has no such topic.
            CallError: the platform refused, for example on a non-reliable topic; the cursor has not moved.
            Unreachable: the connection was lost, or the platform did not answer; the cursor may have moved.
            Unsupported: the platform has no native streaming.
        """
        await self._streaming("seek").seek(position, topic)

    async def pause(self) -> None:
        """Stop deliveries beyond what is on its way. The consumer stays assigned."""
        self._streaming("pause").pause(paused=True)

    async def resume(self) -> None:
        """Go on after `pause`."""
        self._streaming("resume").pause(paused=False)

    async def check_losses(self) -> None:
        """Ask now what the subscription lost. With native streaming the platform tells by itself."""
        if self._calls is not None:
            await self._calls.check_losses()

    async def open(self) -> Self:
        """Subscribe, and start receiving.

        Raises:
            TopicNotFound: a topic does not exist.
            CallError: the platform refused, or was not ready within the retries.
        """
        using = await self._opening.open()
        if isinstance(using, Subscriber):
            self._subscriber = using
            self._ready = using.ready
            self.name = using.name
        else:
            self._calls = using
        return self

    async def close(self) -> None:
        """Wait for the acknowledgements in flight and stop. Messages not taken are delivered again.

        A consumer that has ended has nothing to wait for: the iteration raised why.
        """
        self.closed = True
        try:
            if self._subscriber is None or not self._subscriber.ended:
                await self.flush_acks()
        finally:
            await self.abort()

    async def abort(self) -> None:
        """Stop at once. Messages not taken or not acknowledged yet may be delivered again."""
        self.closed = True
        using = self._subscriber or self._calls
        if using is not None:
            await using.abort()

    def _streaming(self, what: str) -> Subscriber:
        if self._subscriber is not None:
            return self._subscriber
        if self._calls is None:
            raise Closed("the consumer is not open: use `async with`")
        raise Unsupported(f"the platform has no native streaming, which is needed for {what}")

    def __await__(self) -> Generator[object, None, Self]:
        return self.open().__await__()

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            await self.close()
        else:
            await self.abort()

    def __del__(self) -> None:
        subscriber: Any = getattr(self, "_subscriber", None)
        if subscriber is not None:
            subscriber.cancel()
