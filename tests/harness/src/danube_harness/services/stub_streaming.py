"""A stub of native streaming for tests of clients: topics in memory, and faults on demand.

It keeps the contract of `danube.stream.v1` for one subscription type, with one cursor for each subscription
and topic; behaviour of the platform itself is tested against the platform.
"""

from __future__ import annotations

import asyncio
import fnmatch
import struct
from collections import defaultdict, deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import google_crc32c
import grpc
import grpc.aio

from danube_proto import danube_api_pb2 as wire
from danube_proto import danube_stream_pb2 as api

Context = grpc.aio.ServicerContext[Any, Any]
POSITIONS_BETWEEN_BATCHES = 10
"""Positions of consecutive batches are not adjacent, as in a log of several topics."""


@dataclass(slots=True)
class Log:
    """One topic or partition.

    Attributes:
        messages: serialized, with their positions.
        sequences: the last one of each idempotent producer.
    """

    name: str
    topic_id: int
    reliable: bool = True
    messages: list[tuple[int, bytes]] = field(default_factory=list)
    sequences: dict[str, int] = field(default_factory=dict)
    end: int = 1

    def append(self, messages: list[bytes]) -> int:
        """Store a batch and return the position of its first message."""
        first = self.end
        self.messages.extend((first + index, data) for index, data in enumerate(messages))
        self.end = first + len(messages) - 1 + POSITIONS_BETWEEN_BATCHES
        return first

    def payloads(self) -> list[bytes]:
        """The payloads in order."""
        return [wire.StreamMessage.FromString(data).payload for _, data in self.messages]


@dataclass(slots=True)
class Cursor:
    """A subscription on one topic.

    Attributes:
        acked: positions.
        out: positions that a consumer has.
        failures: how often each message was given back.
    """

    acked: set[int] = field(default_factory=set)
    out: set[int] = field(default_factory=set)
    failures: defaultdict[int, int] = field(default_factory=lambda: defaultdict(int))
    start: int = 0


