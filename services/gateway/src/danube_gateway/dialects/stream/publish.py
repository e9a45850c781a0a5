"""``danube.stream.v1.Streaming/Publish``: one producer, batches up, ranges of what is stored down."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from typing import Final

from danube_common.errors import CorruptData, DanubeError, InvalidInput, LimitExceeded, Unavailable
from danube_common.model.names import TopicName, check_label
from danube_common.model.position import MESSAGES_PER_SECTION_MAX
from danube_common.model.producer import AccessMode
from danube_common.rpc.port import Call, Methods, RpcError, StatusCode
from danube_common.rpc.protobuf_strict import parse_strict
from danube_common.security.roles import Permission
from danube_gateway.dialects.errors import to_rpc_error
from danube_gateway.dialects.stream.batches import BATCH_BYTES_MAX, BadMessage, read_body, read_messages
from danube_gateway.dialects.stream.model import access_mode_of, schema_message
from danube_gateway.dialects.stream.topics import ProducerTopics
from danube_gateway.publish.batch_lane import WINDOW_MESSAGES, BatchLane, MessageRefused, window_bytes
from danube_gateway.publish.idempotence import Idempotence, Overtaken, ProducerClaims
from danube_gateway.publish.producers import Producer
from danube_gateway.publish.publishing import Publishing
from danube_gateway.publish.ready_batch import ReadyBatch
from danube_gateway.publish.sequences import Sequences, Window
from danube_gateway.publish.topic_limits import ENVELOPE_BYTES_MAX
from danube_proto import danube_stream_pb2 as api

METHOD: Final = "/danube.stream.v1.Streaming/Publish"
GROWTH_CHECK_S: Final = 1.0
"""How soon a producer hears of new partitions."""
TABLE_BYTES: Final = 4
"""Of a message in the table of its batch."""


class PublishService:
    """Answers Publish."""

    def __init__(self, topics: ProducerTopics, publishing: Publishing, claims: ProducerClaims) -> None:
        self._topics = topics
        self._publishing = publishing
        self._claims = claims

    def register(self, methods: Methods) -> None:
        """Add the method."""
        methods.bidi[METHOD] = self.publish

    async def publish(self, call: Call, requests: AsyncIterator[bytes]) -> AsyncIterator[bytes | list[bytes]]:
        """Serve one producer's stream."""
        request = await _next(requests)
        if request is None or not request.HasField("open"):
            raise InvalidInput("a Publish stream begins with open")
        opening = request.open
        call.require(Permission.PRODUCE, opening.topic)
        check_label(opening.topic, "topic")
        name = opening.producer_name or f"producer-{secrets.token_hex(6)}"
        check_label(name, "producer")
        mode = access_mode_of(opening.access_mode)
        topics = await self._topics.open(opening)
        if opening.idempotent and not topics[0].strategy.is_reliable:
            raise InvalidInput(f"topic {opening.topic} is not reliable: it has no idempotent producers")
        stream = _ProducerStream(self._publishing, self._claims if opening.idempotent else None)
        self._publishing.enter(stream.drain)
        try:
            for topic in topics:
                await stream.add(await self._publishing.producers.create(topic, name, mode))
            yield stream.opened(name)
            stream.watch(asyncio.create_task(stream.read(requests), name="publish stream"))
            if topics[0].name != opening.topic:
                growing = stream.grow(TopicName.parse(opening.topic), name, mode)
                stream.watch(asyncio.create_task(growing, name="publish stream partitions"))
            while True:
                if answers := stream.answers():
                    yield answers
                elif stream.ended:
                    break
                else:
                    await stream.changed()
        finally:
            self._publishing.leave(stream.drain)
            await stream.close()
        stream.raise_error()


async def _next(requests: AsyncIterator[bytes]) -> api.PublishRequest | None:
    """Return the client's next message; None if it has half-closed."""
    async for data in requests:
        return parse_strict(api.PublishRequest, data)
    return None


class _Partition:
    """One partition of a stream."""

    def __init__(self, index: int, lane: BatchLane, last_sequence: int) -> None:
        self.index = index
        self.lane = lane
        self.last_sequence = last_sequence
        self.sequences = Sequences(last_sequence)
        self.stored: list[api.StoredBatch] = []
        """Not sent yet."""
        self.through = 0

    def message(self) -> api.Partition:
        """Return what the client is told of it."""
        topic = self.lane.producer.topic
        return api.Partition(topic=topic.name, topic_id=topic.topic_id, last_sequence=self.last_sequence)


