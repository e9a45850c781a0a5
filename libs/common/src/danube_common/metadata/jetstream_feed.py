"""Reads the messages of one stream filter in order, each once, and tells when it cannot any more.

nats-py's own ordered consumer is not used: after a restart of the server it neither notices that its
consumer is gone nor that messages are missing when no further message arrives.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Self

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from danube_common.errors import MetadataUnavailable
from danube_common.nats.jetstream import Answer, JetStream

HEARTBEAT_S: Final = 1.0
SILENCE_S_MAX: Final = 2.5
CHECK_INTERVAL_S: Final = 0.25
UNREAD_MESSAGES_MAX: Final = 64 * 1024
UNREAD_BYTES_MAX: Final = 64 << 20
UNUSED_CONSUMER_S_MAX: Final = 30.0
CREATE_PATIENCE_S: Final = 5.0

_NANOSECONDS: Final = 10**9
_STATUS_HEADER: Final = "Status"
_LAST_CONSUMER_SEQUENCE_HEADER: Final = "Nats-Last-Consumer"


class FeedLost(Exception):
    """Messages may be missing: open another feed after the last sequence seen."""


@dataclass(frozen=True, slots=True)
class Fed:
    """A message of the stream, or a heartbeat without one.

    Attributes:
        message: None for a heartbeat.
        sequence: the message's, 0 for a heartbeat.
        caught_up_at: when, on the monotonic clock, the feed was known to hold everything the stream
            held; None when more is on its way.
    """

    message: Msg | None
    sequence: int
    caught_up_at: float | None


class Feed:
    """An ephemeral push consumer without acknowledgements."""

    def __init__(self, connection: Client) -> None:
        self._connection = connection
        self._reconnects = connection.stats["reconnects"]
        self._unread: deque[tuple[float, Msg]] = deque()
        self._unread_bytes = 0
        self._arrived = asyncio.Event()
        self._last_arrival_at = time.monotonic()
        self._consumer_sequence = 0
        self._lost: str | None = None
        self._subscription: Subscription | None = None

    @classmethod
    async def open(cls, jetstream: JetStream, stream: str, subject: str, *, after_sequence: int) -> Self:
        """Read ``subject`` (wildcards allowed) from ``after_sequence`` + 1 on. Raises MetadataUnavailable."""
        connection = jetstream.connection
        feed = cls(connection)
        inbox = connection.new_inbox()
        # Named, so that asking twice makes one consumer; not durable.
        name = uuid.uuid4().hex
        try:
            feed._subscription = await connection.subscribe(inbox, cb=feed._take)
        except nats.errors.Error as error:
            raise MetadataUnavailable(f"no subscription for {subject}: {error}") from error
        try:
            question = {
                "stream_name": stream,
                "config": {
                    "name": name,
                    "deliver_policy": "by_start_sequence",
                    "opt_start_seq": after_sequence + 1,
                    "ack_policy": "none",
                    "max_deliver": 1,
                    "deliver_subject": inbox,
                    "filter_subject": subject,
                    "idle_heartbeat": int(HEARTBEAT_S * _NANOSECONDS),
                    "inactive_threshold": int(UNUSED_CONSUMER_S_MAX * _NANOSECONDS),
                    "mem_storage": True,
                    "num_replicas": 1,
                },
            }
            await jetstream.ask(
                f"CONSUMER.CREATE.{stream}.{name}", question, Answer, patience_s=CREATE_PATIENCE_S
            )
        except BaseException:
            await feed.close()
            raise
        return feed

    async def next(self) -> Fed:
        """Return the next message or heartbeat. Raises FeedLost, from then on always."""
        while not self._unread:
            self._check()
            self._arrived.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(CHECK_INTERVAL_S):
                    await self._arrived.wait()
        arrived_at, message = self._unread.popleft()
        self._unread_bytes -= len(message.data)
        return self._read(arrived_at, message)

    def lose(self, reason: str) -> None:
        """Make `next` raise after the messages that have arrived."""
        self._lost = self._lost or reason
        self._arrived.set()

    async def close(self) -> None:
        """Unsubscribe; the server then drops the consumer. Idempotent."""
        self.lose("closed")
        self._unread.clear()
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            with suppress(nats.errors.Error, OSError):  # it may have gone with the connection
                await subscription.unsubscribe()

    async def _take(self, message: Msg) -> None:
        self._last_arrival_at = time.monotonic()
        if len(self._unread) < UNREAD_MESSAGES_MAX and self._unread_bytes < UNREAD_BYTES_MAX:
            self._unread.append((self._last_arrival_at, message))
            self._unread_bytes += len(message.data)
        else:
            self.lose("the reader is too slow")
        self._arrived.set()

    def _check(self) -> None:
        if self._lost is None:
            if self._connection.stats["reconnects"] != self._reconnects:
                # What was sent while the connection was down is gone, and maybe the consumer too.
                self.lose("the connection was interrupted")
            elif time.monotonic() - self._last_arrival_at > SILENCE_S_MAX:
                self.lose("heartbeats are missing")
        if self._lost is not None:
            raise FeedLost(self._lost)

    def _read(self, arrived_at: float, message: Msg) -> Fed:
        headers = message.headers or {}
        if _STATUS_HEADER in headers:
            last = headers.get(_LAST_CONSUMER_SEQUENCE_HEADER)
            if last is not None and int(last) != self._consumer_sequence:
                raise self._gap(int(last))
            return Fed(None, 0, None if last is None else arrived_at)
        metadata = message.metadata
        if metadata.sequence.consumer != self._consumer_sequence + 1:
            raise self._gap(metadata.sequence.consumer)
        self._consumer_sequence += 1
        return Fed(message, metadata.sequence.stream, None if metadata.num_pending else arrived_at)

    def _gap(self, sequence: int) -> FeedLost:
        self._unread.clear()
        self.lose(f"message {sequence} of the consumer came after {self._consumer_sequence}")
        return FeedLost(self._lost)
