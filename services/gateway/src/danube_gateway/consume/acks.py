"""Forwards acknowledgements to topic-owners in batches."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import NamedTuple

from danube_common.cluster.owner_client import OwnerClient
from danube_common.errors import DanubeError, LimitExceeded, NotFound
from danube_common.model.bundle import Bundle
from danube_common.runtime.service import Spawn
from danube_common.wire.owner import ACKS_PER_BATCH_MAX, Acked, Acks, TopicAcks

PENDING_ACKS_MAX = 100_000
"""Acknowledgements that may wait for the owner, per bundle; more are refused."""

_Waiting = tuple["Delivered", int, "asyncio.Future[None]"]


class Delivered(NamedTuple):
    """What a message was delivered for: a subscription of a topic, in one of its generations."""

    topic: str
    subscription: str
    generation: int


class AckBatcher:
    """Keeps one batch in flight per bundle. An acknowledgement is answered when its owner has taken it."""

    def __init__(self, bundle: Bundle, owners: OwnerClient) -> None:
        self._bundle = bundle
        self._owners = owners
        self._queue: deque[_Waiting] = deque()
        self._wake = asyncio.Event()

    async def acknowledge(self, delivered: Delivered, position: int) -> None:
        """Acknowledge a position. Raises NotFound (no such subscription), LimitExceeded, Unavailable."""
        if len(self._queue) >= PENDING_ACKS_MAX:
            raise LimitExceeded("pending_acks", f"{PENDING_ACKS_MAX} acknowledgements wait already")
        done = asyncio.get_running_loop().create_future()
        self._queue.append((delivered, position, done))
        self._wake.set()
        await done

    async def run(self) -> None:
        """Send batches until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._queue:
                count = min(len(self._queue), ACKS_PER_BATCH_MAX)
                await self._send([self._queue.popleft() for _ in range(count)])

    async def _send(self, batch: list[_Waiting]) -> None:
        positions: dict[Delivered, list[int]] = {}
        for delivered, position, _ in batch:
            positions.setdefault(delivered, []).append(position)
        request = Acks(
            [
                TopicAcks(each.topic, each.subscription, acked, each.generation)
                for each, acked in positions.items()
            ]
        )
        error: DanubeError | None = None
        unknown: set[tuple[str, str]] = set()
        try:
            answer = await self._owners.ask(self._bundle, request, Acked)
            unknown = set(answer.unknown)
        except DanubeError as failure:
            error = failure
        for (topic, subscription, _), _, done in batch:
            if done.done():
                continue
            if error is not None:
                done.set_exception(error)
            elif (topic, subscription) in unknown:
                done.set_exception(NotFound(f"topic {topic} has no subscription {subscription!r}"))
            else:
                done.set_result(None)


class Acknowledgements:
    """The acknowledgements of all bundles; each bundle has an `AckBatcher`, made when it is first needed."""

    def __init__(self, owners: OwnerClient, spawn: Spawn) -> None:
        self._owners = owners
        self._spawn = spawn
        self._batchers: dict[Bundle, AckBatcher] = {}

    async def acknowledge(self, bundle: Bundle, delivered: Delivered, position: int) -> None:
        """Acknowledge a position. Raises as `AckBatcher.acknowledge` does."""
        batcher = self._batchers.get(bundle)
        if batcher is None:
            batcher = self._batchers[bundle] = AckBatcher(bundle, self._owners)
            self._spawn(batcher.run(), f"acks {bundle}")
        await batcher.acknowledge(delivered, position)
