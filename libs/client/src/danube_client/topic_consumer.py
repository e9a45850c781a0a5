"""Consumer of one topic: subscribes, receives, and subscribes again after a lost connection."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from danube_client.connection import Connection, Connections, Deliveries
from danube_client.errors import ELSEWHERE, RECOVERABLE, ClientError, Unreachable
from danube_client.health import ClientType, watch
from danube_client.message import Message
from danube_client.retry import Retry
from danube_client.start import Start
from danube_proto import danube_api_pb2 as wire
from danube_proto import danube_platform_pb2 as platform

# A stream that lasted this long resets the count of failures, even without a delivery.
LASTED_S = 30.0


class TopicConsumer:
    """Receives one topic's messages for a subscription."""

    def __init__(
        self,
        connections: Connections,
        request: wire.ConsumerRequest,
        retry: Retry,
        health_interval_s: float,
        *,
        initial_position: Start | None,
        reconnect: bool,
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
        self._initial_position = initial_position
        self._reconnect = reconnect
        self._id = 0
        self._request_id = 0
        self._last_error: ClientError | None = None
        self._deliveries: Deliveries | None = None

    async def open(self) -> None:
        """Subscribe.

        Raises:
            CallError: the platform refused, or was not ready within the retries.
        """
        await self._retry.run(self._attach, on=RECOVERABLE)

    async def run(self, deliver: Callable[[Message], Awaitable[None]]) -> None:
        """Receive until the stream ends; with ``reconnect``, until a new stream cannot be opened any more.

        Raises:
            CallError: the stream failed, or could not be opened again within the retries.
        """
        health = asyncio.create_task(
            watch(self._location, ClientType.Consumer, self._health_interval_s, self._on_lost)
        )
        try:
            await self._receive(deliver)
        finally:
            health.cancel()
            await asyncio.gather(health, return_exceptions=True)

    async def ack(self, delivery: wire.StreamMessage) -> None:
        """Acknowledge a delivery; with ``reconnect``, retry on the connection that the consumer then uses.

        Raises:
            CallError: the acknowledgement failed.
        """
        request = wire.AckRequest(
            request_id=delivery.request_id,
            msg_id=delivery.msg_id,
            subscription_name=self._request.subscription,
        )
        if not self._reconnect:
            await self._connection.ack(request)
            return
        await self._retry.run(lambda: self._connection.ack(request), on=RECOVERABLE)

    async def _receive(self, deliver: Callable[[Message], Awaitable[None]]) -> None:
        clock = asyncio.get_running_loop().time
        failures = 0
        while True:
            began_s = clock()
            delivered = False
            request = wire.ReceiveRequest(request_id=self._next_request_id(), consumer_id=self._id)
            deliveries = self._deliveries = self._connection.receive_messages(request)
            try:
                async for delivery in deliveries:
                    delivered = True
                    await deliver(Message(delivery, self))
                self._last_error = None
            except RECOVERABLE as error:
                self._last_error = error
                if not self._reconnect:
                    raise
            finally:
                deliveries.break_off()
            if not self._reconnect:
                return
            if delivered or clock() - began_s >= LASTED_S:
                failures = 0
            failures = await self._attach_again(failures)

    async def _attach_again(self, failures: int) -> int:
        """Subscribe again; return the number of failures in a row, this one included."""
        while True:
            failures += 1
            if failures >= self._retry.attempts_max:
                raise self._last_error or Unreachable(
                    "UNAVAILABLE", f"the stream of {self.topic} ends at once"
                )
            await asyncio.sleep(self._retry.pause_s(failures))
            try:
                await self._attach()
            except RECOVERABLE:
                continue
            return failures

    async def _attach(self) -> None:
        if isinstance(self._last_error, ELSEWHERE):
            self._connection = self._connections.after(self._connection)
        try:
            self._connection = await self._connections.lookup(self._connection, self.topic)
            if self._initial_position is not None and self.created is None:
                self.created = await self._create(self._initial_position)
            self._request.request_id = self._next_request_id()
            response = await self._connection.subscribe(self._request)
        except ClientError as error:
            self._last_error = error
            raise
        self._id = response.consumer_id

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
        if self._reconnect and self._deliveries is not None:
            self._deliveries.break_off()

    def _location(self) -> tuple[Connection, int]:
        return self._connection, self._id

    def _next_request_id(self) -> int:
        self._request_id += 1
        return self._request_id
