"""One producer on its stream: opens it, sends what the outbox gives, and opens the next when it is lost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
    NotReady,
    TopicDeleted,
    TopicNotFound,
    Unreachable,
    from_code,
)
from danube_client.retry import Retry
from danube_client.schema import SchemaType
from danube_client.stream.batch import (
    TABLE_ENTRY_BYTES,
    Compression,
    Entry,
    MessageEncoder,
    pack,
    traced_of,
    unpack,
)
from danube_client.stream.outbox import BATCH_BYTES, BATCH_MESSAGES, Limits, Outbox, SentBatch
from danube_client.stream.presence import Presence
from danube_client.stream.room import Deadlines, Room, fail
from danube_client.stream.routing import Router
from danube_proto import danube_stream_pb2 as api

PublishStream = Stream[api.PublishRequest, api.PublishResponse]

BUFFER_BYTES: Final = 32 * 1024 * 1024
BUFFER_MESSAGES: Final = 65536
CHECK_S: Final = 1.0
"""How often it is checked whether the platform still answers."""


@dataclass(frozen=True, slots=True)
class PublisherOptions:
    """How a producer sends; the fields are arguments of ``Client.producer``."""

    retry: Retry
    answer_timeout_s: float
    recreate: bool = False
    compression: Compression = Compression.NONE
    linger_s: float = 0.0
    buffer_bytes: int = BUFFER_BYTES
    buffer_messages: int = BUFFER_MESSAGES
    send_timeout_s: float | None = None


class Publisher:
    """Sends the messages of one producer in order, in batches, each of them once.

    Attributes:
        topics: the topic itself, or its partitions in order.
        reliable: whether the topic stores its messages.
        schema: the type of the topic's payloads, once the producer is open.
    """

    def __init__(
        self,
        connections: Connections,
        request: api.OpenProducer,
        options: PublisherOptions,
        presence: Presence,
    ) -> None:
        self.topics: list[str] = []
        self.reliable = True
        self.schema: SchemaType | None = None
        self._connections = connections
        self._request = request
        self._options = options
        self._presence = presence
        self._encoder = MessageEncoder(request.producer_name)
        self._router = Router()
        self._outbox = Outbox(self._seal)
        self._topic_ids: list[int] = []
        self._message_bytes_max = 0
        self._loop = asyncio.get_running_loop()
        self._opened: asyncio.Future[None] = self._loop.create_future()
        self._wake = asyncio.Event()
        self._running: asyncio.Task[None] | None = None
        self._ended: ClientError | None = None
        self._room = Room(options.buffer_messages, options.buffer_bytes)
        timeout_s = options.send_timeout_s
        self._deadlines = None if timeout_s is None else Deadlines(timeout_s)
        self._releases: dict[int, asyncio.TimerHandle] = {}
        self._release_pauses: dict[int, float] = {}
        self._refusals = 0
        self._answered_s = 0.0

    async def open(self) -> None:
        """Open the producer; the topic and its partitions are created if they are new.

        Raises:
            CallError: the platform refused, or was not ready within the retries.
        """
        self._running = asyncio.create_task(self._run())
        try:
            await asyncio.shield(self._opened)
        except BaseException:
            await self.abort()
            raise

    @property
    def unanswered(self) -> int:
        """How many messages are neither stored nor refused yet."""
        return self._room.messages

    async def post(
        self, payload: bytes, key: str | None, attributes: Mapping[str, str] | None
    ) -> asyncio.Future[int]:
        """Take a message as soon as there is room; the future returns its position.

        Raises:
            InvalidRequest: it is larger than the topic takes.
            SendTimeout: there was no room in time.
            ClientError: the producer has ended.
        """
        if self._ended is not None:
            raise self._ended
        if len(payload) > self._message_bytes_max:
            raise InvalidRequest(
                "INVALID_ARGUMENT",
                f"the payload has {len(payload)} bytes; the topic takes {self._message_bytes_max} at most"
                " (its policy max_message_size)",
            )
        outcome: asyncio.Future[int] = self._loop.create_future()
        entry = self._encoder.encode(payload, time.time_ns() // 1_000_000, key, attributes, outcome)
        size = entry[3] + TABLE_ENTRY_BYTES
        if not self._room.take(size):
            await self._room.wait(size, self._options.send_timeout_s)
        outbox = self._outbox
        outbox.add(self._router.partition(key, outbox.partitions), entry)
        if self._deadlines is not None:
            self._deadlines.watch(outcome)
        self._wake.set()
        return outcome

    async def flush(self) -> None:
        """Wait until every message so far is stored or has failed."""
        await self._room.until_empty()

    async def abort(self) -> None:
        """Stop at once. Messages that are not answered fail with Closed."""
        task, self._running = self._running, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        self._end(Closed(f"the producer {self._request.producer_name} is closed"))

    def cancel(self) -> None:
        """Stop without waiting, as when the producer was forgotten."""
        if self._running is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._running.cancel)

    # The stream

    async def _run(self) -> None:
        failures = 0
        while True:
            try:
                await self._session()
            except ClientError as error:
                if self._answered_s:
                    failures = 0
                failures += 1
                if isinstance(error, ELSEWHERE):
                    self._connections.after(self._connections.home)
                if not self._goes_on(error, failures):
                    self._end(error)
                    return
                if self._opened.done():
                    self._presence.away(error)
            except Exception as error:  # noqa: BLE001 - raised by the user's on_event, or a defect
                self._end(error if isinstance(error, ClientError) else ClientError(repr(error)))
                return
            await asyncio.sleep(self._options.retry.pause_s(failures))

    def _goes_on(self, error: ClientError, failures: int) -> bool:
        retry = self._options.retry
        if not self._opened.done():
            return isinstance(error, RECOVERABLE) and failures < retry.attempts_max
        broken = isinstance(error, CallError) and error.code in ("INTERNAL", "UNKNOWN")
        deleted = isinstance(error, TopicNotFound) and self._options.recreate
        if not isinstance(error, RECOVERABLE) and not broken and not deleted:
            return False
        return retry.reconnect_for_s is None or self._presence.away_s() < retry.reconnect_for_s

    async def _session(self) -> None:
        self._answered_s = 0.0
        stream = self._connections.home.publish()
        beside: list[asyncio.Task[None]] = []
        try:
            async with asyncio.timeout(self._options.answer_timeout_s):
                answer = await stream.open(api.PublishRequest(open=self._request))
            self._take_opened(answer.opened)
            self._answered_s = self._loop.time()
            self._presence.back()
            beside = [
                asyncio.create_task(self._write(stream)),
                asyncio.create_task(self._watch(stream)),
            ]
            while True:
                answer = await stream.read()
                self._answered_s = self._loop.time()
                self._take(answer)
        except TimeoutError:
            raise Unreachable("UNAVAILABLE", f"{stream.address} does not answer in time") from None
        except TopicNotFound:
            if not self._opened.done() or self._options.recreate:
                raise
            raise TopicDeleted.gone(self._request.topic) from None
        finally:
            for task in beside:
                task.cancel()
            stream.break_off()
            await asyncio.gather(*beside, return_exceptions=True)

    async def _write(self, stream: PublishStream) -> None:
        outbox, wake, linger_s = self._outbox, self._wake, self._options.linger_s
        try:
            while True:
                wake.clear()
                if linger_s and not outbox.in_flight_messages and not outbox.full:
                    await asyncio.sleep(linger_s)
                while (batch := outbox.next()) is not None:
                    await stream.write(batch.request)
                await wake.wait()
        except ClientError:
            return  # the reader knows why

    async def _watch(self, stream: PublishStream) -> None:
        """Give up a stream that does not answer what was sent."""
        timeout_s = self._options.answer_timeout_s
        waiting_since_s = self._loop.time()
        while True:
            await asyncio.sleep(CHECK_S)
            if not self._outbox.in_flight_messages:
                waiting_since_s = self._loop.time()
            elif self._loop.time() - max(waiting_since_s, self._answered_s) > timeout_s:
                stream.break_off(f"{stream.address} does not answer what was sent")
                return

    def _seal(self, partition: int, first_sequence: int, entries: Sequence[Entry]) -> api.PublishRequest:
        request = api.PublishRequest()
        request.batch.partition, request.batch.first_sequence = partition, first_sequence
        pack(entries, self._options.compression, into=request.batch.batch)
        if self._encoder.traced:
            request.batch.traced.extend(traced_of(entries))
        return request

    # Answers

    def _take_opened(self, opened: api.Opened) -> None:
        ids = [partition.topic_id for partition in opened.partitions]
        if ids[: len(self._topic_ids)] != self._topic_ids and not self._options.recreate:
            raise TopicDeleted.made_again(self._request.topic)
        self._topic_ids = ids
        self.topics = [partition.topic for partition in opened.partitions]
        self.reliable = opened.reliable
        self.schema = SchemaType(int(opened.schema.type))
        self._message_bytes_max = opened.message_bytes_max or 1 << 40
        last_sequences = [partition.last_sequence for partition in opened.partitions]
        if self._outbox.is_overtaken(last_sequences):
            raise CallError(
                "ABORTED",
                f"another program has sent messages as the producer {self._request.producer_name}: give each"
                " producer a name of its own, or none",
            )
        self._outbox.open(
            last_sequences,
            Limits(
                batch_bytes=min(opened.batch_bytes_max or BATCH_BYTES, BATCH_BYTES),
                batch_messages=min(opened.batch_messages_max or BATCH_MESSAGES, BATCH_MESSAGES),
                window_bytes=opened.window.bytes or 1 << 40,
                window_messages=opened.window.messages or 1 << 40,
                # A batch with a wrong payload is refused as a whole. What was right in it is sent again, and
                # must not come after a later batch.
                pipelined=self.schema is SchemaType.BYTES and not opened.schema.subject,
            ),
        )
        # From now on the topic is this one: it is not to be created again when it was deleted.
        self._request.must_exist = not self._options.recreate
        if not self._opened.done():
            self._opened.set_result(None)

    def _take(self, answer: api.PublishResponse) -> None:
        match answer.WhichOneof("response"):
            case "stored":
                self._take_stored(answer.stored)
            case "refused":
                self._take_refused(answer.refused)
            case "partitions_grown":
                new = answer.partitions_grown.partitions
                self.topics = [partition.topic for partition in new]
                self._topic_ids = [partition.topic_id for partition in new]
                self._outbox.grow([partition.last_sequence for partition in new])
            case "window":
                self._outbox.set_window(answer.window.messages, answer.window.bytes)
        for partition in self._outbox.releasable():
            if partition not in self._releases:
                self._releases[partition] = self._loop.call_later(
                    self._release_pauses.pop(partition, 0.0), self._release, partition
                )
        if self._room.messages:
            self._wake.set()

    def _take_stored(self, stored: api.Stored) -> None:
        self._refusals = 0
        positions = {batch.first_sequence: batch.first_position for batch in stored.batches}
        for batch in self._outbox.stored(stored.partition, stored.through_sequence):
            position = positions.get(batch.first_sequence, 0)
            step = 1 if position else 0
            for outcome in batch.outcomes:
                if not outcome.done():
                    outcome.set_result(position)
                position += step
            self._room.free(len(batch.outcomes), batch.body_bytes)

    def _take_refused(self, refused: api.Refused) -> None:
        batch = self._outbox.refused(refused.partition, refused.first_sequence)
        if batch is None:
            return
        error = from_code(refused.code, refused.message)
        if isinstance(error, NotReady):
            self._refusals += 1
            self._release_pauses[refused.partition] = self._options.retry.pause_s(self._refusals)
            self._outbox.give_back(refused.partition, _entries(batch))
        elif refused.HasField("index") and len(batch.outcomes) > 1:
            # The others of the batch are not to suffer from one.
            entries = _entries(batch)
            wrong = entries.pop(min(refused.index, len(entries) - 1))
            fail(wrong[4], error)
            self._room.free(1, wrong[3] + TABLE_ENTRY_BYTES)
            self._outbox.give_back(refused.partition, entries)
        else:
            for outcome in batch.outcomes:
                fail(outcome, error)
            self._room.free(len(batch.outcomes), batch.body_bytes)

    def _release(self, partition: int) -> None:
        self._releases.pop(partition, None)
        self._outbox.release(partition)
        self._wake.set()

    def _end(self, error: ClientError) -> None:
        if self._ended is not None:
            return
        self._ended = error
        for timer in self._releases.values():
            timer.cancel()
        if self._deadlines is not None:
            self._deadlines.end()
        if not self._opened.done():
            self._opened.set_exception(error)
            self._opened.exception()
        for outcome in self._outbox.drop_all():
            fail(outcome, error)
        self._room.end(error)


def _entries(batch: SentBatch) -> list[Entry]:
    messages = unpack(batch.request.batch.batch)
    return [
        (b"", data, b"", len(data), outcome) for data, outcome in zip(messages, batch.outcomes, strict=True)
    ]
