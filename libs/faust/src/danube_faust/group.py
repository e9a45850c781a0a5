"""The workers of an app: each sends heartbeats to a topic of theirs, and reads those of all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from mode import get_logger

import danube_client
from danube_client import CallError, Client, ClientError, Reliable, SendTimeout, Start
from danube_faust.members import Member, Members, Partitions

HEARTBEAT_S: Final = 0.75
SILENCE_MAX_S: Final = 3.0
"""A worker that is silent for so long has no partitions for the others."""
KEPT_S: Final = 60
"""How long the platform keeps a heartbeat."""
SETTLE_S: Final = 2 * HEARTBEAT_S
"""A new worker listens for so long before it takes partitions."""
FAREWELL_S: Final = 2.0

logger = get_logger(__name__)


class Group:
    """Tells who works for an app.

    Args:
        client: an open client.
        topic: where heartbeats go.
        notify: called when a heartbeat was heard, or never will be.

    Attributes:
        failed: why this worker may not hear the others; it must stop.
    """

    def __init__(self, client: Client, topic: str, notify: Callable[[], None]) -> None:
        self._client = client
        self._topic = topic
        self._notify = notify
        self.failed: CallError | None = None
        self._members: Members | None = None
        self._member: Member | None = None
        self._since_s = 0.0
        self._tasks: list[asyncio.Task[None]] = []
        self._producer: danube_client.Producer | None = None

    async def join(self, member: Member) -> None:
        """Say what this worker consumes, from now on; what it has is said as before.

        Raises:
            ClientError: the platform refused.
        """
        before = self._member or member
        self._member = replace(member, actives=before.actives, standbys=before.standbys)
        if self._tasks:
            return
        loop = asyncio.get_running_loop()
        self._members = Members(member.name, SILENCE_MAX_S)
        self._since_s = loop.time() + SETTLE_S
        self._producer = await self._client.producer(
            self._topic,
            strategy=Reliable(retention_period_s=KEPT_S),
            idempotent=False,
            send_timeout_s=SILENCE_MAX_S,
        )
        self._tasks = [
            asyncio.create_task(self._listen(self._members)),
            asyncio.create_task(self._beat(self._producer)),
        ]

    def has(self, actives: Partitions, standbys: Partitions) -> None:
        """Say what this worker has, from its next heartbeat on."""
        if self._member is not None:
            self._member = replace(self._member, actives=actives, standbys=standbys)

    def living(self) -> Mapping[str, Member] | None:
        """Return the workers in order of their names; None while that cannot be told."""
        now_s = asyncio.get_running_loop().time()
        if self._members is None or now_s < self._since_s:
            return None
        return self._members.living(now_s)

    async def leave(self) -> None:
        """Say that this worker stops, so that the others need not wait for its silence."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        producer, self._producer = self._producer, None
        if producer is None or self._member is None:
            return
        farewell = replace(self._member, leaving=True)
        try:
            async with asyncio.timeout(FAREWELL_S):
                await producer.send(farewell.to_json())
                await producer.close()
        except (TimeoutError, ClientError) as error:
            logger.info("the other workers were not told that this one stops: %r", error)
            await producer.abort()

    async def _beat(self, producer: danube_client.Producer) -> None:
        while True:
            if self._member is not None:
                try:
                    await producer.send(self._member.to_json())
                except SendTimeout as error:
                    logger.warning("no heartbeat: %s", error)
            await asyncio.sleep(HEARTBEAT_S)

    async def _listen(self, members: Members) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                async with self._client.reader(self._topic, start=Start.last(1), follow=True) as reader:
                    async for message in reader:
                        member = Member.from_json(message.payload)
                        if member is not None:
                            members.hear(member, loop.time())
                            self._notify()
            except ClientError as error:
                if isinstance(error, CallError) and error.code == "PERMISSION_DENIED":
                    self.failed = error
                    self._notify()
                    return
                logger.warning("listening to the other workers again: %r", error)
            await asyncio.sleep(HEARTBEAT_S)