class StubStreaming:
    """Serves the streaming contract on a free port of this machine.

    Attributes:
        topics: by name; partitions by theirs.
        bases: partitioned topics, and the names of their partitions.
        opened: each OpenProducer.
        batches: each PublishBatch, in order of arrival.
        subscribed: each Subscribe.
        acks: each Ack.
        silent: nothing is answered to batches, which are stored.
        refusals: how the next batches are refused: (code, index of the message or None).
        reject_payload: messages with this payload are refused.
    """

    def __init__(self) -> None:
        self.topics: dict[str, Log] = {}
        self.bases: dict[str, list[str]] = {}
        self.cursors: defaultdict[tuple[str, str], Cursor] = defaultdict(Cursor)
        self.opened: list[api.OpenProducer] = []
        self.batches: list[api.PublishBatch] = []
        self.subscribed: list[api.Subscribe] = []
        self.requests: list[api.ConsumeRequest] = []
        self.acks: list[api.Ack] = []
        self.silent = False
        self.no_acks = False
        self.refuse_seeks = False
        self.window = api.Window(messages=10_000, bytes=8 << 20)
        self.schema = api.Schema()
        self.delivery_messages = 100
        self.refusals: deque[tuple[grpc.StatusCode, int | None]] = deque()
        self.reject_payload: bytes | None = None
        self.fail_opens: deque[grpc.StatusCode] = deque()
        self.changed = asyncio.Condition()
        self.port = 0
        self._streams: set[asyncio.Task[Any]] = set()
        self._wakers: set[asyncio.Event] = set()
        self._server: grpc.aio.Server | None = None
        self._ids = 0
        self._breaks = 0

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Serve on a free port; after ``stop``, on the same port again."""
        server = grpc.aio.server(
            options=[("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", 64 << 20)]
        )
        methods: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            "Publish": grpc.stream_stream_rpc_method_handler(
                self._publish, api.PublishRequest.FromString, api.PublishResponse.SerializeToString
            ),
            "Consume": grpc.stream_stream_rpc_method_handler(
                self._consume, api.ConsumeRequest.FromString, api.ConsumeResponse.SerializeToString
            ),
            "Read": grpc.unary_stream_rpc_method_handler(
                self._read, api.ReadRequest.FromString, api.ReadResponse.SerializeToString
            ),
            "DescribeTopic": grpc.unary_unary_rpc_method_handler(
                self._describe,
                api.DescribeTopicRequest.FromString,
                api.DescribeTopicResponse.SerializeToString,
            ),
            "ListTopics": grpc.unary_unary_rpc_method_handler(
                self._list, api.ListTopicsRequest.FromString, api.ListTopicsResponse.SerializeToString
            ),
        }
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("danube.stream.v1.Streaming", methods),)
        )
        self.port = server.add_insecure_port(f"127.0.0.1:{self.port}")
        await server.start()
        self._server = server

    async def stop(self) -> None:
        """Close every connection."""
        server, self._server = self._server, None
        if server is not None:
            await server.stop(None)

    def create(self, topic: str, partitions: int = 0, *, reliable: bool = True) -> None:
        """Create a topic."""
        names = [f"{topic}-part-{number}" for number in range(partitions)] or [topic]
        if partitions:
            self.bases[topic] = names
        for name in names:
            self._ids += 1
            self.topics[name] = Log(name, self._ids, reliable)

    def parts(self, topic: str) -> list[Log]:
        """The topic, or its partitions; nothing if there is none."""
        return [self.topics[name] for name in self.bases.get(topic, [topic]) if name in self.topics]

    def publish(self, topic: str, *payloads: bytes, **fields: Any) -> None:
        """Store a batch as some other client."""
        self.topics[topic].append(
            [wire.StreamMessage(payload=payload, **fields).SerializeToString() for payload in payloads]
        )
        self._wake()

    def break_streams(self) -> None:
        """End all streams as a gateway that dies."""
        self._breaks += 1
        for task in list(self._streams):
            task.cancel()

    async def until(self, condition: Any) -> None:
        """Wait until the condition holds; it is checked after every request."""
        async with self.changed:
            await self.changed.wait_for(condition)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def _wake(self) -> None:
        for waker in self._wakers:
            waker.set()

    async def _tell(self) -> None:
        async with self.changed:
            self.changed.notify_all()

    # Publish

    async def _publish(
        self, requests: AsyncIterator[api.PublishRequest], context: Context
    ) -> AsyncIterator[api.PublishResponse]:
        task = asyncio.current_task()
        assert task is not None
        self._streams.add(task)
        try:
            opening = (await anext(requests)).open
            self.opened.append(opening)
            await self._tell()
            if self.fail_opens:
                await context.abort(self.fail_opens.popleft(), "as scripted")
            if not self.parts(opening.topic):
                if opening.must_exist:
                    await context.abort(grpc.StatusCode.NOT_FOUND, "no such topic")
                reliable = not opening.HasField("dispatch") or opening.dispatch.reliable
                self.create(opening.topic, opening.partitions, reliable=reliable)
            logs = self.parts(opening.topic)
            if opening.idempotent and not logs[0].reliable:
                await context.abort(
                    grpc.StatusCode.INVALID_ARGUMENT, "idempotent producers need a reliable topic"
                )
            name = opening.producer_name
            yield api.PublishResponse(
                opened=api.Opened(
                    producer_name=name,
                    partitions=[
                        api.Partition(
                            topic=log.name, topic_id=log.topic_id, last_sequence=log.sequences.get(name, 0)
                        )
                        for log in logs
                    ],
                    reliable=logs[0].reliable,
                    message_bytes_max=1 << 20,
                    batch_bytes_max=1 << 20,
                    batch_messages_max=1000,
                    window=self.window,
                    schema=self.schema,
                )
            )
            async for request in requests:
                answer = self._store(opening, logs, request.batch)
                await self._tell()
                if not self.silent:
                    yield answer
        except asyncio.CancelledError:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the stream was broken")
        finally:
            self._streams.discard(task)

    def _store(
        self, opening: api.OpenProducer, logs: list[Log], batch: api.PublishBatch
    ) -> api.PublishResponse:
        self.batches.append(batch)
        messages = unpacked(batch.batch)
        last = batch.first_sequence + len(messages) - 1
        log, name = logs[batch.partition], opening.producer_name
        index = next(
            (
                number
                for number, data in enumerate(messages)
                if wire.StreamMessage.FromString(data).payload == self.reject_payload
            ),
            None,
        )
        refusal = self.refusals.popleft() if self.refusals else None
        if index is not None:
            refusal = (grpc.StatusCode.INVALID_ARGUMENT, index)
        if refusal is not None:
            code, wrong = refusal
            return api.PublishResponse(
                refused=api.Refused(
                    partition=batch.partition,
                    first_sequence=batch.first_sequence,
                    code=code.value[0],
                    message="as scripted",
                    index=wrong,
                )
            )
        position = 0
        if not opening.idempotent or last > log.sequences.get(name, 0):
            position = log.append(messages)
            log.sequences[name] = last
        self._wake()
        return api.PublishResponse(
            stored=api.Stored(
                partition=batch.partition,
                through_sequence=last,
                batches=[
                    api.StoredBatch(
                        first_sequence=batch.first_sequence, first_position=position if log.reliable else 0
                    )
                ],
            )
        )

    # Consume

    async def _consume(
        self, requests: AsyncIterator[api.ConsumeRequest], context: Context
    ) -> AsyncIterator[api.ConsumeResponse]:
        task = asyncio.current_task()
        assert task is not None
        self._streams.add(task)
        session: _Consuming | None = None
        reading: asyncio.Task[None] | None = None
        try:
            subscribe = (await anext(requests)).subscribe
            self.subscribed.append(subscribe)
            await self._tell()
            if self.fail_opens:
                await context.abort(self.fail_opens.popleft(), "as scripted")
            logs = [log for topic in subscribe.topics for log in self.parts(topic)]
            if subscribe.pattern:
                logs = [
                    log for name, log in self.topics.items() if fnmatch.fnmatchcase(name, subscribe.pattern)
                ]
            elif not logs and not subscribe.await_topics:
                await context.abort(grpc.StatusCode.NOT_FOUND, "no such topic")
            session = _Consuming(self, subscribe, logs)
            self._wakers.add(session.wake)
            reading = asyncio.create_task(session.read(requests))
            yield api.ConsumeResponse(subscribed=api.Subscribed(consumer_name=subscribe.consumer_name))
            for number, log in enumerate(logs):
                yield api.ConsumeResponse(
                    topic_added=api.TopicAdded(
                        topic=number,
                        name=log.name,
                        topic_id=log.topic_id,
                        reliable=log.reliable,
                        created=session.created[number],
                    )
                )
            while not reading.done():
                session.wake.clear()
                for answer in session.due():
                    yield answer
                await session.wake.wait()
        except asyncio.CancelledError:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the stream was broken")
        finally:
            self._streams.discard(task)
            if session is not None:
                self._wakers.discard(session.wake)
                session.close()
            if reading is not None:
                reading.cancel()

    # Read and metadata

    async def _read(self, request: api.ReadRequest, context: Context) -> AsyncIterator[api.ReadResponse]:
        log = self.topics.get(request.topic)
        if log is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such topic")
        breaks = self._breaks
        start = first_position(log, request.start)
        found = [(position, data) for position, data in log.messages if position >= start]
        if request.HasField("end_position"):
            found = [item for item in found if item[0] <= request.end_position]
        for batch in runs(found[: request.messages_max or None], 3):
            yield api.ReadResponse(batch=packed([data for _, data in batch]), first_position=batch[0][0])
            # Not by cancelling: a cancelled write may leave the client without a status.
            if self._breaks != breaks:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "the stream was broken")
        yield api.ReadResponse()

    async def _describe(
        self, request: api.DescribeTopicRequest, _context: Context
    ) -> api.DescribeTopicResponse:
        logs = self.parts(request.topic)
        return api.DescribeTopicResponse(
            exists=bool(logs),
            topics=[
                api.TopicBounds(
                    topic=log.name, topic_id=log.topic_id, earliest_position=1, end_position=log.end
                )
                for log in logs
            ],
            partitioned=request.topic in self.bases,
            reliable=bool(logs) and logs[0].reliable,
            schema=self.schema,
        )

    async def _list(self, request: api.ListTopicsRequest, _context: Context) -> api.ListTopicsResponse:
        parts = {name for names in self.bases.values() for name in names}
        names = [name for name in self.topics if name not in parts] + list(self.bases)
        return api.ListTopicsResponse(
            topics=[
                api.ListedTopic(topic=name, partitions=len(self.bases.get(name, ())), reliable=True)
                for name in sorted(names)
                if fnmatch.fnmatchcase(name, request.pattern)
            ]
        )


class _Consuming:
    """One consumer's stream."""

    def __init__(self, stub: StubStreaming, subscribe: api.Subscribe, logs: list[Log]) -> None:
        self.wake = asyncio.Event()
        self._stub = stub
        self._logs = logs
        self._credit = subscribe.credit
        self._sent_messages = self._sent_bytes = 0
        self._paused = False
        self._answers: deque[api.ConsumeResponse] = deque()
        self._mine: set[tuple[int, int]] = set()
        self.created = [(log.name, subscribe.subscription) not in stub.cursors for log in logs]
        self._cursors = [stub.cursors[log.name, subscribe.subscription] for log in logs]
        for log, cursor, created in zip(logs, self._cursors, self.created, strict=True):
            if created:
                cursor.start = first_position(log, subscribe.start)

    async def read(self, requests: AsyncIterator[api.ConsumeRequest]) -> None:
        async for request in requests:
            self._stub.requests.append(request)
            self._take(request)
            await self._stub._tell()
            self.wake.set()

    def _take(self, request: api.ConsumeRequest) -> None:
        match request.WhichOneof("request"):
            case "credit":
                self._credit = request.credit
            case "ack":
                ack = request.ack
                self._stub.acks.append(ack)
                if self._stub.no_acks:
                    return
                for number, position in list(self._mine):
                    in_ranges = any(r.first <= position <= r.last for r in ack.ranges)
                    if number == ack.topic and (in_ranges or position <= ack.cumulative):
                        self._cursors[number].acked.add(position)
                        self._cursors[number].out.discard(position)
                        self._mine.discard((number, position))
                if ack.ticket:
                    self._answers.append(api.ConsumeResponse(acked=api.Acked(ticket=ack.ticket)))
            case "nack":
                nack = request.nack
                for number, position in list(self._mine):
                    if number == nack.topic and any(r.first <= position <= r.last for r in nack.ranges):
                        self._cursors[number].failures[position] += 1
                        self._cursors[number].out.discard(position)
                        self._mine.discard((number, position))
            case "seek":
                self._seek(request.seek)
            case "pause":
                self._paused = request.pause.paused

    def _seek(self, seek: api.Seek) -> None:
        if self._stub.refuse_seeks:
            code: int = grpc.StatusCode.UNAVAILABLE.value[0]
            refused = api.Seeked(ticket=seek.ticket, code=code, message="as scripted")
            self._answers.append(api.ConsumeResponse(seeked=refused))
            return
        for number, (log, cursor) in enumerate(zip(self._logs, self._cursors, strict=True)):
            if not seek.HasField("topic") or seek.topic == number:
                cursor.start = first_position(log, seek.start)
                cursor.acked.clear()
                cursor.out.clear()
                self._mine = {item for item in self._mine if item[0] != number}
        self._answers.append(api.ConsumeResponse(seeked=api.Seeked(ticket=seek.ticket)))

    def due(self) -> list[api.ConsumeResponse]:
        answers = list(self._answers)
        self._answers.clear()
        if self._paused:
            return answers
        for number, (log, cursor) in enumerate(zip(self._logs, self._cursors, strict=True)):
            found = [
                (position, data)
                for position, data in log.messages
                if position >= cursor.start and position not in cursor.acked and position not in cursor.out
            ]
            for run in runs(found, self._stub.delivery_messages):
                room = self._credit.messages_total - self._sent_messages
                if self._sent_bytes >= self._credit.bytes_total or room <= 0:
                    return answers
                part = run[:room]
                batch = packed([data for _, data in part])
                self._sent_messages += len(part)
                self._sent_bytes += batch.body_bytes
                for position, _ in part:
                    cursor.out.add(position)
                    self._mine.add((number, position))
                answers.append(
                    api.ConsumeResponse(
                        delivery=api.Delivery(
                            topic=number,
                            first_position=part[0][0] if log.reliable else 0,
                            batch=batch,
                            redelivered=[
                                api.Redelivered(index=index, failures=cursor.failures[position])
                                for index, (position, _) in enumerate(part)
                                if position in cursor.failures
                            ],
                        )
                    )
                )
        return answers

    def close(self) -> None:
        for number, position in self._mine:
            self._cursors[number].out.discard(position)


