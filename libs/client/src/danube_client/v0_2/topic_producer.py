"""Producer on one topic: sends its messages in order, pipelined, and again after a failure."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass

import grpc.aio

from danube_client.connection import BOUND, RECREATE, Connection, Connections
from danube_client.errors import (
    ELSEWHERE,
    RECOVERABLE,
    ClientError,
    Closed,
    InvalidRequest,
    TopicDeleted,
    TopicNotFound,
)
from danube_client.retry import Retry
from danube_client.schema import Schema
from danube_client.strategy import Reliable
from danube_client.topic_info import topic_info
from danube_client.v0_2.health import ClientType, watch
from danube_proto import danube_api_pb2 as wire

SendCall = grpc.aio.UnaryUnaryCall[wire.StreamMessage, wire.MessageResponse]


@dataclass(slots=True)
class Unsettled:
    """A message that has neither succeeded nor failed yet."""

    request: wire.StreamMessage
    outcome: asyncio.Future[int]


class TopicProducer:
    """Sends the messages of one topic in order, with many calls in flight.

    Without failures every message is sent at once. When a call fails for a temporary reason, sending stops
    and the later calls are cancelled, so that they do not overtake the failed message. When every call in
    flight has ended, the producer is created again. It sends the unsettled messages in order with their old
    sequence ids, then the messages that were added meanwhile.

    A message that was stored before its call could be cancelled has overtaken the failed one. With one
    message in flight this cannot happen.

    A producer whose topic was deleted has ended: every message fails with TopicDeleted. With ``recreate`` it
    creates the topic again.
    """

    def __init__(
        self,
        connections: Connections,
        request: wire.ProducerRequest,
        retry: Retry,
        room: asyncio.Semaphore,
        health_interval_s: float,
        *,
        recreate: bool = False,
    ) -> None:
        """Create a producer that owns ``request`` and releases one of ``room`` for every settled message."""
        self.topic = request.topic_name
        self.name = request.producer_name
        self._connections = connections
        self._connection = connections.home
        self._request = request
        self._retry = retry
        self._room = room
        self._health_interval_s = health_interval_s
        self._recreate = recreate
        self._id = 0
        self._topic_id: int | None = None
        self._deleted: TopicDeleted | None = None
        self._request_id = 0
        self._sequence_id = 0
        self._unsettled: dict[int, Unsettled] = {}
        self._calls: dict[asyncio.Task[None], SendCall] = {}
        self._calls_broken_off = False
        self._failures = 0
        self._last_error: ClientError | None = None
        self._recovery: asyncio.Task[None] | None = None
        self._health: asyncio.Task[None] | None = None
        self._closed = False

    async def open(self) -> None:
        """Create the producer, and the topic if it does not exist.

        Raises:
            CallError: the platform refused, or was not ready within the retries.
        """
        attempts = 0

        async def attempt() -> None:
            nonlocal attempts
            attempts += 1
            await self._attach(anew=attempts > 1)

        await self._retry.run(attempt, on=RECOVERABLE)
        self._health = asyncio.create_task(
            watch(self._location, ClientType.Producer, self._health_interval_s, self._recover)
        )

    def post(self, payload: bytes, attributes: Mapping[str, str]) -> asyncio.Future[int]:
        """Send a message for which the caller has acquired room; the future returns its sequence id.

        Raises:
            TopicDeleted, Closed: the producer has ended; the caller must release the room itself.
        """
        if self._deleted is not None:
            raise self._deleted
        if self._closed:
            raise Closed(f"the producer {self.name} is closed")
        self._request_id += 1
        request = wire.StreamMessage(
            request_id=self._request_id,
            msg_id=wire.MsgID(
                sequence_id=self._sequence_id,
                producer_id=self._id,
                topic_name=self.topic,
                broker_addr=f"{self._connection.address}/",
            ),
            payload=payload,
            publish_time=time.time_ns() // 1_000_000,
            producer_name=self.name,
            attributes=attributes,
        )
        message = Unsettled(request, asyncio.get_running_loop().create_future())
        self._unsettled[self._sequence_id] = message
        self._sequence_id += 1
        if self._recovery is None:
            self._send(message)
        return message.outcome

    async def flush(self) -> None:
        """Wait until every message sent so far has succeeded or failed."""
        outcomes = [message.outcome for message in self._unsettled.values()]
        if outcomes:
            await asyncio.wait(outcomes)

    async def close(self) -> None:
        """Stop. Unsettled messages fail with Closed."""
        self._closed = True
        tasks = [task for task in (self._health, self._recovery, *self._calls) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._fail_all(Closed(f"the producer {self.name} was closed"))

    def _location(self) -> tuple[Connection, int]:
        return self._connection, self._id

    async def _attach(self, *, anew: bool) -> None:
        if anew and isinstance(self._last_error, ELSEWHERE):
            self._connection = self._connections.after(self._connection)
        try:
            bound = bool(self._id) and not self._recreate
            exists = True
            if anew or not self._describes_topic():
                exists = await self._look_up()
            if bound:
                await self._check_topic(exists=exists)
            request = self._new_request(exists=exists, bound=bound)
            try:
                response = await self._connection.create_producer(request, BOUND if bound else RECREATE)
            except TopicNotFound:
                if not bound:
                    raise
                raise TopicDeleted.gone(self.topic) from None
            self._id = response.producer_id
            if self._topic_id is None or not bound:
                info = await topic_info(self._connection, self.topic)
                self._topic_id = None if info is None else info.topic_id
        except ClientError as error:
            self._last_error = error
            raise
        self._last_error = None

    def _new_request(self, *, exists: bool, bound: bool) -> wire.ProducerRequest:
        """Return the next request: it creates a missing topic, unless the producer is ``bound`` to one.

        An existing topic keeps its schema and strategy; a new topic needs both.
        """
        self._request_id += 1
        request = wire.ProducerRequest()
        request.CopyFrom(self._request)
        request.request_id = self._request_id
        if bound:
            request.ClearField("schema")
            request.ClearField("dispatch_strategy")
        elif not exists:
            if not request.HasField("schema"):
                request.schema.CopyFrom(Schema().to_wire())
            if not request.HasField("dispatch_strategy"):
                request.dispatch_strategy.CopyFrom(Reliable().to_wire())
        return request

    async def _check_topic(self, *, exists: bool) -> None:
        """Raise TopicDeleted if the topic that the producer was opened on is gone."""
        if not exists:
            raise TopicDeleted.gone(self.topic)
        try:
            info = await topic_info(self._connection, self.topic)
        except TopicNotFound:
            raise TopicDeleted.gone(self.topic) from None
        if info is not None and self._topic_id not in (None, info.topic_id):
            raise TopicDeleted.made_again(self.topic)

    def _describes_topic(self) -> bool:
        return self._request.HasField("schema") and self._request.HasField("dispatch_strategy")

    async def _look_up(self) -> bool:
        """Switch to the connection that serves the topic; return False if the topic does not exist."""
        try:
            self._connection = await self._connections.lookup(self._connection, self.topic)
        except TopicNotFound:
            return False
        return True

    def _send(self, message: Unsettled) -> None:
        try:
            call = self._connection.send_message.start(message.request)
        except Closed as error:
            self._finish(message, error)
            return
        task = asyncio.create_task(self._settle(call, message))
        self._calls[task] = call
        task.add_done_callback(self._calls.pop)

    async def _settle(self, call: SendCall, message: Unsettled) -> None:
        try:
            response = await self._connection.send_message.finish(call)
        except RECOVERABLE as error:
            self._last_error = error
            self._recover()
            self._break_off_later_calls()
        except ClientError as error:
            if not self._calls_broken_off:
                self._finish(message, error)
        else:
            self._failures = 0
            self._finish(message, response.sequence_id)

    def _finish(self, message: Unsettled, outcome: int | ClientError) -> None:
        del self._unsettled[message.request.msg_id.sequence_id]
        self._room.release()
        if message.outcome.done():
            return  # the sender was cancelled
        if isinstance(outcome, int):
            message.outcome.set_result(outcome)
        else:
            message.outcome.set_exception(outcome)

    def _fail_all(self, error: ClientError) -> None:
        for message in list(self._unsettled.values()):
            self._finish(message, error)

    def _break_off_later_calls(self) -> None:
        """Cancel the calls started after the failed one, which they would overtake."""
        self._calls_broken_off = True
        failed = asyncio.current_task()
        for task, call in reversed(self._calls.items()):
            if task is failed:
                return
            call.cancel()

    def _recover(self) -> None:
        if self._recovery is None and not self._closed and self._deleted is None:
            self._recovery = asyncio.create_task(self._set_up_anew())

    async def _set_up_anew(self) -> None:
        while self._calls:
            await asyncio.wait(self._calls)
        self._calls_broken_off = False
        while True:
            self._failures += 1
            if self._failures >= self._retry.attempts_max:
                self._give_up()
                return
            await asyncio.sleep(self._retry.pause_s(self._failures))
            try:
                await self._attach(anew=True)
            except RECOVERABLE:
                continue
            except TopicDeleted as error:
                self._deleted = error
                self._give_up()
                return
            except InvalidRequest:
                # Perhaps the topic was deleted after it was looked up: the next attempt knows.
                continue
            except ClientError:
                self._give_up()
                return
            break
        self._recovery = None
        for message in list(self._unsettled.values()):
            message.request.msg_id.producer_id = self._id
            message.request.msg_id.broker_addr = f"{self._connection.address}/"
            self._send(message)

    def _give_up(self) -> None:
        """Fail all unsettled messages. The next message or health check starts a new recovery."""
        self._failures = 0
        self._recovery = None
        self._fail_all(self._last_error or Closed(f"the producer {self.name} lost its place"))
