"""The port of the bus. Implementations: `nats`, and one in memory for tests."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

MessageHandler = Callable[[bytes], None]
RequestHandler = Callable[[bytes], Awaitable[bytes]]


class Subscription(Protocol):
    """An interest in a subject, until it is closed."""

    async def close(self) -> None:
        """Stop receiving. Messages already handed over may still be processed. Idempotent."""


class Bus(Protocol):
    """Carries opaque bytes between services, at most once, in order per sender and subject."""

    @property
    def connected(self) -> bool:
        """Whether the transport is up now; readiness depends on it."""

    def on_reconnect(self, callback: Callable[[], None]) -> None:
        """Call back each time the transport returns after a loss. Messages in between are lost."""

    async def publish(self, subject: str, payload: bytes, traces: str = "") -> None:
        """Send without an answer, with ``traces`` beside it. Raises BusUnavailable when it cannot leave."""

    def publish_at_once(self, subject: str, payload: bytes, traces: str = "") -> bool:
        """Send as `publish` does if that takes no wait; else do nothing and return False."""

    async def request(self, subject: str, payload: bytes, *, timeout_s: float) -> bytes:
        """Send a request and wait for one answer.

        Raises:
            NoResponders: nobody serves the subject; known at once.
            RequestTimeout: no answer within ``timeout_s``.
            BusUnavailable: the transport is down.
        """

    async def subscribe(
        self, subject: str, handler: MessageHandler, on_traces: Callable[[str], None] | None = None
    ) -> Subscription:
        """Call ``handler`` for each message, one at a time, in order; ``on_traces`` before, if it has traces.

        Neither must raise or block.
        """

    async def serve(
        self, subject: str, handler: RequestHandler, *, concurrent_max: int = 1024
    ) -> Subscription:
        """Answer requests on ``subject``; at most ``concurrent_max`` run at a time, further ones wait.

        A handler that raises sends no answer: the caller meets its deadline. Handlers therefore
        encode expected errors in their answer.
        """

    async def close(self) -> None:
        """Flush what was published, then close. Idempotent."""