def first_position(log: Log, start: api.Start) -> int:
    """Where a start is."""
    match start.kind:
        case api.Start.LATEST:
            return log.end
        case api.Start.POSITION:
            return start.value
        case api.Start.LAST:
            last = log.messages[-start.value :]
            return last[0][0] if last else log.end
        case _:
            return 0


def runs(found: list[tuple[int, bytes]], most: int) -> list[list[tuple[int, bytes]]]:
    """Messages whose positions follow one another, ``most`` at a time."""
    out: list[list[tuple[int, bytes]]] = []
    for position, data in found:
        if out and out[-1][-1][0] + 1 == position and len(out[-1]) < most:
            out[-1].append((position, data))
        else:
            out.append([(position, data)])
    return out


def packed(messages: list[bytes]) -> api.Batch:
    """A batch of serialized messages."""
    ends = [0]
    for data in messages:
        ends.append(ends[-1] + len(data))
    body = struct.pack(f"<{len(messages)}I", *ends[1:]) + b"".join(messages)
    return api.Batch(
        body=body, messages=len(messages), crc32c=google_crc32c.value(body), body_bytes=len(body)
    )


def unpacked(batch: api.Batch) -> list[bytes]:
    """The serialized messages of an uncompressed batch, which is checked."""
    assert batch.compression == api.COMPRESSION_NONE
    assert google_crc32c.value(batch.body) == batch.crc32c
    assert len(batch.body) == batch.body_bytes
    base = 4 * batch.messages
    ends = struct.unpack_from(f"<{batch.messages}I", batch.body)
    return [batch.body[base + start : base + end] for start, end in zip((0, *ends[:-1]), ends, strict=True)]
