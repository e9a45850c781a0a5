"""Idempotent producers: their names are taken over, and their last stored sequence is asked for."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from typing import Final

import msgspec
import structlog

from danube_common.bus.port import Bus, Subscription
from danube_common.cluster.owner_client import OwnerClient
from danube_common.cluster.records import Topic
from danube_common.errors import UNDECODABLE, BusUnavailable, Unavailable
from danube_common.wire.frame import sequence_key
from danube_common.wire.owner.producers import FindSequence

SUBJECT: Final = "danube.producers"
"""Where gateways tell each other of idempotent producers that were opened."""
CONFIRMED_S: Final = 30.0
"""A stream sends frames so long after it was known to be the producer's only one; then it asks the owner.
With the time in which a frame is repeated that is half of the log's duplicate window."""

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class Overtaken(Exception):
    """Another stream of the producer has stored messages under its sequences.

    Mostly it is an earlier stream of the same client, whose gateway did not hear that it was taken over. The
    client learns what is stored when it opens the producer again.
    """


class Claim(msgspec.Struct, array_like=True, frozen=True):
    """A producer was opened: streams of it with another nonce end."""

    key: int
    nonce: str


class ProducerClaims:
    """The idempotent producers that have a stream here. A producer has one stream: the last one opened."""

    def __init__(self, bus: Bus, owners: OwnerClient) -> None:
        self._bus = bus
        self._owners = owners
        self._held: dict[int, tuple[str, Callable[[], None]]] = {}
        self._heard: Subscription | None = None
        self._opening = asyncio.Lock()

    async def take(self, key: int, on_lost: Callable[[], None]) -> str:
        """Take a producer over; its older streams end. Return what `release` wants. Raises Unavailable."""
        nonce = secrets.token_hex(8)
        try:
            async with self._opening:
                if self._heard is None:
                    self._heard = await self._bus.subscribe(SUBJECT, self._hear)
            self._end(key)
            self._held[key] = (nonce, on_lost)
            await self._bus.publish(SUBJECT, msgspec.msgpack.encode(Claim(key, nonce)))
        except BusUnavailable as error:
            self.release(key, nonce)
            raise Unavailable(f"the bus is not reachable: {error}") from error
        return nonce

    def release(self, key: int, nonce: str) -> None:
        """Note that a stream has ended."""
        if self._held.get(key, ("",))[0] == nonce:
            del self._held[key]

    async def last_sequence(self, topic: Topic, producer_name: str) -> int:
        """Ask the owner what the producer has stored so far. Raises NotFound, Unavailable."""
        found = await self._owners.ask(topic.home, FindSequence(topic.name, producer_name))
        return found.last

    def _hear(self, data: bytes) -> None:
        try:
            claim = msgspec.msgpack.decode(data, type=Claim)
        except UNDECODABLE as error:
            _log.warning("claim_dropped", error=str(error))
            return
        if self._held.get(claim.key, (claim.nonce,))[0] != claim.nonce:
            self._end(claim.key)

    def _end(self, key: int) -> None:
        held = self._held.pop(key, None)
        if held is not None:
            held[1]()


class Idempotence:
    """What a lane keeps of its idempotent producer.

    Attributes:
        key: what identifies its sequences.
        last: the sequence of its last stored message.
    """

    def __init__(self, claims: ProducerClaims, topic: Topic, name: str) -> None:
        self._claims = claims
        self._topic = topic
        self._name = name
        self._confirmed_at = 0.0
        self.key = sequence_key(topic.topic_id, name)
        self.last = 0

    async def open(self) -> None:
        """Learn what is stored. Raises NotFound, Unavailable."""
        began = time.monotonic()
        self.last = await self._claims.last_sequence(self._topic, self._name)
        self._confirmed_at = began

    async def confirm(self) -> None:
        """Make sure that nobody else has stored messages since. Raises Overtaken, NotFound, Unavailable."""
        if time.monotonic() - self._confirmed_at < CONFIRMED_S:
            return
        await self.check_last(self.last)

    async def check_last(self, last: int) -> None:
        """Make sure that ``last`` is the last stored sequence. Raises Overtaken, NotFound, Unavailable."""
        await self.open()
        if self.last != last:
            raise Overtaken(
                f"another stream has stored messages of producer {self._name!r}; opened again it tells which"
            )

    def stored(self, last: int, sent_at: float) -> None:
        """Note that messages up to ``last`` were stored, by a frame that was sent at ``sent_at``."""
        self.last = last
        self._confirmed_at = max(self._confirmed_at, sent_at)
