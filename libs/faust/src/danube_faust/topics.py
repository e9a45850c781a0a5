"""The Danube topics of an app: their partitions, and where the messages of these begin and end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from faust.types import TP

from danube_client import Client, Message, Reliable, Start, TopicNotFound
from danube_faust.names import Names


class Topics:
    """Asks the platform about the topics of one app.

    Args:
        client: an open client.
        names: of Danube topics.
    """

    def __init__(self, client: Client, names: Names) -> None:
        self._client = client
        self._names = names
        self._parts = names.parts

    def partitions(self, topic: str) -> int | None:
        """Return how many partitions a topic has, as far as this worker has asked."""
        parts = self._parts.get(topic)
        return None if parts is None else len(parts)

    def name(self, tp: TP) -> str:
        """Return the Danube topic of a partition whose topic was found or created.

        Raises:
            ValueError: the topic has no such partition.
        """
        parts = self._parts[tp.topic]
        if not 0 <= tp.partition < len(parts):
            raise ValueError(
                f"topic {tp.topic!r} has {len(parts)} partitions, and none of number {tp.partition}"
            )
        return parts[tp.partition]

    async def find(self, topic: str) -> bool:
        """Return whether a topic exists.

        Raises:
            ClientError: the platform did not answer.
        """
        if topic not in self._parts:
            try:
                self._parts[topic] = await self._client.partitions(self._names.topic(topic))
            except TopicNotFound:
                return False
        return True

    async def create(self, topic: str, partitions: int, *, retention_s: float | None = None) -> None:
        """Create a topic with so many partitions; one that exists stays as it is.

        Args:
            topic: its name in Faust.
            partitions: how many.
            retention_s: the age at which messages are deleted, read or not. None keeps them until every
                subscription has acknowledged them: for ever while there is none, as of a changelog.

        Raises:
            ClientError: the platform refused.
        """
        if await self.find(topic):
            return
        strategy = Reliable(retention_period_s=None if retention_s is None else max(1, round(retention_s)))
        producer = self._client.producer(
            self._names.topic(topic), partitions=partitions, strategy=strategy, idempotent=False
        )
        async with producer:
            self._parts[topic] = producer.topics

    async def oldest(self, tps: Iterable[TP]) -> dict[TP, Message | None]:
        """Return the oldest message of each partition; None if it has none."""
        return await self._messages(tps, Start.earliest())

    async def ends(self, tps: Iterable[TP]) -> dict[TP, int]:
        """Return what follows the newest message of each partition; 0 if it has none."""
        found = await self._messages(tps, Start.last(1))
        return {tp: 0 if message is None else message.position + 1 for tp, message in found.items()}

    async def _messages(self, tps: Iterable[TP], start: Start) -> dict[TP, Message | None]:
        wanted = list(tps)
        found = await asyncio.gather(*(self._message(tp, start) for tp in wanted))
        return dict(zip(wanted, found, strict=True))

    async def _message(self, tp: TP, start: Start) -> Message | None:
        await self.find(tp.topic)
        message: Message | None = None
        async with self._client.reader(self.name(tp), start=start, max_messages=1) as reader:
            async for message in reader:  # noqa: B007 - the last one counts
                pass
        return message
