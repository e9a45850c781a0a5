"""Faust's producer: sends records to partitions of Danube topics."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Mapping
from collections.abc import Set as AbstractSet
from typing import Any, Final

from faust.exceptions import ProducerSendError
from faust.transport import base
from faust.types import TP
from faust.types.tuples import FutureMessage, RecordMetadata
from mode import want_seconds

import danube_client
from danube_client import Client, ClientError, InvalidRequest
from danube_client.stream.routing import Router
from danube_faust import record
from danube_faust.settings import of_transport
from danube_faust.topics import Topics

STOP_POLL_S: Final = 0.5
CHANGELOG_WRITER: Final = "-changelog-writer"
"""Ends the name of a partition's producer in each worker: the platform refuses what a worker sends to a
changelog after another worker has claimed it."""


class Released(ProducerSendError):
    """A record of a changelog whose partition another worker has by now, which makes the change again."""


class Producer(base.Producer):
    """Sends records, each stored once; one Danube producer for each partition that is sent to.

    Attributes:
        failure: why a record was not stored, or not made; from then on nothing may be committed.
    """

    def __post_init__(self) -> None:
        self._client: Client | None = None
        self._topics: Topics | None = None
        self._producers: dict[TP, danube_client.Producer] = {}
        self._opening: dict[TP, asyncio.Lock] = {}
        self._released: set[TP] = set()
        self._router = Router()
        self.failure: BaseException | None = None
        self._buffered = 0
        self._unbuffered = asyncio.Event()

    async def on_start(self) -> None:
        """Connect."""
        settings = of_transport(self.transport)
        self._client = await settings.client()
        self._topics = Topics(self._client, settings.names)
        await super().on_start()

    async def on_stop(self) -> None:
        """Send what is left, and close the connection."""
        await super().on_stop()
        producers, self._producers = list(self._producers.values()), {}
        await asyncio.gather(*(producer.close() for producer in producers), return_exceptions=True)
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def create_topic(
        self,
        topic: str,
        partitions: int,
        replication: int,
        *,
        config: Mapping[str, Any] | None = None,
        timeout: Any = 30.0,  # noqa: ASYNC109 - Faust's
        retention: Any = None,
        compacting: bool | None = None,
        deleting: bool | None = None,
        ensure_created: bool = False,
    ) -> None:
        """Create a topic; one that exists stays as it is.

        A changelog (``compacting``) is kept whole, other topics by Faust's ``retention``.
        """
        del replication, config, deleting, ensure_created
        retention_s = None if compacting or retention is None else want_seconds(retention)
        async with asyncio.timeout(want_seconds(timeout)):
            await self._found_topics().create(topic, partitions, retention_s=retention_s)

    def fail(self, error: BaseException) -> None:
        """Let nothing be committed any more; the first error counts."""
        self.failure = self.failure or error

    async def send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        partition: int | None,
        timestamp: float | None,
        headers: Any,
        *,
        transactional_id: str | None = None,
    ) -> Awaitable[RecordMetadata]:
        """Send a record; the answer is awaited by who wants to, or else by the next commit."""
        del transactional_id
        try:
            sent = await self._send(topic, key, value, partition, timestamp, headers)
        except Released:
            raise  # what it belongs to is not committed here
        except ProducerSendError as error:
            if self._writes_alone(topic):
                self.fail(error)  # nobody else hears of it
            raise
        sent.add_done_callback(self._note_failure)
        return sent

    async def send_and_wait(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        partition: int | None,
        timestamp: float | None,
        headers: Any,
        *,
        transactional_id: str | None = None,
    ) -> RecordMetadata:
        """Send a record and return when it is stored."""
        del transactional_id
        return await (await self._send(topic, key, value, partition, timestamp, headers))

    def send_soon(self, fut: FutureMessage) -> None:
        """Send a record from where nothing can be awaited, as a table's changelog; `flush` awaits it."""
        self._buffered += 1
        fut.add_done_callback(self._note_sent)
        super().send_soon(fut)

    async def flush(self) -> None:
        """Return when everything is stored that was sent, or `failure` tells that something is not."""
        while self._buffered and self.failure is None and not self.should_stop:
            # The buffer's own flush gives up after 0.1 s without progress, as while a gateway is away.
            self._unbuffered.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STOP_POLL_S):
                    await self._unbuffered.wait()
        await asyncio.gather(*(producer.flush() for producer in list(self._producers.values())))
        await asyncio.sleep(0)  # the callbacks of what was answered last

    async def release(self, held: AbstractSet[TP]) -> None:
        """Close the producers of changelogs, but for those of the partitions that this worker has.

        What agents still send to the others fails with `Released`: a producer opened again for it would end
        that of the next worker.
        """
        gone = [tp for tp in self._producers if tp not in held and self._writes_alone(tp.topic)]
        self._released.update(gone)
        await asyncio.gather(*(self._producers.pop(tp).close() for tp in gone), return_exceptions=True)

    async def claim(self, assigned: AbstractSet[TP]) -> None:
        """Open the producers of those partitions that are of changelogs, before these are read.

        A worker that opened one only when it has something to write would end that of a later worker.

        Raises:
            ProducerSendError: one cannot be opened.
        """
        topics = self._found_topics()
        self._released -= assigned
        own = [tp for tp in assigned if tp not in self._producers and self._writes_alone(tp.topic)]
        await asyncio.gather(*(self._open(topics, tp) for tp in own))

    def key_partition(self, topic: str, key: bytes) -> TP:
        """Return the partition of a key."""
        return TP(topic, self.partition_of(key, self._found_topics().partitions(topic) or 1))

    def partition_of(self, key: bytes | None, partitions: int) -> int:
        """Return the partition of a key: by ``producer_partitioner``, or as all Danube clients choose it."""
        if self.partitioner is not None and key is not None:
            numbers = list(range(partitions))
            return int(self.partitioner(key, numbers, numbers))
        return self._router.partition(record.outgoing(key, b"").key, partitions)

    def supports_headers(self) -> bool:
        """Return True: headers are attributes."""
        return True

    async def _send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        partition: int | None,
        timestamp: float | None,
        headers: Any,
    ) -> asyncio.Future[RecordMetadata]:
        topics = self._found_topics()
        partitions = topics.partitions(topic)
        if partitions is None:
            partitions = await self._discover(topics, topic)
        number = self.partition_of(key, partitions) if partition is None else partition
        tp = TP(topic, number)
        producer = self._producers.get(tp) or await self._open(topics, tp)
        payload, attributes, routing_key = record.outgoing(key, value, headers, timestamp)
        try:
            stored = await producer.post(payload, attributes, key=routing_key)
        except ClientError as error:
            raise ProducerSendError(f"cannot send to {topic}: {error}") from error
        answer: asyncio.Future[RecordMetadata] = asyncio.get_running_loop().create_future()

        def answered(outcome: asyncio.Future[int]) -> None:
            if answer.done():
                return
            if outcome.cancelled() or (error := outcome.exception()) is not None:
                cause = None if outcome.cancelled() else error
                answer.set_exception(ProducerSendError(f"not stored in {topic}: {cause}"))
            else:
                answer.set_result(RecordMetadata(topic, number, tp, outcome.result(), timestamp, None))

        stored.add_done_callback(answered)
        return answer

    async def _discover(self, topics: Topics, topic: str) -> int:
        try:
            if not await topics.find(topic):
                if not self.app.conf.topic_allow_declare:
                    raise ProducerSendError(f"there is no topic {topic}, and topic_allow_declare is off")
                await topics.create(topic, self.app.conf.topic_partitions)
        except ClientError as error:
            raise ProducerSendError(f"cannot find topic {topic}: {error}") from error
        return topics.partitions(topic) or 1

    async def _open(self, topics: Topics, tp: TP) -> danube_client.Producer:
        async with self._opening.setdefault(tp, asyncio.Lock()):
            if tp in self._released:
                raise Released(f"{tp} is another worker's by now")
            if tp not in self._producers:
                try:
                    name = f"{self.app.conf.id}{CHANGELOG_WRITER}" if self._writes_alone(tp.topic) else None
                    self._producers[tp] = await self._opened(topics.name(tp), name)
                except (ClientError, ValueError) as error:
                    raise ProducerSendError(f"cannot send to {tp}: {error}") from error
            return self._producers[tp]

    def _writes_alone(self, topic: str) -> bool:
        """Return whether a topic is a changelog of which each partition has one writer."""
        tables: Any = self.app.tables  # its interface lacks the changelogs
        table = tables._changelogs.get(topic)  # noqa: SLF001
        return table is not None and not table.use_partitioner

    async def _opened(self, topic: str, name: str | None) -> danube_client.Producer:
        client = self._client
        if client is None:
            raise InvalidRequest("FAILED_PRECONDITION", "the producer is not started")
        producer: danube_client.Producer = await client.producer(
            topic,
            name=name,
            linger_ms=self.linger_ms,
            in_flight_max=self.app.conf.producer_max_batch_size,
        )
        return producer

    def _found_topics(self) -> Topics:
        if self._topics is None:
            raise ProducerSendError("the producer is not started")
        return self._topics

    def _note_sent(self, sent: asyncio.Future[RecordMetadata]) -> None:
        self._buffered -= 1
        self._unbuffered.set()
        if not sent.cancelled():
            sent.exception()  # noted by `send` already

    def _note_failure(self, sent: asyncio.Future[RecordMetadata]) -> None:
        error = None if sent.cancelled() else sent.exception()
        if error is not None:
            self.fail(error)
