"""The log over JetStream: one stream per bundle."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import structlog
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from danube_common.errors import BusUnavailable, LogUnavailable, NoResponders, NotFound
from danube_common.log.port import Appended, LogBounds, LogEntry
from danube_common.model.bundle import Bundle, Family
from danube_common.nats.connection import TRACES_HEADER, Connection
from danube_common.nats.jetstream import MESSAGE_ID_HEADER, JetStreamRefused, RetryDeadline, stored_ms_of
from danube_common.nats.stream import PATIENCE_S, SEQUENCE_HEADER, Stream

DUPLICATE_WINDOW_S = 120
# One attempt's share of the caller's deadline: an acknowledgement can be lost without the connection.
APPEND_ATTEMPT_S_MAX = 5.0

_MEMORY_EPOCH_S = 1735689600  # 2025-01-01T00:00:00Z

log = structlog.get_logger(__name__)


class JetStreamLog:
    """A `BundleLog` whose acknowledgement is JetStream's.

    A log of the file family keeps what it acknowledged across any crash of NATS, given the rendered
    server configuration (``sync_interval: always``).

    A log of the memory family is gone when NATS restarts, with all its entries, its duplicate window
    and its place in the numbering. It is made again on the first use, empty, and begins at a sequence
    drawn from the clock, so that sequences do not go back and cursors kept elsewhere stay below new
    entries. (They could only after a life of more than 100 appends a second on average, in processes
    that have all been restarted too.)
    """

    def __init__(
        self,
        connection: Connection,
        *,
        file_bytes_max: int,
        memory_bytes_max: int,
        replicas: int = 1,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Use ``connection``, which stays the caller's.

        Args:
            connection: shared with the bus.
            file_bytes_max: bound on each log of the file family; beyond it appends raise LogFull.
                JetStream reserves it at `open`: all bundles' together must fit the server's store.
            memory_bytes_max: the same for the memory family.
            replicas: how many servers of a cluster keep each log.
            clock: seconds since 1970.
        """
        self._connection = connection
        self._bytes_max = {Family.FILE: file_bytes_max, Family.MEMORY: memory_bytes_max}
        self._replicas = replicas
        self._clock = clock
        self._opened: set[Bundle] = set()
        self._streams: dict[Bundle, Stream] = {}
        self._highest: dict[Bundle, int] = {}

    async def open(self, bundle: Bundle) -> None:
        """See the port. After the first call it costs nothing."""
        if bundle not in self._opened:
            await self._make(bundle)

    async def append(
        self, bundle: Bundle, frame: bytes, *, frame_id: str, timeout_s: float, traces: str = ""
    ) -> Appended:
        """See the port. Also raises LimitExceeded for a frame above the server's ``max_payload``."""
        stream = self._stream(bundle)
        subject = _subject(bundle)
        headers = {MESSAGE_ID_HEADER: frame_id}
        if traces:
            headers[TRACES_HEADER] = traces
        patience = RetryDeadline(timeout_s)
        while True:
            try:
                sequence, duplicate = await stream.publish(
                    subject, frame, headers, timeout_s=min(patience.left_s, APPEND_ATTEMPT_S_MAX)
                )
                break
            except JetStreamRefused as refusal:
                if not refusal.passing:
                    raise refusal.as_unavailable() from refusal
                reason: Exception = refusal
            except NoResponders as error:
                reason = error
                await self._revive(bundle, patience.left_s)
            except BusUnavailable as error:
                reason = error
            if not await patience.wait():
                raise LogUnavailable(f"bundle {bundle}: {reason}") from reason
        self._highest[bundle] = max(sequence, self._highest.get(bundle, 0))
        return Appended(sequence, duplicate)

    async def bounds(self, bundle: Bundle) -> LogBounds:
        """See the port."""
        stream = self._stream(bundle)
        try:
            extent = await stream.extent()
        except NotFound:
            if not await self._revive(bundle):
                raise
            extent = await stream.extent()
        return LogBounds(
            extent.first_sequence, extent.last_sequence, extent.stored_bytes, extent.first_stored_ms
        )

    async def read(
        self, bundle: Bundle, from_sequence: int, *, frames_max: int, bytes_max: int
    ) -> list[LogEntry]:
        """See the port; at most `danube_common.nats.stream.READ_BYTES_MAX` bytes at a time."""
        read = partial(
            self._stream(bundle).read,
            _subject(bundle),
            from_sequence,
            messages_max=frames_max,
            bytes_max=bytes_max,
        )
        try:
            batch = await read(patience_s=0 if bundle.family is Family.MEMORY else PATIENCE_S)
        except LogUnavailable:
            if not await self._revive(bundle):
                raise
            batch = await read()
        patience = RetryDeadline(PATIENCE_S)
        while not batch.messages and self._replicas > 1:
            # The end of the log, or of what a replica behind the leader has of it: the leader knows.
            bounds = await self.bounds(bundle)
            if max(from_sequence, bounds.first_sequence) > bounds.last_sequence:
                break
            if not await patience.wait():
                raise LogUnavailable(f"bundle {bundle}: what begins at {from_sequence} cannot be read")
            batch = await read()
        return [
            LogEntry(
                message.sequence, message.data, message.stored_ms, message.headers.get(TRACES_HEADER, "")
            )
            for message in batch.messages
        ]

    async def follow(self, bundle: Bundle, on_entry: Callable[[LogEntry], None]) -> _Feed:
        """See the port."""

        def deliver(message: Msg) -> None:
            headers = message.headers or {}
            sequence = headers.get(SEQUENCE_HEADER)
            if sequence is None:
                log.warning("log_feed_foreign_message", subject=message.subject)
                return
            on_entry(
                LogEntry(int(sequence), message.data, stored_ms_of(headers), headers.get(TRACES_HEADER, ""))
            )

        try:
            return _Feed(self._connection, await self._connection.listen(_live_subject(bundle), deliver))
        except BusUnavailable as error:
            raise LogUnavailable(str(error)) from error

    async def purge(self, bundle: Bundle, through_sequence: int) -> None:
        """See the port."""
        stream = self._stream(bundle)
        bounds = await self.bounds(bundle)
        # Purging past the end would move the numbering forward.
        through_sequence = min(through_sequence, bounds.last_sequence)
        if through_sequence < bounds.first_sequence:
            return
        await stream.purge(below=through_sequence + 1)

    def _stream(self, bundle: Bundle) -> Stream:
        stream = self._streams.get(bundle)
        if stream is None:
            stream = self._streams[bundle] = Stream(self._connection, stream_name(bundle))
        return stream

    async def _make(self, bundle: Bundle) -> None:
        await self._stream(bundle).ensure(self._config(bundle))
        self._opened.add(bundle)

    async def _revive(self, bundle: Bundle, patience_s: float = PATIENCE_S) -> bool:
        """Make a memory log again that a restart of NATS has taken; False if that is not the case.

        A log of the file family that is gone is a loss which must not pass for an empty log.
        """
        if bundle.family is not Family.MEMORY or bundle not in self._opened:
            return False
        try:
            async with asyncio.timeout(patience_s):
                await self._make(bundle)
        except (LogUnavailable, TimeoutError):
            return False
        return True

    def _config(self, bundle: Bundle) -> dict[str, Any]:
        config: dict[str, Any] = {
            "subjects": [_subject(bundle)],
            "storage": "file" if bundle.family is Family.FILE else "memory",
            "retention": "limits",
            "discard": "new",
            "max_bytes": self._bytes_max[bundle.family],
            "num_replicas": self._replicas,
            "duplicate_window": DUPLICATE_WINDOW_S * 1_000_000_000,
            "allow_direct": True,
            "republish": {"src": _subject(bundle), "dest": _live_subject(bundle)},
        }
        if bundle.family is Family.MEMORY:
            hundredths = int((self._clock() - _MEMORY_EPOCH_S) * 100)
            config["first_seq"] = max(hundredths, self._highest.get(bundle, 0) + 1, 1)
        return config


class _Feed:
    def __init__(self, connection: Connection, subscription: Subscription) -> None:
        self._connection = connection
        self._subscription = subscription

    async def close(self) -> None:
        await self._connection.forget(self._subscription)


def stream_name(bundle: Bundle) -> str:
    """Return the name of the stream that is a bundle's log."""
    return f"DANUBE_LOG_{bundle}"


def _subject(bundle: Bundle) -> str:
    return f"danube.log.{bundle}"


def _live_subject(bundle: Bundle) -> str:
    return f"danube.live.{bundle}"