class _ProducerStream:
    """The state of one stream: what came, what is on its way, what is to be told to the client.

    Attributes:
        error: the status with which the stream ends; None: OK.
    """

    def __init__(self, publishing: Publishing, claims: ProducerClaims | None) -> None:
        self.error: BaseException | None = None
        self._publishing = publishing
        self._claims = claims
        """None if the producer is not idempotent."""
        self._claimed: list[tuple[int, str]] = []
        self._partitions: list[_Partition] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._window = Window(WINDOW_MESSAGES, window_bytes(publishing.streams))
        self._refused: list[api.PublishResponse] = []
        self._grown: list[api.PublishResponse] = []
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._no_more = False
        """The client half-closed, or no more of its batches are taken."""
        self._draining = False

    @property
    def ended(self) -> bool:
        """Whether nothing more is to be answered."""
        return self.error is not None or (self._no_more and not self._window.messages)

    async def add(self, producer: Producer) -> None:
        """Add the producer of the next partition. Raises NotFound, Unavailable."""
        partition: _Partition
        idempotence: Idempotence | None = None
        if self._claims is not None:
            idempotence = Idempotence(self._claims, producer.topic, producer.name)
            nonce = await self._claims.take(idempotence.key, self._taken_over)
            self._claimed.append((idempotence.key, nonce))
            await idempotence.open()
        lane = BatchLane(
            self._publishing,
            producer,
            lambda batch, position: self._on_stored(partition, batch, position),
            lambda batch, error, index: self._on_refused(partition, batch, error, index),
            idempotence,
        )
        last_sequence = idempotence.last if idempotence is not None else 0
        partition = _Partition(len(self._partitions), lane, last_sequence)
        self._partitions.append(partition)
        self.watch(asyncio.create_task(lane.run(), name=f"publish lane {producer.topic.name}"))

    def watch(self, task: asyncio.Task[None]) -> None:
        """End the stream with the task's failure; the task ends with the stream."""
        self._tasks.append(task)
        task.add_done_callback(self._task_ended)

    def opened(self, name: str) -> bytes:
        """Return the first answer."""
        first = self._partitions[0].lane
        topic = first.producer.topic
        opened = api.Opened(
            producer_name=name,
            partitions=[each.message() for each in self._partitions],
            reliable=topic.strategy.is_reliable,
            message_bytes_max=first.limits.message_bytes_max,
            batch_bytes_max=BATCH_BYTES_MAX,
            batch_messages_max=MESSAGES_PER_SECTION_MAX,
            window=api.Window(messages=self._window.messages_max, bytes=self._window.bytes_max),
            schema=schema_message(topic.schema, self._publishing.subjects.subject(topic)),
        )
        return api.PublishResponse(opened=opened).SerializeToString()

    async def read(self, requests: AsyncIterator[bytes]) -> None:
        """Take batches until the client half-closes. Raises what ends the stream."""
        while not self._no_more and (request := await _next(requests)) is not None:
            if not request.HasField("batch"):
                raise InvalidInput("after open a Publish stream takes batches only")
            await self._take(request.batch)
        self._no_more = True
        self._changed.set()

    async def grow(self, base: TopicName, name: str, mode: AccessMode) -> None:
        """Add partitions of the topic that come later, until cancelled."""
        catalogue, seen = self._publishing.catalogue, -1
        while True:
            if seen != catalogue.topics_revision:
                seen = catalogue.topics_revision
                known = len(self._partitions)
                for topic in catalogue.partitions(base):
                    if topic.topic_name.partition_number == len(self._partitions):
                        await self.add(await self._publishing.producers.create(topic, name, mode))
                if added := [each.message() for each in self._partitions[known:]]:
                    grown = api.PartitionsGrown(partitions=added)
                    self._grown.append(api.PublishResponse(partitions_grown=grown))
                    self._changed.set()
            await asyncio.sleep(GROWTH_CHECK_S)

    async def _take(self, request: api.PublishBatch) -> None:
        if request.partition >= len(self._partitions):
            raise InvalidInput(
                f"partition {request.partition} is none of the {len(self._partitions)} of this stream"
            )
        partition = self._partitions[request.partition]
        batch, lane = request.batch, partition.lane
        is_new = partition.sequences.take(request.first_sequence, batch.messages)
        size = batch.body_bytes
        while not self._window.has_room(batch.messages, size):
            self._room.clear()
            await self._room.wait()
        self._window.take(batch.messages, size)
        try:
            single_max = lane.limits.message_bytes_max + ENVELOPE_BYTES_MAX + TABLE_BYTES
            body = read_body(batch, single_max)
            marks = self._publishing.traces.marked(body, request.traced) if request.traced else ()
            ready = lane.ready(request.first_sequence, body, read_messages(body), marks)
        except MessageRefused as refused:
            self._refuse(partition, request, refused.error, refused.index)
        except BadMessage as bad:
            self._refuse(partition, request, bad, bad.index)
        except (CorruptData, LimitExceeded) as error:
            self._refuse(partition, request, error, None)
        else:
            if is_new:
                lane.add(ready)
            else:
                self._on_stored(partition, ready, 0)

    def drain(self) -> None:
        """Take no more batches; the stream ends when those that were taken are answered."""
        self._no_more = self._draining = True
        self._changed.set()

    def raise_error(self) -> None:
        """Raise what the stream ends with, if it is not OK."""
        if self.error is not None:
            raise self.error
        if self._draining:
            raise Unavailable("the gateway is shutting down")

    async def changed(self) -> None:
        """Wait until there is something to tell, or the stream has ended."""
        await self._changed.wait()
        self._changed.clear()

    def answers(self) -> list[bytes]:
        """Return what the client was not told yet. Refusals go first: a range counts them as answered."""
        answers = [answer.SerializeToString() for answer in (*self._grown, *self._refused)]
        self._grown.clear()
        self._refused.clear()
        for partition in self._partitions:
            if partition.through:
                stored = api.Stored(
                    partition=partition.index, through_sequence=partition.through, batches=partition.stored
                )
                answers.append(api.PublishResponse(stored=stored).SerializeToString())
                partition.through = 0
                partition.stored = []
        if (size := window_bytes(self._publishing.streams)) != self._window.bytes_max and answers:
            self._window.bytes_max = size
            window = api.Window(messages=self._window.messages_max, bytes=size)
            answers.append(api.PublishResponse(window=window).SerializeToString())
        return answers

    async def close(self) -> None:
        """End the tasks."""
        if self._claims is not None:
            for key, nonce in self._claimed:
                self._claims.release(key, nonce)
        for task in self._tasks:
            task.cancel()
        try:
            await asyncio.gather(*self._tasks, return_exceptions=True)
        finally:  # the call may be cancelled meanwhile: its client has left
            for partition in self._partitions:
                partition.lane.close()

    def _on_stored(self, partition: _Partition, batch: ReadyBatch, position: int) -> None:
        partition.stored.append(api.StoredBatch(first_sequence=batch.first, first_position=position))
        self._answered(partition, batch.last, batch.count, len(batch.body.data))

    def _on_refused(
        self, partition: _Partition, batch: ReadyBatch, error: DanubeError, index: int | None
    ) -> None:
        self._tell_refused(partition, batch.first, error, index)
        self._answered(partition, batch.last, batch.count, len(batch.body.data))

    def _refuse(
        self, partition: _Partition, request: api.PublishBatch, error: DanubeError, index: int | None
    ) -> None:
        first, messages = request.first_sequence, request.batch.messages
        partition.lane.count_refused(error)
        self._tell_refused(partition, first, error, index)
        self._answered(partition, first + messages - 1, messages, request.batch.body_bytes)

    def _tell_refused(self, partition: _Partition, first: int, error: DanubeError, index: int | None) -> None:
        status = to_rpc_error(error)
        refused = api.Refused(
            partition=partition.index,
            first_sequence=first,
            code=status.code,
            message=status.message,
            index=index,
        )
        self._refused.append(api.PublishResponse(refused=refused))

    def _answered(self, partition: _Partition, last: int, messages: int, size: int) -> None:
        self._window.release(messages, size)
        self._room.set()
        partition.through = partition.sequences.answer(last) or partition.through
        self._changed.set()

    def _taken_over(self) -> None:
        if self.error is None:
            self.error = RpcError(StatusCode.ABORTED, "another client has opened the producer")
        self._stop_sending()
        self._changed.set()

    def _stop_sending(self) -> None:
        for task in self._tasks:
            task.cancel()

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            if isinstance(error, Overtaken):
                error = RpcError(StatusCode.UNAVAILABLE, str(error))
            self.error = self.error or error
            self._stop_sending()
        self._changed.set()
