"""Where the messages of one partition come from: a subscription, or a reader for changelogs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

from mode import get_logger

import danube_client
from danube_client import Assigned, Client, ClientError, Event, Message, Start, SubscriptionType
from danube_faust.partition_log import PartitionLog

UNREAD_MAX: Final = 4000
"""Messages of a partition that wait for Faust; the platform keeps the others."""
UNCOMMITTED_MAX: Final = 10_000
"""Messages of a partition that Faust has and has not committed; the platform sends no more."""
BATCH: Final = 1000
COMMIT_TIMEOUT_S: Final = 20.0
RETRY_S: Final = 1.0

logger = get_logger(__name__)


class Source:
    """Fills the log of one partition.

    Attributes:
        log: what has arrived.
        failed: why nothing more comes, if something failed for good.
    """

    def __init__(self, client: Client, topic: str, notify: Callable[[], None]) -> None:
        self.log = PartitionLog()
        self.failed: ClientError | None = None
        self._client = client
        self._topic = topic
        self._notify = notify
        self._room = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def take(self, count: int) -> list[Message]:
        """Return at most so many messages that have arrived."""
        taken = self.log.take(count)
        self._room.set()
        return taken

    async def _wait_for_room(self) -> None:
        while self.log.unread >= UNREAD_MAX:
            self._room.clear()
            await self._room.wait()

    async def seek(self, offset: int) -> None:
        """Go on at an offset."""
        raise NotImplementedError

    async def close(self) -> None:
        """Stop."""
        await self._stop()

    async def _stop(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


class Subscribed(Source):
    """One partition of a failover subscription.

    Attributes:
        active: whether the platform says that this worker has the partition.
    """

    def __init__(
        self, client: Client, topic: str, notify: Callable[[], None], subscription: str, member: str
    ) -> None:
        super().__init__(client, topic, notify)
        self.active = False
        self._consumer = client.consumer(
            topic,
            subscription,
            name=member,
            type=SubscriptionType.FAILOVER,
            prefetch=UNCOMMITTED_MAX,
            on_event=self._on_event,
        )

    async def open(self) -> None:
        """Subscribe.

        Raises:
            ClientError: the platform refused.
        """
        await self._consumer
        self._task = asyncio.create_task(self._run(self._consumer))

    async def commit(self, offset: int) -> None:
        """Acknowledge everything before an offset."""
        last = self.log.commit(offset)
        if last is None:
            return
        await last.ack_cumulative()
        async with asyncio.timeout(COMMIT_TIMEOUT_S):
            await self._consumer.flush_acks()

    async def seek(self, offset: int) -> None:
        """Go on at an offset, and move the subscription's cursor there."""
        start = Start.at(offset) if offset else Start.earliest()
        await self._consumer.seek(start)
        self.log.clear()

    async def close(self) -> None:
        """Leave the subscription; the partition is another worker's to have."""
        await self._stop()
        try:
            async with asyncio.timeout(COMMIT_TIMEOUT_S):
                await self._consumer.close()
        except (TimeoutError, ClientError) as error:
            logger.warning("left %s without an answer to the last commit: %r", self._topic, error)
            await self._consumer.abort()

    async def _run(self, consumer: danube_client.Consumer) -> None:
        try:
            while True:
                await self._wait_for_room()
                messages = await consumer.receive_batch(BATCH)
                self.active = True
                self.log.extend(messages)
                self._notify()
        except ClientError as error:
            self.failed, self.active = error, False
            self._notify()

    def _on_event(self, event: Event) -> None:
        if isinstance(event, Assigned):
            if self.active and not event.active:
                self.log.clear()
            self.active = event.active
            self._notify()


class Followed(Source):
    """One partition of a changelog: read without a subscription, behind what the table has.

    It stops where the platform says that changes are missing: the table would lack them for ever.

    Args:
        client: an open client.
        topic: the partition.
        notify: called when something arrived.
        on_gap: called when it has stopped; `seek` begins anew.
    """

    def __init__(
        self, client: Client, topic: str, notify: Callable[[], None], on_gap: Callable[[], None]
    ) -> None:
        super().__init__(client, topic, notify)
        self._on_gap = on_gap
        self._gap = False

    async def seek(self, offset: int) -> None:
        """Go on behind an offset, that of the last change that the table has; 0 begins at the oldest one."""
        await self._stop()
        self.log.clear()
        self.log.end = offset + 1 if offset else 0
        self._gap = False

    def take(self, count: int) -> list[Message]:
        """Return at most so many messages that have arrived; nothing commits them, so they are forgotten."""
        taken = super().take(count)
        self.log.commit(self.log.end)
        return taken

    def resume(self) -> None:
        """Read, if it does not already."""
        if self._task is None and not self._gap:
            self._task = asyncio.create_task(self._run())

    def pause(self) -> None:
        """Stop reading; `resume` goes on behind what was received."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()

    async def _run(self) -> None:
        while True:
            start = Start.at(self.log.end) if self.log.end > 0 else Start.earliest()
            try:
                async with self._client.reader(self._topic, start=start, follow=True) as reader:
                    async for message in reader:
                        if reader.missing:
                            self._gap = True
                            self._on_gap()
                            return
                        self.log.extend([message])
                        self._notify()
                        await self._wait_for_room()
            except ClientError as error:
                logger.warning("reading %s again: %r", self._topic, error)
            with contextlib.suppress(TimeoutError):
                await asyncio.sleep(RETRY_S)
