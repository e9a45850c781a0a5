"""One consumer on its stream: takes batches and gives messages."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import Final

from danube_client.calls import Stream
from danube_client.connection import Connections
from danube_client.errors import (
    ELSEWHERE,
    RECOVERABLE,
    CallError,
    ClientError,
    Closed,
    InvalidRequest,
    MessagesLost,
    SubscribeDenied,
    TopicDeleted,
    UnknownClient,
    Unreachable,
    from_code,
)
from danube_client.events import Assigned, EndOfBacklog, Lost
from danube_client.message import Message
from danube_client.payload import Codec
from danube_client.retry import Retry
from danube_client.start import Start
from danube_client.stream.acknowledgements import Acknowledgements
from danube_client.stream.consumed_topic import ConsumedTopic
from danube_client.stream.conversion import start as start_to_wire
from danube_client.stream.presence import Presence
from danube_client.stream.received import HANDED_MAX, CreditWindow, Received
from danube_proto import danube_stream_pb2 as api

ConsumeStream = Stream[api.ConsumeRequest, api.ConsumeResponse]

WINDOW_MESSAGES: Final = 8192
WINDOW_BYTES: Final = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class SubscriberOptions:
    """How a consumer behaves; the fields are arguments of ``Client.consumer``."""

    retry: Retry
    call_timeout_s: float
    reconnect: bool = True
    raise_on_loss: bool = False
    codec: Codec | None = None
    window_messages: int = WINDOW_MESSAGES
    window_bytes: int = WINDOW_BYTES


class Subscriber:
    """Receives the messages of one subscription.

    Attributes:
        ready: messages that can be taken without waiting.
        topics: names of the topics and partitions, by their number on the stream.
        created: whether the subscription was new on all topics; None before the first one is known.
        name: the consumer's.
    """

    def __init__(
        self, connections: Connections, request: api.Subscribe, options: SubscriberOptions, presence: Presence
    ) -> None:
        self.topics: dict[int, ConsumedTopic] = {}
        self.created: bool | None = None
        self.name = request.consumer_name
        self._connections = connections
        self._request = request
        self._options = options
        self._presence = presence
        self._loop = asyncio.get_running_loop()
        self._known: dict[str, ConsumedTopic] = {}
        self._arrived = asyncio.Event()
        self._opened: asyncio.Future[None] = self._loop.create_future()
        self._running: asyncio.Task[None] | None = None
        self._ended: Exception | None = None
        # Requests that are to be sent as they are, ahead of credit and acknowledgements.
        self._requests: deque[api.ConsumeRequest] = deque()
        self._wake = asyncio.Event()
        self._window = CreditWindow(options.window_messages, options.window_bytes, self._wake.set)
        self._received = Received(self._window)
        self.ready = self._received.ready
        self._paused = False
        self._acknowledgements = Acknowledgements(request.prefetch, self._wake.set)
        self._seek_ticket = 0
        self._seeks: dict[int, asyncio.Future[None]] = {}
        self._established = False

    async def open(self) -> None:
        """Subscribe, and start receiving.

        Raises:
            CallError: the platform refused, or was not ready within the retries.
        """
        self._running = asyncio.create_task(self._run())
        try:
            await asyncio.shield(self._opened)
        except BaseException:
            await self.abort()
            raise

    async def abort(self) -> None:
        """Stop at once."""
        task, self._running = self._running, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        self._end(Closed("the consumer is closed"))
        self._received.clear()

    def cancel(self) -> None:
        """Stop without waiting, as when the consumer was forgotten."""
        if self._running is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._running.cancel)

    async def refill(self) -> None:
        """Wait until `ready` has a message.

        Raises:
            StopAsyncIteration: the consumer was closed.
            Exception: the consumer has ended with this error.
        """
        while not self.ready:
            if self._received:
                await self.give_turn()
                self._received.open_next()
            elif self._ended is not None:
                if isinstance(self._ended, Closed):
                    raise StopAsyncIteration
                raise self._ended
            else:
                self._received.handed = 0
                self._arrived.clear()
                await self._arrived.wait()

    async def give_turn(self) -> None:
        """Let the stream be read and acknowledgements leave, if enough was handed over since."""
        if self._received.handed >= HANDED_MAX:
            self._received.handed = 0
            await asyncio.sleep(0)

    def take(self, messages_max: int) -> list[Message]:
        """Return what is here."""
        ready, messages = self.ready, list[Message]()
        while (room := messages_max - len(messages)) > 0 and (ready or self._received.open_next()):
            messages.extend(ready.popleft() for _ in range(min(room, len(ready))))
        return messages

    @property
    def ended(self) -> bool:
        """Whether it was stopped or has failed for good."""
        return self._ended is not None

    def waiting_messages(self) -> int:
        """Return how many messages are here and not taken."""
        return self._received.messages()

    async def ack_all(self, messages: Iterable[Message]) -> None:
        """Acknowledge messages; those of one topic leave together."""
        for source, of_topic in groupby(messages, attrgetter("_source")):
            if isinstance(source, ConsumedTopic):
                source.ack_all(list(of_topic))
            else:
                for message in of_topic:
                    await message.ack()

    async def flush_acks(self) -> None:
        """Wait until the platform has everything that was acknowledged so far.

        Raises:
            ClientError: the consumer has ended.
        """
        waiter = self._acknowledgements.flushed()
        if waiter is None:
            return
        if self._ended is not None:
            waiter.cancel()
            raise self._ended
        await waiter

    def send(self, request: api.ConsumeRequest) -> None:
        """Send a request ahead of the acknowledgements that are not sent yet."""
        self._requests.append(request)
        self._wake.set()

    # Seek and pause

    async def seek(self, position: Start, topic: str | None) -> None:
        """Move the subscription's cursor; see ``Consumer.seek``."""
        ticket = self._seek_ticket = self._seek_ticket + 1
        request = api.Seek(start=start_to_wire(position), ticket=ticket)
        moved = list(self.topics.items())
        if topic is not None:
            moved = [(index, state) for index, state in moved if state.topic == topic]
            if not moved:
                raise ValueError(f"the consumer has no topic {topic}")
            request.topic = moved[0][0]
        for _, state in moved:
            if not state.reliable:
                raise InvalidRequest("INVALID_ARGUMENT", f"{state.topic} is non-reliable: it has no past")
        answer: asyncio.Future[None] = self._loop.create_future()
        self._seeks[ticket] = answer
        self._received.void([state for _, state in moved])
        for index, state in moved:
            self.topics[index] = self._known[state.topic] = state.after_seek(ticket)
        self.send(api.ConsumeRequest(seek=request))
        try:
            async with asyncio.timeout(self._options.call_timeout_s):
                await answer
        except TimeoutError:
            raise Unreachable("DEADLINE_EXCEEDED", "the seek was not answered in time") from None
        finally:
            self._seeks.pop(ticket, None)

    def pause(self, *, paused: bool) -> None:
        """Stop or go on."""
        self._paused = paused
        self.send(api.ConsumeRequest(pause=api.Pause(paused=paused)))

    # The stream

    async def _run(self) -> None:
        failures = 0
        while True:
            try:
                await self._session()
            except ClientError as error:
                failures = 1 if self._established else failures + 1
                if isinstance(error, ELSEWHERE):
                    self._connections.after(self._connections.home)
                if not self._goes_on(error, failures):
                    self._end(error)
                    return
                self._forget_stream(error)
                if self._opened.done():
                    self._presence.away(error)
            except Exception as error:  # noqa: BLE001 - raised by the user's on_event; the iteration raises it
                self._end(error)
                return
            await asyncio.sleep(self._options.retry.pause_s(failures))

    def _goes_on(self, error: ClientError, failures: int) -> bool:
        retry = self._options.retry
        if not self._opened.done():
            return isinstance(error, RECOVERABLE) and failures < retry.attempts_max
        if not self._options.reconnect:
            return False
        if isinstance(error, SubscribeDenied):
            # While it was away it may be in its own way, until the platform knows that its stream is over.
            return self._presence.away_s() > 0 and failures < retry.attempts_max
        broken = isinstance(error, CallError) and error.code in ("INTERNAL", "UNKNOWN")
        if not isinstance(error, RECOVERABLE) and not broken:
            return False
        return retry.reconnect_for_s is None or self._presence.away_s() < retry.reconnect_for_s

    async def _session(self) -> None:
        options = self._options
        self._established = False
        self._request.credit.CopyFrom(self._window.begin())
        stream = self._connections.home.consume()
        writing: asyncio.Task[None] | None = None
        try:
            async with asyncio.timeout(options.call_timeout_s):
                answer = await stream.open(api.ConsumeRequest(subscribe=self._request))
                self.name = answer.subscribed.consumer_name or self.name
                while not self._opened.done() and not self._knows_topics():
                    self._take(await stream.read())
            # The names of a consumer that was given none stay its own.
            self._request.consumer_name = self.name
            if self._paused:
                self.send(api.ConsumeRequest(pause=api.Pause(paused=True)))
            writing = asyncio.create_task(self._write(stream))
            if not self._opened.done():
                self._opened.set_result(None)
            self._established = True
            self._presence.back()
            while True:
                self._take(await stream.read())
        except TimeoutError:
            raise Unreachable("UNAVAILABLE", f"{stream.address} does not answer in time") from None
        finally:
            stream.break_off()
            if writing is not None:
                writing.cancel()
                await asyncio.gather(writing, return_exceptions=True)

    def _knows_topics(self) -> bool:
        request = self._request
        if request.pattern or request.await_topics:
            return True
        names = [state.topic for state in self.topics.values()]
        return all(
            any(name == wanted or name.startswith(f"{wanted}-part-") for name in names)
            for wanted in request.topics
        )

    async def _write(self, stream: ConsumeStream) -> None:
        try:
            while True:
                self._wake.clear()
                for request in self._due():
                    await stream.write(request)
                await self._wake.wait()
        except ClientError:
            return  # the reader knows why

    def _due(self) -> Iterator[api.ConsumeRequest]:
        while self._requests:
            yield self._requests.popleft()
        if self._window.due:
            yield api.ConsumeRequest(credit=self._window.grant())
        yield from self._acknowledgements.due()

    def _forget_stream(self, error: ClientError) -> None:
        """Begin again: what was not taken comes again; what is not known to be acknowledged is sent again."""
        self._received.clear()
        self._requests.clear()
        for state in self.topics.values():
            state.index = None
        self.topics.clear()
        self._acknowledgements.lose_stream()
        for answer in self._seeks.values():
            if not answer.done():
                answer.set_exception(error)

    # Answers

    def _take(self, answer: api.ConsumeResponse) -> None:
        match answer.WhichOneof("response"):
            case "delivery":
                delivery = answer.delivery
                state = self.topics.get(delivery.topic)
                if state is None or state.seeking:
                    self._received.pass_over(delivery)
                else:
                    self._received.put(state, delivery)
                    self._arrived.set()
            case "acked":
                self._acknowledgements.confirm(answer.acked.ticket, settled=not self._received)
            case "topic_added":
                self._add_topic(answer.topic_added)
            case "topic_ended":
                self._end_topic(answer.topic_ended)
            case _:
                self._take_news(answer)

    def _take_news(self, answer: api.ConsumeResponse) -> None:
        match answer.WhichOneof("response"):
            case "assignment":
                if state := self.topics.get(answer.assignment.topic):
                    self._presence.tell(Assigned(state.topic, answer.assignment.active))
            case "lost":
                if state := self.topics.get(answer.lost.topic):
                    self._tell_loss(state, answer.lost.messages)
            case "end_of_backlog":
                if state := self.topics.get(answer.end_of_backlog.topic):
                    self._presence.tell(EndOfBacklog(state.topic))
            case "seeked":
                for state in self.topics.values():
                    if state.seeking == answer.seeked.ticket:
                        state.seeking = 0
                done = self._seeks.get(answer.seeked.ticket)
                if done is None or done.done():
                    return
                if answer.seeked.code:
                    done.set_exception(from_code(answer.seeked.code, answer.seeked.message))
                    # The cursor is where it was, and what was here has been thrown away.
                    raise UnknownClient("ABORTED", "a seek was refused: the consumer subscribes again")
                done.set_result(None)

    def _add_topic(self, added: api.TopicAdded) -> None:
        state = self._known.get(added.name)
        if state is None:
            state = self._new_topic(added)
            self.created = added.created if self.created is None else self.created and added.created
        elif state.topic_id != added.topic_id:
            # Made again since: positions of the former topic mean nothing here.
            if added.name in self._request.topics:
                raise TopicDeleted.made_again(added.name)
            state.end()
            state = self._new_topic(added)
        state.seeking = 0
        state.reliable = added.reliable
        state.index = added.topic
        self._known[added.name] = self.topics[added.topic] = state
        if state.acks.count or state.cumulative:
            self._acknowledgements.flush()

    def _new_topic(self, added: api.TopicAdded) -> ConsumedTopic:
        codec = self._options.codec
        return ConsumedTopic(self._acknowledgements, self.send, added.name, added.topic_id, codec)

    def _end_topic(self, ended: api.TopicEnded) -> None:
        state = self.topics.pop(ended.topic, None)
        if state is None:
            return
        self._known.pop(state.topic, None)
        state.end()
        if self.topics or self._request.pattern or self._request.await_topics:
            return
        error = from_code(ended.code, ended.message)
        raise TopicDeleted.gone(state.topic) if error.code == "NOT_FOUND" else error

    def _tell_loss(self, state: ConsumedTopic, count: int) -> None:
        lost = Lost(state.topic, self._request.subscription, count, dropped=not state.reliable)
        self._presence.tell(lost)
        if self._options.raise_on_loss:
            raise MessagesLost(str(lost), count)

    def _end(self, error: Exception) -> None:
        if self._ended is not None:
            return
        self._ended = error
        self._acknowledgements.end(error)
        for waiter in (self._opened, *self._seeks.values()):
            if not waiter.done():
                waiter.set_exception(error)
                waiter.exception()
        self._arrived.set()
