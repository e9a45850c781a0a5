"""``danube.stream.v1.Streaming/Read``: a topic's messages without a subscription."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from danube_common.cluster.owner_client import OwnerClient
from danube_common.cluster.records import Topic
from danube_common.errors import InvalidInput, NotFound
from danube_common.model.names import TopicName
from danube_common.model.run import Run
from danube_common.model.subscription import StartPosition
from danube_common.rpc.port import OPENED, Call, Methods, Opened
from danube_common.rpc.protobuf_strict import parse_strict
from danube_common.security.roles import Permission
from danube_common.wire.frame import RawSection, decode_checked_section
from danube_common.wire.owner.topics import ReadTopic, TopicRead
from danube_gateway.dialects.stream.deliveries import batch_of, compression_of
from danube_gateway.dialects.stream.model import start_of
from danube_gateway.publish.topic_resolver import TopicResolver
from danube_proto import danube_stream_pb2 as api

METHOD: Final = "/danube.stream.v1.Streaming/Read"
FOLLOW_WAIT_S: Final = 0.02
"""A reading at the end of the log looks for more after this time, and later each time it finds nothing."""
FOLLOW_WAIT_S_MAX: Final = 0.25


class ReadService:
    """Answers Read. While one answer is on its way to the client, the next one is read ahead."""

    def __init__(self, resolver: TopicResolver, owners: OwnerClient) -> None:
        self._resolver = resolver
        self._owners = owners

    def register(self, methods: Methods) -> None:
        """Add the method."""
        methods.stream[METHOD] = self.read

    async def read(self, call: Call) -> AsyncIterator[bytes | list[bytes] | Opened]:
        """Stream what the client asks for."""
        request = parse_strict(api.ReadRequest, call.request)
        call.require(Permission.CONSUME, request.topic)
        topic = await self._topic(TopicName.parse(request.topic))
        reading = _Reading(request, topic, start_of(request.start))
        compression = compression_of(request.compressions)
        ahead = self._ask(topic, reading.next_request)
        try:
            await asyncio.wait((ahead,))
            yield OPENED  # it is known where the reading begins
            while not reading.over:
                read = await ahead
                runs, missing = reading.take(read), read.missing + reading.untold
                if not reading.over:
                    ahead = self._ask(topic, reading.next_request, reading.wait_s)
                answers: list[bytes] = []
                for run in runs:
                    batch = batch_of([run], compression)
                    answer = api.ReadResponse(
                        batch=batch, first_position=run.first, first_offset=run.offset, missing=missing
                    )
                    answers.append(answer.SerializeToString())
                    missing = 0
                reading.untold = missing
                if answers:
                    yield answers
        finally:
            ahead.cancel()
            await asyncio.gather(ahead, return_exceptions=True)
        yield api.ReadResponse(missing=reading.untold).SerializeToString()

    def _ask(self, topic: Topic, request: ReadTopic, wait_s: float = 0) -> asyncio.Task[TopicRead]:
        async def ask() -> TopicRead:
            if wait_s:
                await asyncio.sleep(wait_s)
            return await self._owners.ask(topic.home, request)

        return asyncio.create_task(ask(), name=f"read {topic.name}")

    async def _topic(self, name: TopicName) -> Topic:
        topics = await self._resolver.partitions(name)
        if not topics:
            raise NotFound(f"topic {name} does not exist")
        if topics[0].name != str(name):
            raise InvalidInput(f"topic {name} is partitioned: read its partitions, as {topics[0].name}")
        return topics[0]


class _Reading:
    """How far one reading has come. Pure.

    Attributes:
        over: whether the last message was read.
        next_request: what to ask the owner next.
        wait_s: how long before that.
        untold: messages that are missing and that the client was not told of.
    """

    def __init__(self, request: api.ReadRequest, topic: Topic, start: StartPosition) -> None:
        self.over = False
        self.next_request = ReadTopic(topic.name, start=start)
        self.wait_s = 0.0
        self.untold = 0
        self._follow = request.follow
        self._left = request.messages_max or None
        self._last = request.end_position if request.HasField("end_position") else None
        self._end: int | None = None

    def take(self, read: TopicRead) -> list[Run]:
        """Note an answer of the owner and return what of it the client gets."""
        runs: list[Run] = []
        if self._end is None and not self._follow:
            self._end = read.end
        before = self.next_request.position
        for first, offset, messages, body in read.runs:
            run = decode_checked_section(RawSection(0, messages, body, 0)).run(first, offset)
            if self._last is not None and run.last > self._last:
                run = run.head(max(self._last - run.first + 1, 0))
            if self._end is not None and run.first >= self._end:
                continue
            if self._left is not None:
                run = run.head(self._left)
                self._left -= len(run)
            if len(run):
                runs.append(run)
        self.over = (
            self._left == 0
            or (self._last is not None and read.position > self._last)
            or (self._end is not None and read.position >= self._end)
        )
        if read.position < read.end and read.position > before:
            self.wait_s = 0.0
        elif runs:
            self.wait_s = FOLLOW_WAIT_S
        else:
            self.wait_s = min(max(2 * self.wait_s, FOLLOW_WAIT_S), FOLLOW_WAIT_S_MAX)
        self.next_request = ReadTopic(self.next_request.topic, read.position)
        return runs
