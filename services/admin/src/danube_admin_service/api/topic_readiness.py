"""Waits until a topic's owner knows of the topic's creation or deletion."""

from __future__ import annotations

import asyncio
import time
from typing import Final

import structlog

from danube_common.cluster.owner_client import OwnerClient
from danube_common.cluster.records import Topic
from danube_common.errors import DanubeError, NotFound, Unavailable
from danube_common.model.bundle import Bundle
from danube_common.model.names import TopicName
from danube_common.wire.owner.topics import FindTopic

ANSWER_TIMEOUT_S: Final = 5.0
"""How long a call waits for a bundle's owner: long enough for most changes of owners."""
USABLE_TIMEOUT_S: Final = 5.0
GONE_TIMEOUT_S: Final = 2.0
ASK_PAUSE_S: Final = 0.02
ASK_PAUSE_S_MAX: Final = 0.25

_log: structlog.stdlib.BoundLogger = structlog.get_logger("danube.admin")


class TopicReadiness:
    """Asks the owner of a topic until the owner knows of a change."""

    def __init__(self, owners: OwnerClient) -> None:
        self._owners = owners

    async def owner_answers(self, bundle: Bundle, name: TopicName) -> None:
        """Check that the owner of a topic to be created answers. Raises Unavailable."""
        await self._known(bundle, str(name), ANSWER_TIMEOUT_S)

    async def usable(self, topic: Topic) -> None:
        """Wait until the owner knows the topic. Raises Unavailable."""
        try:
            if await self._settled(topic, known=True, timeout_s=USABLE_TIMEOUT_S):
                return
            reason = "the owner does not know it yet"
        except Unavailable as error:
            reason = str(error)
        raise Unavailable(f"topic {topic.name} is created, but not served yet: {reason}")

    async def gone(self, topic: Topic) -> None:
        """Wait until the owner has dropped a deleted topic, at most `GONE_TIMEOUT_S`."""
        try:
            settled = await self._settled(topic, known=False, timeout_s=GONE_TIMEOUT_S)
        except DanubeError as error:
            _log.info("topic_deleted_unseen", topic=topic.name, reason=str(error))
        else:
            if not settled:
                _log.info("topic_deleted_unseen", topic=topic.name, reason="the owner still knows it")

    async def _settled(self, topic: Topic, *, known: bool, timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        pause_s = ASK_PAUSE_S
        while (remaining_s := deadline - time.monotonic()) > 0:
            if await self._known(topic.home, topic.name, remaining_s) is known:
                return True
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, ASK_PAUSE_S_MAX)
        return False

    async def _known(self, bundle: Bundle, name: str, timeout_s: float) -> bool:
        try:
            await self._owners.ask(bundle, FindTopic(name), timeout_s=timeout_s)
        except NotFound:
            return False
        return True
