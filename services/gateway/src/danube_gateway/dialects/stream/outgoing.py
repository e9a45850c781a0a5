"""What goes to one streaming consumer: answers in order, deliveries as far as the client's credit goes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Self

from danube_gateway.consume.session import Session
from danube_gateway.dialects.stream.deliveries import ClientCredit
from danube_proto import danube_stream_pb2 as api


@dataclass(slots=True)
class Answer:
    """One message to the client; of a delivery also its session, and what the session counts as taken."""

    data: bytes
    session: Session | None = None
    messages: int = 0
    size: int = 0

    @classmethod
    def of(cls, **fields: Any) -> Self:
        """Return an answer that is no delivery."""
        return cls(api.ConsumeResponse(**fields).SerializeToString())


class Outgoing:
    """The answers that wait for the call to send them, and what more may be delivered."""

    def __init__(self, credit: api.Credit) -> None:
        self._credit = ClientCredit(credit)
        self._paused = False
        self._answers: list[Answer] = []
        self._changed = asyncio.Event()
        self._may_deliver = asyncio.Event()
        self._regulate()

    def put(self, answer: Answer) -> None:
        """Send an answer after those that wait."""
        self._answers.append(answer)
        self._changed.set()

    def take(self) -> list[Answer]:
        """Return what waits; it is the caller's to send."""
        found, self._answers = self._answers, []
        return found

    def wake(self) -> None:
        """Let `changed` return."""
        self._changed.set()

    async def changed(self) -> None:
        """Wait until there is an answer, or `wake` was called."""
        await self._changed.wait()
        self._changed.clear()

    @property
    def room(self) -> tuple[int, int]:
        """Messages and bytes that may be delivered now."""
        credit = self._credit
        return (credit.messages, credit.bytes) if credit.is_open and not self._paused else (0, 0)

    @property
    def may_deliver(self) -> bool:
        """Whether there is room."""
        return self._may_deliver.is_set()

    async def room_comes(self) -> None:
        """Wait until there is room."""
        await self._may_deliver.wait()

    def grant(self, credit: api.Credit) -> None:
        """Raise the totals of what the client takes."""
        self._credit.grant(credit)
        self._regulate()

    def pause(self, *, paused: bool) -> None:
        """Deliver nothing until the client wants more; what it has credit for stays its own."""
        self._paused = paused
        self._regulate()

    def spend(self, messages: int, size: int) -> None:
        """Count what is delivered, ``size`` in bytes of bodies."""
        self._credit.spend(messages, size)
        self._regulate()

    def _regulate(self) -> None:
        if self.room[0]:
            self._may_deliver.set()
        else:
            self._may_deliver.clear()
