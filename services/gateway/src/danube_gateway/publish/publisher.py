"""Sends a bundle's messages as frames: to the log, or straight to the topic-owner."""

from __future__ import annotations

import asyncio
import itertools
import secrets
from abc import ABC, abstractmethod
from typing import Protocol

import structlog

from danube_common.bus.port import Bus
from danube_common.errors import BusUnavailable, DanubeError, LimitExceeded, Unavailable
from danube_common.log.port import BundleLog
from danube_common.model.bundle import Bundle
from danube_common.tracing.marks import encode_marks
from danube_common.wire.frame import encode_frame, make_frame_id
from danube_common.wire.owner.protocol import non_reliable_subject
from danube_gateway.publish.batch import Batch
from danube_gateway.publish.traces import PublishTraces

PENDING_BYTES_MAX = 64 * 1024 * 1024
"""Bytes that may wait for their frame, per bundle; more are refused."""
APPEND_TIMEOUT_S = 30.0
"""A frame is retried this long. It is below the log's duplicate window, so a retried frame is stored once."""

_log = structlog.get_logger(__name__)


class Waiting(Protocol):
    """Who waits for a message: a future, or what is told without a turn of the event loop."""

    def done(self) -> bool:
        """Return whether nobody waits any more."""

    def set_result(self, stored: bool, /) -> None:
        """Tell that the message is stored."""

    def set_exception(self, error: DanubeError, /) -> None:
        """Tell why it is not, or may not be."""


class FrameNumbers:
    """Frame identities of this process: a random number for the process, a counter for the frame."""

    def __init__(self) -> None:
        self.gateway = secrets.randbits(63)
        self._numbers = itertools.count(1)

    def next(self) -> int:
        """Return the identity of the next frame."""
        return next(self._numbers)


class Publisher(ABC):
    """Keeps one frame in flight per bundle.

    Messages that arrive meanwhile form the next frame; nothing waits for a timer.
    """

    def __init__(self, bundle: Bundle, numbers: FrameNumbers) -> None:
        self.bundle = bundle
        self._numbers = numbers
        self._batch: Batch[Waiting] = Batch()
        self._wake = asyncio.Event()
        self._sending = False

    def has_room(self, message: bytes) -> bool:
        """Return whether `enqueue` takes the message."""
        return self._batch.bytes + len(message) <= PENDING_BYTES_MAX

    def enqueue(self, topic_id: int, message: bytes, stored: Waiting) -> None:
        """Queue a message; ``stored`` is True when it is stored, or sent if it is non-reliable.

        ``stored`` holds Unavailable if that did not happen in time: the message may or may not be stored.
        Raises LimitExceeded if too many bytes wait already.
        """
        if not self.has_room(message):
            raise LimitExceeded(
                "publish_pending_bytes", f"{self._batch.bytes} bytes wait to be published already"
            )
        self._batch.add(topic_id, message, stored)
        self._wake.set()

    def enqueue_at_once(self, topic_id: int, message: bytes) -> bool:  # noqa: ARG002 - not here
        """Queue a message that nobody waits for; return False if `enqueue` is to do it."""
        return False

    async def run(self) -> None:
        """Send frames until cancelled."""
        call_soon = asyncio.get_running_loop().call_soon
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._batch:
                sections, waiting = self._batch.take()
                error: DanubeError | None = None
                try:
                    number = self._numbers.next()
                    self._sending = True
                    await self._send(number, encode_frame(self._numbers.gateway, number, sections))
                except DanubeError as failure:
                    _log.warning("frame_failed", bundle=str(self.bundle), error=str(failure))
                    error = failure
                finally:
                    self._sending = False
                if waiting:
                    call_soon(_settle, waiting, error)  # all in one step, while the next frame is on its way

    @abstractmethod
    async def _send(self, number: int, frame: bytes) -> None:
        """Send one frame; raises DanubeError."""


def _settle(waiting: list[Waiting], error: DanubeError | None) -> None:
    for done in waiting:
        if done.done():
            continue
        if error is None:
            done.set_result(True)
        else:
            done.set_exception(error)


class LogPublisher(Publisher):
    """Appends the frames of reliable topics to the log. The log's acknowledgement answers their messages."""

    def __init__(
        self, bundle: Bundle, numbers: FrameNumbers, log: BundleLog, traces: PublishTraces | None = None
    ) -> None:
        super().__init__(bundle, numbers)
        self._log = log
        self._traces = traces or PublishTraces()

    async def _send(self, number: int, frame: bytes) -> None:
        await self._log.open(self.bundle)
        frame_id = make_frame_id(self._numbers.gateway, number)
        marks = self._traces.find(frame)
        appending = self._log.append(
            self.bundle,
            frame,
            frame_id=frame_id,
            timeout_s=APPEND_TIMEOUT_S,
            traces=encode_marks(marks) if marks else "",
        )
        await (self._traces.appended(appending, self.bundle, frame, marks) if marks else appending)


class NonReliablePublisher(Publisher):
    """Sends the frames of non-reliable topics to the bundle's owner over the bus, at most once."""

    def __init__(self, bundle: Bundle, numbers: FrameNumbers, bus: Bus) -> None:
        super().__init__(bundle, numbers)
        self._bus = bus

    def enqueue(self, topic_id: int, message: bytes, stored: Waiting) -> None:
        """Queue a message; it counts as sent at once if the next frame leaves in the next turn of the loop.

        Nobody confirms it in either case. While the bus takes no bytes the caller waits, and while it is away
        ``stored`` gets the error.
        """
        super().enqueue(topic_id, message, stored)
        if not self._sending and self._bus.connected:
            stored.set_result(True)

    def enqueue_at_once(self, topic_id: int, message: bytes) -> bool:
        """Queue a message that counts as sent, as `enqueue` says; return False if it does not."""
        batch = self._batch
        if self._sending or not self.has_room(message) or not self._bus.connected:
            return False
        batch.add(topic_id, message)
        self._wake.set()
        return True

    async def _send(self, number: int, frame: bytes) -> None:  # noqa: ARG002 - the bus keeps no ids
        subject = non_reliable_subject(self.bundle)
        if self._bus.publish_at_once(subject, frame):
            return
        try:
            await self._bus.publish(subject, frame)
        except BusUnavailable as error:
            raise Unavailable(f"the bus is not reachable: {error}") from error
