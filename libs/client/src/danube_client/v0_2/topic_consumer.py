"""Consumer of one topic: subscribes, receives, and subscribes again after a lost connection."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from danube_client.calls import Deliveries
from danube_client.connection import Connection, Connections
from danube_client.errors import (
    ELSEWHERE,
    RECOVERABLE,
    CallError,
    ClientError,
    MessagesLost,
    SubscribeDenied,
    TopicDeleted,
    TopicNotFound,
    Unsupported,
)
from danube_client.events import Disconnected, Event, Lost, OnEvent, Reconnected, ignore
from danube_client.message import Message
from danube_client.payload import Codec
from danube_client.retry import Retry
from danube_client.start import Start
from danube_client.topic_info import topic_info
from danube_client.v0_2.health import ClientType, watch
from danube_proto import danube_api_pb2 as wire
from danube_proto import danube_platform_pb2 as platform

# A stream that lasted this long resets the count of failures, even without a delivery.
LASTED_S = 30.0
# A stream that lasted this long, or delivered, counts as open again.
STEADY_S = 1.0


@dataclass(frozen=True, slots=True)
class ConsumerOptions:
    """How a consumer behaves; the fields are arguments of ``Client.consumer``."""

    initial_position: Start | None = None
    reconnect: bool = True
    prefetch: int | None = None
    on_event: OnEvent = ignore
    raise_on_loss: bool = False
    codec: Codec | None = None


class TopicConsumer:
    """Receives one topic's messages for a subscription."""

    def __init__(
        self,
        connections: Connections,
        request: wire.ConsumerRequest,
        retry: Retry,
        health_interval_s: float,
        options: ConsumerOptions,
    ) -> None:
        """Create a consumer that owns and modifies ``request``."""
        self.created: bool | None = None
        """Whether the subscription was new; None without an initial position."""
        self.topic = request.topic_name
        self._connections = connections
        self._connection = connections.home
        self._request = request
        self._retry = retry
        self._health_interval_s = health_interval_s
        self._options = options
        self._id = 0
        self._topic_id: int | None = None
        self._reliable: bool | None = None
        self._request_id = 0
        self._last_error: ClientError | None = None
        self._deliveries: Deliveries | None = None
        self._away_since_s: float | None = None
        self._refusals = 0
        self._losses_told = 0
        self._failure: Exception | None = None

    async def open(self) -> None:
        """Subscribe.

        Raises:
            CallError: the platform refused, or was not ready within the retries.
        """
        await self._retry.run(self._attach, on=RECOVERABLE)

    async def run(self, deliver: Callable[[Message], Awaitable[None]]) -> None:
        """Receive; with ``reconnect`` until it is refused, otherwise until the stream ends.

        Raises:
            CallError: the stream failed without ``reconnect``, or the platform refused to open it again.
            MessagesLost: messages were lost, and the consumer is to raise that.
        """
        beside = [
            asyncio.create_task(
                watch(self._location, ClientType.Consumer, self._health_interval_s, self._on_lost)
            ),
            asyncio.create_task(self._watch_losses()),
        ]
        try:
            await self._receive(deliver)
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)

    async def ack(self, message: Message) -> None:
        """Acknowledge a message; with ``reconnect``, retry on the connection that the consumer then uses.

        Raises:
            CallError: the acknowledgement failed.
        """
        delivery = message.stored
        request = wire.AckRequest(
            request_id=delivery.request_id,
            msg_id=delivery.msg_id,
            subscription_name=self._request.subscription,
        )
        if not self._options.reconnect:
            await self._connection.ack(request)
            return
        await self._retry.run(lambda: self._connection.ack(request), on=RECOVERABLE)

    async def ack_cumulative(self, _message: Message) -> None:
        """Raise Unsupported: v0.2 has no such call."""
        raise Unsupported.by(self._connection.address, "ack_cumulative")

    async def nack(self, _message: Message, _delay_s: float | None, _reason: str) -> None:
        """Raise Unsupported: v0.2 has no such call."""
        raise Unsupported.by(self._connection.address, "nack")

    def decode(self, payload: bytes) -> Any:
        """Return what the consumer's codec makes of a payload."""
        codec = self._options.codec
        return payload if codec is None else codec.decode(payload)

    async def check_losses(self) -> None:
        """Ask what the subscription lost since its consumers were told last, and tell it.

        A platform that does not answer is asked again with the next check.
        """
        request = platform.TellLossesRequest(topic=self.topic, subscription=self._request.subscription)
        try:
            totals = await self._connection.tell_losses(request)
        except ClientError:
            return
        # A total below what was told is that of another subscription of the same name.
        self._losses_told = min(self._losses_told, totals.lost)
        count = totals.lost - max(totals.told, self._losses_told)
        if count <= 0:
            return
        self._losses_told = request.told = totals.lost
        lost = Lost(self.topic, self._request.subscription, count, dropped=self._reliable is False)
        self._options.on_event(lost)
        with suppress(ClientError):  # otherwise the next consumer is told, too
            await self._connection.tell_losses(request)
        if self._options.raise_on_loss:
            self._fail(MessagesLost(str(lost), count))

    async def _watch_losses(self) -> None:
        while True:
            try:
                await self.check_losses()
            except Exception as error:  # noqa: BLE001 - raised by the user's on_event; the iteration raises it
                self._fail(error)
            await asyncio.sleep(self._health_interval_s)

    def _fail(self, error: Exception) -> None:
        self._failure = self._failure or error
        if self._deliveries is not None:
            self._deliveries.break_off()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    async def _receive(self, deliver: Callable[[Message], Awaitable[None]]) -> None:
        clock = asyncio.get_running_loop().time
        failures = 0
        while True:
            began_s = clock()
            delivered = False
            self._raise_failure()
            request = wire.ReceiveRequest(request_id=self._next_request_id(), consumer_id=self._id)
            deliveries = self._deliveries = self._connection.receive_messages(request, self._options.prefetch)
            steady = asyncio.get_running_loop().call_later(STEADY_S, self._back)
            try:
                async for delivery in deliveries:
                    if not delivered:
                        delivered = True
                        self._back()
                    await deliver(Message.of(delivery, self))
                self._last_error = None
            except (*RECOVERABLE, SubscribeDenied) as error:
                self._raise_failure()
                self._last_error = error
                if not self._options.reconnect or self._is_final(error):
                    raise
            finally:
                steady.cancel()
                deliveries.break_off()
            self._raise_failure()
            if not self._options.reconnect:
                return
            self._away()
            if delivered or clock() - began_s >= LASTED_S:
                failures = 0
            failures = await self._attach_again(failures)

    def _is_final(self, error: CallError) -> bool:
        """Whether the consumer may not come back after this error.

        A consumer that is refused while its stream is open was replaced by another one of its name. One that
        was away may be in its own way, until the platform knows that its last stream is over: it is refused
        for good after ``Retry.attempts_max`` refusals.
        """
        if not isinstance(error, SubscribeDenied):
            return False
        self._refusals += 1
        return self._away_since_s is None or self._refusals >= self._retry.attempts_max

    async def _attach_again(self, failures: int) -> int:
        """Subscribe again; return the number of failures in a row, this one included."""
        while True:
            failures += 1
            await asyncio.sleep(self._retry.pause_s(failures))
            self._raise_failure()
            try:
                await self._attach()
            except (*RECOVERABLE, SubscribeDenied) as error:
                if self._is_final(error):
                    raise
                continue
            return failures

    def _away(self) -> None:
        if self._away_since_s is None:
            self._away_since_s = asyncio.get_running_loop().time()
            self._emit(Disconnected(self.topic, self._last_error))

    def _back(self) -> None:
        self._refusals = 0
        if self._away_since_s is not None:
            away_s = asyncio.get_running_loop().time() - self._away_since_s
            self._away_since_s = None
            self._emit(Reconnected(self.topic, away_s))

    def _emit(self, event: Event) -> None:
        try:
            self._options.on_event(event)
        except Exception as error:  # noqa: BLE001 - the iteration raises it
            self._fail(error)

    async def _attach(self) -> None:
        if isinstance(self._last_error, ELSEWHERE):
            self._connection = self._connections.after(self._connection)
        try:
            await self._find_topic()
            if self._options.initial_position is not None and self.created is None:
                self.created = await self._create(self._options.initial_position)
            self._request.request_id = self._next_request_id()
            response = await self._connection.subscribe(self._request)
        except ClientError as error:
            self._last_error = error
            if isinstance(error, TopicNotFound) and self._id:
                raise TopicDeleted.gone(self.topic) from None
            raise
        self._id = response.consumer_id

    async def _find_topic(self) -> None:
        """Switch to the connection that serves the topic, and check that it is still the same topic."""
        self._connection = await self._connections.lookup(self._connection, self.topic)
        info = await topic_info(self._connection, self.topic)
        if info is not None:
            if self._topic_id not in (None, info.topic_id):
                raise TopicDeleted.made_again(self.topic)
            self._topic_id, self._reliable = info.topic_id, info.reliable

    async def _create(self, start: Start) -> bool:
        request = platform.CreateSubscriptionRequest(
            topic=self.topic,
            subscription=self._request.subscription,
            type=platform.CreateSubscriptionRequest.Type.Name(self._request.subscription_type),
            start=start.to_wire(),
        )
        return (await self._connection.create_subscription(request)).created

    def _on_lost(self) -> None:
        # Without reconnect the consumer keeps its stream until the stream ends by itself.
        if self._options.reconnect and self._deliveries is not None:
            self._deliveries.break_off()

    def _location(self) -> tuple[Connection, int]:
        return self._connection, self._id

    def _next_request_id(self) -> int:
        self._request_id += 1
        return self._request_id
